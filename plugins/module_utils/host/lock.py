# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One deploy at a time for each app, and the end of a dead one's claim.

A deploy reaches a host in several steps, between which nothing of it runs there. The claim is therefore a file that
names the run; each step holds the file's kernel lock while it works, so that a step whose controller died is still seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.file_lock import lock
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import RELEASE_ID
from ansible_collections.flaskops.server.plugins.module_utils.host.process import descendants, started

#: Seconds after its last step when a run of which nothing else is known is taken for dead.
LEASE = 900

#: Seconds in which the step of a dead run has to be gone after it was killed.
_GRACE = 5.0

#: What a claim holds that becomes a path and the name of a unit.
_IDS = ("release", "verified", "live")


class LockedError(Exception):
    """Another run has the app; ``holder`` says who, from which controller, since when."""

    def __init__(self, holder: Mapping[str, Any], busy: bool) -> None:
        self.holder = dict(holder)
        self.busy = busy
        super().__init__(f"another deploy has the lock: {describe(holder)}")


def describe(holder: Mapping[str, Any]) -> str:
    """Say who holds a lock, and since when."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(holder.get("since", 0))))
    return f"{holder.get('who', 'somebody')} (process {holder.get('pid', '?')}), since {since}"


def root_directory(path: Path) -> None:
    """Create a directory that only this user (root, on a host) can enter, or check that it is one.

    :raises OSError: where it is a link, no directory, somebody else's, or open to others.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    information = os.lstat(path)
    mode = stat.S_IMODE(information.st_mode)
    if not stat.S_ISDIR(information.st_mode) or information.st_uid != os.geteuid() or mode & 0o077:
        raise PermissionError(
            f"{path} must be a directory that root owns, with mode 0700; it has uid {information.st_uid} and mode "
            f"{mode:04o}. Find out who created it, remove it and deploy again"
        )


class Claim:
    """The run's hold on an app, and what it carries from one step to the next (``verified``, ``action``)."""

    def __init__(self, path: Path, run: Mapping[str, Any], content: dict[str, Any], descriptor: int) -> None:
        self._path = path
        self._run = run
        self._descriptor = descriptor
        self.content = content

    def save(self) -> None:
        text = json.dumps({**self.content, **self._run, "since": self.content["since"], "touched": time.time()})
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, text.encode())

    def release_lock(self) -> None:
        """End the run's hold."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


@contextlib.contextmanager
def claim(path: Path, run: Mapping[str, Any], dead: str | None = None, expendable: bool = False) -> Iterator[Claim]:
    """Take the app for a run, or go on with what the run holds already.

    :param run: ``token`` (names the run), ``who``, ``pid``, ``controller``.
    :param dead: the token of a run that its controller knows to be dead. A step of it that still works here is killed
        where it is expendable; else it is waited for by refusing.
    :param expendable: whether this step may be killed when its run is dead: it changes nothing that outlives the release.
    :raises LockedError: where a living run, or a step that must not be killed, has it.
    """
    root_directory(path.parent)
    descriptor = _open_locked(path, dead)
    try:
        content = _read(descriptor)
        if content and content.get("token") != run["token"]:
            stale = time.time() - float(content.get("touched", 0)) > LEASE
            if not stale and content.get("token") != dead:
                raise LockedError(content, busy=False)
            content = {}
        content.setdefault("since", time.time())
        content["step"] = {"pid": os.getpid(), "started": started(os.getpid()), "expendable": expendable}
        held = Claim(path, run, content, descriptor)
        held.save()
        yield held
    finally:
        os.close(descriptor)


def held_by(directory: Path, token: str) -> list[Path]:
    """Return the claims of a run on any app of this host."""
    claims = []
    for path in sorted(directory.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()).get("token") == token:
                claims.append(path)
    return claims


def _open_locked(path: Path, dead: str | None) -> int:
    deadline = time.monotonic() + _GRACE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not lock(descriptor, patience=0):
            holder = _read(descriptor)
            os.close(descriptor)
            if dead and holder.get("token") == dead and time.monotonic() < deadline and _is_killed(holder):
                time.sleep(0.05)
                continue
            raise LockedError(holder, busy=True)
        # Between open and flock the holder may have ended and removed the file: then this is a file of nobody.
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _is_killed(holder: Mapping[str, Any]) -> bool:
    """Kill the step that works for a dead run; say whether it may be killed."""
    step = holder.get("step") or {}
    if not step.get("expendable"):
        return False
    if started(step["pid"]) == step["started"]:
        # What it runs goes with it: nobody waits for an installation any more.
        for pid in (step["pid"], *descendants(step["pid"])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return True


def _read(descriptor: int) -> dict[str, Any]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        content = json.loads(os.read(descriptor, 65536))
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if key not in _IDS or RELEASE_ID.fullmatch(str(value))}
