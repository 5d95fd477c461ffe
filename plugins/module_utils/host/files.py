# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replacing a file in one step."""

from __future__ import annotations

import os
from pathlib import Path


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
