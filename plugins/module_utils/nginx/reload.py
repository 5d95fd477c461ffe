# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Having the running nginx take a new configuration, and knowing that it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path


def workers_of(master: int, proc: Path = Path("/proc")) -> set[int]:
    """Return the worker processes of an nginx that are not on their way out."""
    workers = set()
    for process in proc.glob("[0-9]*"):
        try:
            # The name, in parentheses, can hold anything: the parent is the second field after it.
            parent = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            title = (process / "cmdline").read_bytes().decode(errors="replace") if parent == master else ""
        except (OSError, ValueError, IndexError):
            continue
        if "worker process" in title and "shutting down" not in title:
            workers.add(int(process.name))
    return workers


def wait_for_new_workers(
    master: int, old: set[int], timeout: float, gave_up: Callable[[], bool], proc: Path = Path("/proc")
) -> bool:
    """Wait (seconds) until the master runs workers that are all new; False where it keeps the old ones.

    :param gave_up: says whether the master has said that it will not have new ones.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        workers = workers_of(master, proc)
        if workers and not workers & old:
            return True
        if gave_up():
            return False
        time.sleep(0.05)
    return False


def errors_since(log: Path, size: int) -> list[str]:
    """Return the grave errors that were logged after the log had a certain size (bytes)."""
    try:
        with log.open("rb") as handle:
            handle.seek(size)
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if "[emerg]" in line]


def is_final(errors: Sequence[str]) -> bool:
    """Say whether nginx has given a configuration up: to bind an address, it tries several times."""
    return any("bind() to" not in line for line in errors)
