# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of nginx's configuration: what they should be, and what has to change."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: What every file of ours carries, so that nobody's own file is ever overwritten or removed.
MARK = "Managed by Ansible: flaskops.server.nginx"

#: Where the sites are, below nginx's configuration directory.
SITES = "sites-enabled"


class NginxError(Exception):
    """The configuration was not changed; the message says why."""


@dataclass(frozen=True)
class File:
    """What a file below the configuration directory should be.

    :param content: its text; None where it should not be there.
    :param mode: its permissions.
    :param owned: refuse to touch a file that does not carry our mark.
    :param backup: keep the first foreign version beside it, as ``NAME.orig``.
    :param link: with no content: remove only a symlink to this path (below the configuration directory).
    """

    path: str
    content: str | None = None
    mode: int = 0o644
    owned: bool = False
    backup: bool = False
    link: str | None = None


@dataclass
class Change:
    """One file that differs from what it should be.

    :param shown: before and after, for people; empty for keys.
    """

    path: str
    mode: int = 0o644
    content: bytes | None = None
    shown: tuple[str, str] = ("", "")
    only_mode: bool = False


def plan_files(root: Path, files: Sequence[File]) -> list[Change]:
    """Compare the files with what is on the host.

    :raises NginxError: where a file that should carry our mark is somebody else's.
    """
    changes = []
    for wanted in files:
        path = root / wanted.path
        current = _read(path)
        if wanted.content is None:
            if not os.path.lexists(path) or (wanted.link is not None and not _links_to(path, root / wanted.link)):
                continue
            if wanted.owned and MARK not in current[0]:
                continue
            changes.append(Change(wanted.path, shown=(_described(path, current[0]), "")))
            continue
        if wanted.owned and current[1] is not None and MARK not in current[0]:
            raise NginxError(
                f"{path} is there and was not written by this role: rename the site, or move the file away"
            )
        if current != (wanted.content, wanted.mode):
            changes.append(
                Change(
                    wanted.path,
                    wanted.mode,
                    wanted.content.encode(),
                    (current[0], wanted.content),
                    only_mode=current[0] == wanted.content and current[1] is not None,
                )
            )
            if (
                wanted.backup
                and current[1] is not None
                and MARK not in current[0]
                and not (root / f"{wanted.path}.orig").exists()
            ):
                changes.append(
                    Change(
                        f"{wanted.path}.orig", stat.S_IMODE(path.stat().st_mode), path.read_bytes(), ("", current[0])
                    )
                )
    return changes


def _read(path: Path) -> tuple[str, int | None]:
    """Return a regular file's text and permissions; "" and None where there is none."""
    try:
        information = path.lstat()
        if not stat.S_ISREG(information.st_mode):
            return "", None if not path.is_symlink() else -1
        return path.read_text(encoding="utf-8", errors="replace"), stat.S_IMODE(information.st_mode)
    except FileNotFoundError:
        return "", None


def _described(path: Path, text: str) -> str:
    return f"link to {os.readlink(path)}\n" if path.is_symlink() else text


def _links_to(path: Path, target: Path) -> bool:
    return path.is_symlink() and os.path.realpath(path) == os.path.realpath(target)
