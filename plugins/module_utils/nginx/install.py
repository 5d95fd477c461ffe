# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Trying a changed configuration in a copy, and putting it in place, each file with one rename."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.file_lock import lock
from ansible_collections.flaskops.server.plugins.module_utils.host.files import replace_file
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import root_directory
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import Change, NginxError

CANDIDATE = ".candidate-"

#: Seconds that a run waits for another one that changes nginx's configuration.
PATIENCE = 60.0


@contextmanager
def locked(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Let one process at a time change nginx's configuration; the kernel frees the lock of one that died.

    :param path: the lock's file, in a directory of its own that nobody else can look into.
    :param patience: seconds to wait for another process.
    :raises NginxError: when they are over.
    :raises OSError: where the directory is not this user's alone.
    """
    root_directory(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        _wait_for_lock(path, descriptor, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(path: Path, descriptor: int, patience: float) -> None:
    if lock(descriptor, patience):
        return
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    process = f"process {holder}" if holder.isdigit() else "another process"
    raise NginxError(
        f"{process} is changing nginx's configuration and was not done after {patience:.0f} s ({path} is its "
        "lock); nothing was changed here and nginx goes on as it is. Wait until that run has ended, or end "
        "it, and run this again"
    )


def remove_leftovers(root: Path) -> None:
    """Remove what runs that were killed have left: candidate directories, and files not renamed into place yet.

    Call it with the lock held, so that nobody else's candidate is in use.
    """
    for left in root.parent.glob(f"{root.name}{CANDIDATE}*"):
        shutil.rmtree(left)
    for left in root.rglob(f".*{CANDIDATE}*"):
        left.unlink()


@contextmanager
def candidate_of(root: Path) -> Iterator[Path]:
    """Copy a configuration beside itself, where its relative links hold too, and remove the copy at the end."""
    candidate = Path(tempfile.mkdtemp(prefix=f"{root.name}{CANDIDATE}", dir=root.parent))
    try:
        shutil.copytree(root, candidate, symlinks=True, dirs_exist_ok=True, ignore=_only_plain)
        candidate.chmod(0o700)
        yield candidate
    finally:
        shutil.rmtree(candidate, ignore_errors=True)


def _only_plain(directory: str, names: list[str]) -> list[str]:
    """Name what cannot be copied: sockets, pipes and devices."""
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    return [
        name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
    ]


def overlay(candidate: Path, changes: Sequence[Change]) -> None:
    """Apply the changes to a copy, never through a link that leads out of it."""
    for change in changes:
        path = candidate / change.path
        own_directories(candidate, path.parent)
        if change.only_mode:
            path.chmod(change.mode)
            continue
        path.unlink(missing_ok=True)
        if change.content is not None:
            make_directory(path.parent)
            path.write_bytes(change.content)
            path.chmod(change.mode)


def own_directories(candidate: Path, directory: Path) -> None:
    """Turn every linked directory on the way into a copy of its own."""
    for part in reversed([directory, *directory.parents]):
        if candidate in part.parents and part.is_symlink():
            target = part.resolve()
            part.unlink()
            if target.is_dir():
                shutil.copytree(target, part, symlinks=True, ignore=_only_plain)


def try_configuration(nginx: str, conf: Path) -> tuple[bool, str]:
    """Ask nginx whether it would take a configuration; returns the answer and its words."""
    done = subprocess.run([nginx, "-t", "-c", str(conf)], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def install(root: Path, changes: Sequence[Change], verify: Callable[[], str | None]) -> None:
    """Put the changes in place, one rename each; all are taken back where one fails or the result does not verify.

    :param verify: returns what is wrong with the result, None where nothing is.
    :raises NginxError: with what was wrong, after everything was taken back.
    """
    with tempfile.TemporaryDirectory(prefix=f"{root.name}{CANDIDATE}", dir=root.parent) as kept:
        undo: list[Callable[[], None]] = []
        try:
            for index, change in enumerate(changes):
                undo.append(_put(root / change.path, change, Path(kept) / str(index)))
            wrong = verify()
            if wrong:
                raise NginxError(wrong)
        except BaseException:
            for step in reversed(undo):
                step()
            raise


def _put(path: Path, change: Change, keep: Path) -> Callable[[], None]:
    """Replace or remove one file; returns what takes it back."""
    existed = os.path.lexists(path)
    if change.only_mode:
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(change.mode)
        return lambda: path.chmod(before)
    if existed:
        shutil.copy2(path, keep, follow_symlinks=False)
    if change.content is None:
        path.unlink(missing_ok=True)
    else:
        make_directory(path.parent)
        _write(path, change.content, change.mode)

    def back() -> None:
        if existed:
            aside = path.with_name(f".{path.name}{CANDIDATE}back")
            shutil.copy2(keep, aside, follow_symlinks=False)
            os.replace(aside, path)
        else:
            path.unlink(missing_ok=True)

    return back


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, open to readers whatever the umask is."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(0o755)


def _write(path: Path, content: bytes, mode: int) -> None:
    # By this name it is found, where a run is killed in between.
    replace_file(path, content, mode, suffix=f"{CANDIDATE}new")
