# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpack archives that may hold anything: nothing is written outside of the destination."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError, is_inside


@dataclass(frozen=True)
class _Member:
    """One entry of an archive: ``kind`` is ``file``, ``directory``, ``symlink`` or ``hardlink``."""

    name: str
    kind: str
    executable: bool = False
    mtime: float | None = None
    target: str = ""
    read: Callable[[], IO[bytes]] | None = None


def unpack(tarball: Path, dest: Path) -> None:
    """Unpack ``tarball`` (any compression that this Python reads) into ``dest``, which must be empty or absent.

    Files become 0755 or 0644, directories 0755; owners and special bits of the archive are ignored. After a failure
    ``dest`` may hold some of the files: the caller removes it.

    :raises SourceError: when it is not a tar archive, or holds an absolute path, ``..``, a link that points outside, a
        device, a FIFO, or an entry below something that is not a directory.
    """
    with _refuse_damaged(), tarfile.open(tarball, "r:*") as tar:
        _extract(_tar_members(tar), Path(dest))


def unpack_zip(path: Path, dest: Path) -> None:
    """Unpack a zip archive as :func:`unpack` does a tar archive.

    :raises SourceError: when it is damaged or encrypted, or holds an entry that is refused in a tar archive too.
    """
    with _refuse_damaged(), zipfile.ZipFile(path) as archive:
        _extract(_zip_members(archive), dest)


@contextlib.contextmanager
def _refuse_damaged() -> Iterator[None]:
    """Turn whatever a format raises for a damaged archive into one error.

    :raises SourceError: when the archive is damaged.
    """
    try:
        yield
    except (tarfile.TarError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"This is not a readable archive: {error}.") from error
    except OSError as error:
        # Damaged compressed data is an OSError or a codec's own error without errno.
        if error.errno is None:
            raise SourceError(f"This is not a readable archive: {error}.") from error
        raise
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "_lzma"):
            raise SourceError(f"This is not a readable archive: {error}.") from error
        raise


def _open_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise SourceError(f"The archive holds no contents for {info.name!r}.")
    return file


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            yield _Member(info.name, "directory")
        elif info.issym():
            yield _Member(info.name, "symlink", mtime=info.mtime, target=info.linkname)
        elif info.islnk():
            yield _Member(info.name, "hardlink", target=info.linkname)
        elif info.isreg():
            yield _Member(
                info.name,
                "file",
                bool(info.mode & 0o100),
                info.mtime,
                read=functools.partial(_open_member, tar, info),
            )
        else:
            kind = "a device" if info.isdev() and not info.isfifo() else "a FIFO" if info.isfifo() else "a special file"
            raise SourceError(
                f"The archive holds {kind}, {info.name!r}; only files, directories and links can be deployed."
            )


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 0x1:
            raise SourceError("The archive is encrypted. Make one without a password.")
        if info.is_dir():
            yield _Member(info.filename, "directory")
        elif stat.S_ISLNK(mode):
            yield _Member(info.filename, "symlink", target=os.fsdecode(archive.read(info)))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            yield _Member(info.filename, "file", bool(mode & 0o100), read=functools.partial(archive.open, info))
        else:
            raise SourceError(
                f"The archive holds a special file, {info.filename!r}; only files and links can be deployed."
            )


def _extract(members: Iterable[_Member], dest: Path) -> None:
    """Write ``members`` below ``dest``. Links are created last, so that nothing is written through one."""
    dest.mkdir(parents=True, exist_ok=True)
    os.chmod(dest, 0o755)
    if any(os.scandir(dest)):
        raise SourceError(f"The directory {dest} is not empty.")
    root = os.path.realpath(dest)
    directories = {""}
    links: dict[str, _Member] = {}

    def make_directory(name: str) -> None:
        if name not in directories:
            make_directory(os.path.dirname(name))
            if name in links:
                raise SourceError(f"The archive holds entries below {name!r}, which is a link.")
            path = os.path.join(root, name)
            try:
                os.mkdir(path)
                os.chmod(path, 0o755)
            except FileExistsError:
                raise SourceError(f"The archive holds entries below {name!r}, which is a file.") from None
            directories.add(name)

    for member in members:
        name = _safe_name(member.name)
        if member.kind == "directory":
            make_directory(name)
            continue
        make_directory(os.path.dirname(name))
        path = os.path.join(root, name)
        if name in links or name in directories or not name:
            raise SourceError(f"The archive holds {member.name!r} twice.")
        if member.kind == "symlink":
            if os.path.lexists(path):
                raise SourceError(f"The archive holds {member.name!r} twice.")
            links[name] = member
            continue
        if member.kind == "hardlink":
            target = _safe_name(member.target)
            target_path = os.path.join(root, target)
            if target in links or not os.path.isfile(target_path):
                raise SourceError(f"The archive holds a hard link to a file that it does not hold: {name} -> {target}.")
            if os.path.lexists(path):
                raise SourceError(f"The archive holds {member.name!r} twice.")
            shutil.copy2(target_path, path, follow_symlinks=False)
            continue
        if member.read is None:
            raise SourceError(f"The archive holds no contents for {member.name!r}.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # tar: a later entry of the same name wins
        mode = 0o755 if member.executable else 0o644
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as out, member.read() as data:
            shutil.copyfileobj(data, out, 1 << 20)
            out.flush()
            os.fchmod(out.fileno(), mode)
            if member.mtime is not None:
                os.utime(out.fileno(), (member.mtime, member.mtime))
    for name, member in links.items():
        if not member.target or "\0" in member.target or os.path.isabs(member.target):
            raise _outside_error(name, member.target)
        os.symlink(member.target, os.path.join(root, name))
    for name, member in links.items():  # once all exist: a link may point through another one
        path = os.path.join(root, name)
        if not is_inside(os.path.realpath(path), root):
            os.unlink(path)
            raise _outside_error(name, member.target)
        if member.mtime is not None:
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _outside_error(name: str, target: str) -> SourceError:
    return SourceError(
        f"The archive holds a link that points outside: {name} -> {target}. Only links to other files of the archive, as "
        "relative paths, can be deployed."
    )


def _safe_name(name: str) -> str:
    """Return the name of an entry as a normalised relative path.

    :raises SourceError: when it would be written outside.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SourceError(f"The archive holds an entry that would be written outside of it: {name!r}.")
    return "/".join(parts)
