# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory on the controller as the source of an app; in a git work tree, the files that git tracks or would track."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import is_excluded_name
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.git import git_environment
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import find_subdirectory, walk_files


def from_path(source: Mapping[str, Any], cache: Path) -> Artifact:
    """Pack a directory.

    :raises SourceError: when it does not exist, or git cannot list its files.
    """
    top = Path(os.path.expanduser(str(source["path"])))
    if not top.is_dir():
        problem = "is not a directory" if top.exists() else "does not exist on the controller"
        raise SourceError(
            f"source.path {masked(str(source['path']))!r} {problem}. Set it to the directory that holds the app's code."
        )
    root = find_subdirectory(top, source.get("subdir"), f"source.path {str(top)!r}")
    origin: dict[str, Any] = {"kind": "path", "path": str(top)}
    with contextlib.ExitStack() as stack:
        work_tree = _WorkTree.find(root)
        if work_tree:
            stack.callback(work_tree.close)
        names = work_tree.list_files() if work_tree else None
        if work_tree and names is not None:
            origin.update(work_tree.read_version())
        if not names:
            names = list(walk_files(str(root)))
    return pack(root, names, source, origin, cache)


class _WorkTree:
    """A directory inside a git work tree; three git commands about it run at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Another user's work tree may be read (safe.directory), but the programs in its configuration not run (fsmonitor).
        base = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root)]
        commands = {
            "files": ["ls-files", "-t", "-z", "--cached", "--others", "--exclude-standard"],
            "status": ["status", "--porcelain=v2", "--branch", "-z", "--", "."],
            "describe": ["describe", "--tags", "--always"],
        }
        env = git_environment()
        self._processes = {
            name: subprocess.Popen(
                base + arguments,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if name == "files" else subprocess.DEVNULL,
            )
            for name, arguments in commands.items()
        }

    @classmethod
    def find(cls, root: Path) -> _WorkTree | None:
        """Return the work tree that ``root`` lies in, or None.

        :raises SourceError: when git is not installed.
        """
        real = root.resolve()
        if not any((directory / ".git").exists() for directory in (real, *real.parents)):
            return None
        try:
            return cls(root)
        except FileNotFoundError:
            raise SourceError(
                f"{str(root)!r} is in a git work tree, and listing its files needs git on the controller, but git is not "
                "installed. Install it and run again."
            ) from None

    def close(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
                process.communicate()

    def list_files(self) -> list[str] | None:
        """Return the files that git tracks or would track; None when this is not a work tree, or git ignores it.

        :raises SourceError: when git fails.
        """
        process = self._processes["files"]
        output, errors = process.communicate()
        if process.returncode:
            message = errors.decode(errors="replace").strip()
            if "not a git repository" in message or "must be run in a work tree" in message:
                return None
            raise SourceError(
                f"git cannot list the files of source.path {str(self.root)!r}. git says: {masked(message)}"
            )
        names: set[str] = set()
        virtualenvs: dict[str, bool] = {}
        for entry in output.split(b"\0"):
            if not entry:
                continue
            tracked, name = entry[:1] != b"?", os.fsdecode(entry[2:])
            if not tracked and (
                any(is_excluded_name(part) for part in name.rstrip("/").split("/"))
                or self._is_in_virtualenv(name, virtualenvs)
            ):
                continue
            path = os.path.join(self.root, name)
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted, but still tracked
            if stat.S_ISDIR(mode):  # a submodule, or a repository inside this one
                nested = _WorkTree.find(Path(path)) if os.path.exists(os.path.join(path, ".git")) else None
                inner = nested.list_files() if nested else None
                if nested:
                    nested.close()
                names.update(f"{name.rstrip('/')}/{file}" for file in (inner or walk_files(path)))
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                names.add(name)
        return list(names) or None

    def _is_in_virtualenv(self, name: str, known: dict[str, bool]) -> bool:
        """Whether the untracked file ``name`` lies in a virtualenv."""
        directory = os.path.dirname(name)
        if not directory:
            return False
        if directory not in known:
            known[directory] = os.path.exists(
                os.path.join(self.root, directory, "pyvenv.cfg")
            ) or self._is_in_virtualenv(directory, known)
        return known[directory]

    def read_version(self) -> dict[str, Any]:
        """Return ``commit``, ``dirty`` and ``version`` as far as git knows them."""
        found: dict[str, Any] = {}
        status, _err = self._processes["status"].communicate()
        if not self._processes["status"].returncode:
            lines = status.decode(errors="replace").split("\0")
            oid = next((line.split(" ", 2)[2] for line in lines if line.startswith("# branch.oid ")), "")
            if re.fullmatch(r"[0-9a-f]{40,64}", oid):
                found["commit"] = oid
                found["dirty"] = any(line and not line.startswith("#") for line in lines)
        version, _err = self._processes["describe"].communicate()
        if not self._processes["describe"].returncode and "commit" in found:
            found["version"] = version.decode().strip()
        return found
