# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpack the tarball that the controller packed (``plugin_utils/sources/pack.py``), and nothing else."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.errors import StagingError


class ArchiveError(StagingError):
    """The tarball is damaged, or holds what the controller never packs."""


def unpack(tarball: Path, dest: Path) -> None:
    """Unpack a tarball into a new directory: files 0755 or 0644, directories 0755, owners not taken over.

    What may be in a source is decided where it is packed. This only refuses what a packed source cannot hold, so that
    nothing is written outside of the directory. Links are made last: nothing is written through one.

    :param dest: absent, or empty. On a failure it may hold a part: the caller removes it.
    :raises ArchiveError: when it is no tarball of a source.
    """
    dest.mkdir(parents=True, exist_ok=True)
    links: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with tarfile.open(tarball, "r:") as tar:
            for info in tar:
                path = dest / _safe(info.name)
                if info.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                if info.issym():
                    links.append((path, info))
                    continue
                file = tar.extractfile(info) if info.isreg() else None
                if file is None:
                    raise ArchiveError(f"The source as it arrived holds neither a file nor a link: {info.name!r}.")
                path.parent.mkdir(parents=True, exist_ok=True)
                with file, path.open("xb") as out:
                    shutil.copyfileobj(file, out, 1 << 20)
                path.chmod(0o755 if info.mode & 0o100 else 0o644)
                # nginx makes the ETag of a static file from it.
                os.utime(path, (info.mtime, info.mtime))
    except (tarfile.TarError, EOFError, zlib.error, FileExistsError) as error:
        raise ArchiveError(f"The source did not arrive whole: {error}.") from error
    for path, info in links:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(info.linkname)
        os.utime(path, (info.mtime, info.mtime), follow_symlinks=False)


def _safe(name: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ArchiveError(f"The source as it arrived holds {name!r}, which is no path in it.")
    return Path(*parts)
