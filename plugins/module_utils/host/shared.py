# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directories of an app that outlive its releases.

The app can change everything below ``shared/``, and root works there. So nothing here walks a path: each directory is
opened from the one above it, and a link on the way is never followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ansible_collections.flaskops.server.plugins.module_utils.host.errors import StagingError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: What is written and not complete yet; one that a dead run left is replaced.
_UNFINISHED = ".{}.flaskops-new"

#: What Python makes itself of the code.
_BYTECODE = "__pycache__"

#: Bytes that are read at once.
_PIECE = 1 << 20


class SharedError(StagingError):
    """A shared path cannot be linked into the release; the message is a whole sentence."""


@dataclass
class Kept:
    """What the code has in a shared directory and the app does not get, because what is in ``shared/`` stays.

    :ivar path: the shared path.
    :ivar names: files and links, relative to ``path``.
    """

    path: str
    names: list[str] = field(default_factory=list)

    def sentence(self, shared: Path) -> str:
        """Say it for a person."""
        count, them = ("1 file", "it") if len(self.names) == 1 else (f"{len(self.names)} files", "them")
        shown = ", ".join(self.names[:5]) + (", ..." if len(self.names) > 5 else "")
        return (
            f"{count} of the repository in {self.path}/ ({shown}) will not be used: {shared / self.path} persists across"
            f" releases, and has another version or none. Copy {them} there by hand if the app needs {them}"
        )


def outermost(paths: Sequence[str]) -> list[str]:
    """Return the paths that do not lie below another one of them; each once.

    >>> outermost(["instance/uploads", "instance", "./media/"])
    ['instance', 'media']
    """
    kept: list[PurePosixPath] = []
    for path in sorted({PurePosixPath(os.path.normpath(path)) for path in paths}):
        if not any(other in path.parents for other in kept):
            kept.append(path)
    return [str(path) for path in kept]


def make(shared: Path, path: str, user: int, group: int) -> bool:
    """Make a shared directory, with those above it, and give it to the app's user.

    Where a link is on the way, of the app or of an administrator, what is behind it is left alone.

    :param shared: ``shared/`` of the app; what is above it is root's.
    :returns: whether it is there, and not a link or a file instead.
    :raises OSError: where it cannot be made.
    """
    with _opened(shared) as place, _below(place, path, user, group) as made:
        return made is not None


def link(app: Path, shared: Path, path: str, user: int, group: int, first: bool) -> Kept:
    """Put a link to a shared directory in the place of the code's own, and keep what the code has there.

    :param app: the code of a release in the making.
    :param path: one of :func:`outermost`.
    :param first: whether no release that visitors had has shared this path: what the code has there is then copied to
        the shared directory, but for what is there already.
    :returns: what was not copied.
    :raises SharedError: where the code has something else than directories there.
    :raises OSError: where a file cannot be written.
    """
    kept = Kept(path)
    *above, name = PurePosixPath(path).parts
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_opened(app))
        for part in above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=place)
            place = stack.enter_context(_code(place, part, path))
        if _exists(name, place):
            with _code(place, name, path) as source, _opened(shared) as top, _below(top, path, user, group) as target:
                _keep(source, target, "", first, (user, group), kept)
            shutil.rmtree(name, dir_fd=place)
        os.symlink(shared / path, name, dir_fd=place)
    return kept


def is_shared(app: Path, path: str) -> bool:
    """Say whether a path of a release's code is a link, or lies behind one; so it is too where the code is gone."""
    place = app
    for part in PurePosixPath(path).parts:
        place /= part
        if place.is_symlink():
            return True
    return not app.is_dir()


