# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replacing a file or a link in one step, and the kernel's lock on a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

#: Seconds between two tries to take a lock.
_PAUSE = 0.1


def write_file(path: Path, content: str, mode: int, group: int = 0) -> bool:
    """Replace a root-owned file in one step; do nothing where it says the same already.

    :returns: whether anything changed.
    """
    try:
        facts = path.stat()
        if path.read_bytes() == content.encode() and facts.st_mode & 0o7777 == mode and facts.st_gid == group:
            return False
    except OSError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.encode(), mode, group if os.geteuid() == 0 else None)
    return True


def replace_file(path: Path, content: bytes, mode: int, group: int | None = None, suffix: str = ".new") -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, whole.

    :param group: its group, with root as its owner; None: this process's own.
    :param suffix: what the file is called while it is written, after a dot and its name.
    :raises OSError: when it cannot be written; then the old one is there.
    """
    aside = path.with_name(f".{path.name}{suffix}")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
            if group is not None:
                os.fchown(descriptor, 0, group)
            file.flush()
            os.fsync(descriptor)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def replace_link(link: Path, target: Path) -> None:
    """Make a link lead elsewhere in one step, and have it on disk."""
    aside = link.with_name(f".{link.name}.new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    os.symlink(target, aside)
    os.replace(aside, link)
    directory = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
