# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's lock on a file."""

from __future__ import annotations

import fcntl
import time

#: Seconds between two tries to take a lock.
_PAUSE = 0.1


def lock(descriptor: int, patience: float | None = None) -> bool:
    """Take the kernel's lock on an open file; it ends with the descriptor (flock(2)).

    :param patience: seconds to wait for another process; None: as long as it takes.
    :returns: whether it was taken.
    """
    if patience is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