@contextlib.contextmanager
def _opened(path: Path | str, place: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY, dir_fd=place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _code(place: int, name: str, path: str) -> Iterator[int]:
    try:
        opened = os.open(name, _DIRECTORY, dir_fd=place)
    except NotADirectoryError:
        kind = "a link" if stat.S_ISLNK(os.lstat(name, dir_fd=place).st_mode) else "a file"
        raise SharedError(
            f"shared_paths lists {path}, but {name} is {kind} in the repository, and only directories can be shared. Rename"
            " one of the two, or take it out of shared_paths (shared_paths: [] shares nothing)"
        ) from None
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _below(place: int, path: str, user: int, group: int) -> Iterator[int | None]:
    """Open a directory below ``shared/``, made and owned as it should be; None where something else is on the way."""
    with contextlib.ExitStack() as stack:
        for name in PurePosixPath(path).parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=place)
            try:
                place = stack.enter_context(_opened(name, place))
            except NotADirectoryError:
                yield None
                return
            os.fchown(place, user, group)
            os.fchmod(place, 0o770)
        yield place


def _keep(source: int, target: int | None, below: str, copy: bool, owner: tuple[int, int], kept: Kept) -> None:
    """Copy what a directory of the code holds and the shared one lacks, or list it.

    :param target: None where there is no such directory.
    """
    for entry in sorted(os.scandir(source), key=lambda found: found.name):
        name, shown = entry.name, below + entry.name
        if name == _BYTECODE:
            continue
        if entry.is_dir(follow_symlinks=False):
            with _opened(name, source) as inner, contextlib.ExitStack() as stack:
                found = None
                if target is not None and copy and not _exists(name, target):
                    os.mkdir(name, 0o700, dir_fd=target)
                    found = stack.enter_context(_opened(name, target))
                    os.fchown(found, *owner)
                    os.fchmod(found, 0o770)
                elif target is not None:
                    # A link or a file of the app in its place is the app's affair.
                    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                        found = stack.enter_context(_opened(name, target))
                _keep(inner, found, f"{shown}/", copy, owner, kept)
        elif target is not None and copy and not _exists(name, target):
            _copy(source, target, name, owner)
        elif target is None or not _same(source, target, name):
            kept.names.append(shown)


def _copy(source: int, target: int, name: str, owner: tuple[int, int]) -> None:
    unfinished = _UNFINISHED.format(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=target)
    facts = os.lstat(name, dir_fd=source)
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), unfinished, dir_fd=target)
        os.chown(unfinished, *owner, dir_fd=target, follow_symlinks=False)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source), "rb") as reading,
            open(os.open(unfinished, flags, 0o600, dir_fd=target), "wb") as writing,
        ):
            shutil.copyfileobj(reading, writing, _PIECE)
            writing.flush()
            os.fchown(writing.fileno(), *owner)
            os.fchmod(writing.fileno(), 0o770 if facts.st_mode & 0o100 else 0o660)
    os.rename(unfinished, name, src_dir_fd=target, dst_dir_fd=target)


def _exists(name: str, place: int) -> bool:
    try:
        os.lstat(name, dir_fd=place)
    except FileNotFoundError:
        return False
    return True


def _same(source: int, target: int, name: str) -> bool:
    """Say whether the shared directory has the same file, or the same link."""
    try:
        facts, other = os.lstat(name, dir_fd=source), os.lstat(name, dir_fd=target)
    except FileNotFoundError:
        return False
    if stat.S_IFMT(facts.st_mode) != stat.S_IFMT(other.st_mode):
        return False
    if stat.S_ISLNK(facts.st_mode):
        return os.readlink(name, dir_fd=source) == os.readlink(name, dir_fd=target)
    if facts.st_size != other.st_size:
        return False
    try:
        # What was a file a moment ago can be a pipe by now: nothing is waited for.
        theirs = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=target)
    except OSError:
        return False
    with (
        open(theirs, "rb") as second,
        open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source), "rb") as first,
    ):
        if not stat.S_ISREG(os.fstat(theirs).st_mode):
            return False
        while piece := first.read(_PIECE):
            if second.read(len(piece)) != piece:
                return False
    return True
