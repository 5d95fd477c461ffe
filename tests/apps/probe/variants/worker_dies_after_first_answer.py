"""Each worker answers once and dies; the server lives on and starts new ones."""

from __future__ import annotations

import os


def answered() -> None:
    """End this process, and no other."""
    os._exit(70)
