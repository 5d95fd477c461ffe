# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pack files into one deterministic tarball.

The same tree gives the same bytes on any machine, whatever the source was (a directory, a git commit, an archive), so the
SHA-256 of the tarball identifies the code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError, is_inside
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import compile_excludes

# The modification time of a file in the tarball is taken from its content, somewhere in 1980 to 2019. nginx makes the
# ETag of a static file from its time and size: so it is the same on every host and in every release that has the same
# content, and changes with the content. With one constant time, a change that keeps the size would answer 304 Not
# Modified with the old page; with real times, every deploy and every host would have an ETag of its own.
_MTIME_FIRST = 315_532_800  # 1980-01-01
_MTIME_RANGE = 40 * 365 * 86_400

_LARGE = 16 * 1024 * 1024  # bytes; larger files are streamed, not read at once
_KEEP_ARTIFACTS = 30 * 86_400  # seconds that an unused tarball stays in the cache

# What Git LFS puts in a file's place (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md): short lines of key and
# value, the version first, the content's digest among them. The other versions are those from before its release.
_POINTER_BYTES = 1024
_POINTER = re.compile(
    rb"version (?:https://git-lfs\.github\.com/spec/v1|https://hawser\.github\.com/spec/v1|http://git-media\.io/v/2)\r?\n"
    rb"(?:[a-z0-9.-]+ [^\r\n]*\r?\n)*?oid sha256:[0-9a-f]+(?:\r?\n[a-z0-9.-]+ [^\r\n]*)*(?:\r?\n)?"
)


class _Hashing:
    """A file whose content is hashed as it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def pack(root: Path, names: Iterable[str], source: Mapping[str, Any], origin: dict[str, Any], cache: Path) -> Artifact:
    """Write the files ``names`` of ``root`` as a tarball into ``cache``.

    :param origin: where the source comes from, for the artifact.
    :raises SourceError: when there are no files, or some cannot be deployed.
    """
    excluded = compile_excludes(source.get("exclude") or ())
    chosen = sorted((name for name in names if not excluded(name)), key=os.fsencode)
    if not chosen:
        raise SourceError(
            f"The source {masked(str(origin.get('path') or origin.get('url') or root))!r} has no files"
            f"{' left after source.exclude' if source.get('exclude') else ''}: there is nothing to deploy."
        )
    if source.get("subdir"):
        origin["subdir"] = str(source["subdir"])
    real_root = os.path.realpath(root)
    artifacts = cache / "artifacts"
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix=".tar", dir=artifacts)
    try:
        with os.fdopen(handle, "wb") as file:
            output = _Hashing(file)
            with tarfile.open(mode="w|", fileobj=output, format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:  # type: ignore[call-overload]
                pointers = [name for name in chosen if _add(tar, real_root, name)]
        if pointers:
            raise _lfs_error(pointers, str(origin["kind"]))
        sha256 = output.sha256.hexdigest()
        path = artifacts / f"{sha256}.tar"
        if path.exists():
            os.utime(path)
        else:
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            prune(artifacts)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return Artifact(path, sha256, origin)


def _lfs_error(pointers: Sequence[str], kind: str) -> SourceError:
    """Return the error for files that are only pointers of Git LFS."""
    shown = ", ".join(pointers[:5]) + (f" and {len(pointers) - 5} more" if len(pointers) > 5 else "")
    advice = {
        "git": "source.git does not download them: run 'git lfs pull' in a checkout and deploy that with source.path",
        "path": "Run 'git lfs pull' in that directory and deploy again",
        "archive": "Run 'git lfs pull' in a checkout and make the archive from that",
    }
    return SourceError(
        f"{len(pointers)} file{'s' if len(pointers) > 1 else ''} of the source {'are' if len(pointers) > 1 else 'is'} in Git "
        f"LFS and not downloaded ({shown}): visitors would get the pointer {'files' if len(pointers) > 1 else 'file'} instead of "
        f"the content. {advice.get(kind, advice['path'])}, or list files that the app does not need in source.exclude."
    )


def _add(tar: tarfile.TarFile, root: str, name: str) -> bool:
    """Add the file or link ``name`` of ``root``, with nothing specific to this machine in its header.

    :returns: whether it is a pointer of Git LFS instead of the file.
    :raises SourceError: when it cannot be read, or is a link that points outside.
    """
    path = os.path.join(root, name)
    info = tarfile.TarInfo(name)
    try:
        if os.path.islink(path):
            target = os.readlink(path)
            if os.path.isabs(target) or not is_inside(os.path.realpath(path), root):
                raise SourceError(
                    f"The source holds a link that points outside: {name} -> {target}. Only links to other files of the "
                    "source, as relative paths, can be deployed. Replace it, or list it in source.exclude."
                )
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            info.mtime = _derive_mtime(hashlib.sha256(os.fsencode(target)))
            tar.addfile(info)
            return False
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            info.mode = 0o755 if status.st_mode & 0o100 else 0o644
            if status.st_size > _LARGE:
                info.mtime = _derive_mtime(hashlib.file_digest(file, "sha256"))
                info.size = file.tell()
                file.seek(0)
                tar.addfile(info, file)
            else:
                data = file.read()
                info.mtime, info.size = _derive_mtime(hashlib.sha256(data)), len(data)
                tar.addfile(info, _Once(data))  # type: ignore[arg-type]
                return len(data) <= _POINTER_BYTES and data.startswith(b"version ") and bool(_POINTER.fullmatch(data))
            return False
    except (FileNotFoundError, PermissionError) as error:
        raise SourceError(
            f"The controller cannot read the file {name} of the source: {error.strerror}. Make it readable, or list it in "
            "source.exclude."
        ) from error


class _Once:
    """The part of a file object that tarfile reads from, over bytes and without a copy."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at += size
        return part


def _derive_mtime(digest: Any) -> int:
    return _MTIME_FIRST + int.from_bytes(digest.digest()[:8], "big") % _MTIME_RANGE


def prune(artifacts: Path) -> None:
    """Delete tarballs that were not used for a month, and temporary files of runs that died."""
    now = time.time()
    with os.scandir(artifacts) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if age > (86_400 if entry.name.startswith(".") else _KEEP_ARTIFACTS):
                    os.unlink(entry.path)
