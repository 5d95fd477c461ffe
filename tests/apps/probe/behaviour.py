"""How the probe misbehaves: not at all. The files in variants/ are put in this one's place.

A variant may define ``starting()`` (called by the factory), ``health()`` (returns the body and the status of the health
answer), ``answered()`` (called after the health answer was sent) and ``WITHOUT_CALLABLE``, or break as it is imported.
"""
