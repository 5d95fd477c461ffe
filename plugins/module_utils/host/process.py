# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Running a command with a time limit, and finding its processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_LIBC = ctypes.CDLL(None)

#: Seconds in which the output of what was killed has to end.
_LAST_WORDS = 2.0


class Finished(NamedTuple):
    """How a command ended.

    :ivar code: its exit code; None where it was killed because its time was over.
    :ivar output: what it said, on standard output and standard error.
    """

    code: int | None
    output: str

    def last(self, lines: int) -> str:
        """Return the last lines that are not empty; a progress bar's steps are lines too."""
        said = [line.rstrip() for line in self.output.replace("\r", "\n").splitlines() if line.strip()]
        return "\n".join(said[-lines:])


def run(command: Sequence[str], *, timeout: float | None, outlives: bool = False, **options: Any) -> Finished:
    """Run a command to its end, without input.

    :param timeout: seconds after which it is killed, and all that it started in its session; None: it has all the time.
    :param outlives: whether it goes on when this process is killed.
    :param options: those of :class:`subprocess.Popen`: env, cwd, umask, user, ...
    :raises OSError: when it cannot be started.
    """
    process = subprocess.Popen(
        command,
        **options,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=None if outlives else _die_with_parent,
    )
    try:
        output, _unused = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # A child may have made a session of its own: it is found by its parent, as long as that is there.
        # All are known before the first is killed, and the one that started them has no time to speak of it.
        for pid in (process.pid, *descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            output, _unused = process.communicate(timeout=_LAST_WORDS)
        except subprocess.TimeoutExpired as left:
            # A daemon that it had left behind holds its output open.
            output = left.output.decode(errors="replace") if isinstance(left.output, bytes) else left.output or ""
        return Finished(None, output)
    return Finished(process.returncode, output)


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies (PR_SET_PDEATHSIG): no installer outlives a killed run."""
    _LIBC.prctl(1, signal.SIGKILL)


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
