# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel tells of processes: when one started, and what it has started."""

from __future__ import annotations

import contextlib
from pathlib import Path


def started(pid: int) -> str:
    """Return what tells a process from a later one of the same number: when it started. Empty where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended; that nobody asked for its exit status does not bring it back.
    return "" if fields[0] in "ZX" else fields[19]


def children(pid: int) -> frozenset[int]:
    """Return the processes whose parent is the given one; empty where it is gone."""
    listed = []
    # A child is listed with the thread that started it.
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            listed += path.read_text().split()
    return frozenset(int(child) for child in listed)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found
