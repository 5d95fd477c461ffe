# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory of the controller as the source of an app: of a work tree, what git would track."""

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
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.git import environment
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import subdirectory, walk


def from_path(source: Mapping[str, Any], cache: Path) -> Artifact:
    top = Path(os.path.expanduser(str(source["path"])))
    if not top.is_dir():
        problem = "is not a directory" if top.exists() else "does not exist on the controller"
        raise SourceError(
            f"source.path {masked(str(source['path']))!r} {problem}. It names the directory that holds the app's code."
        )
    root = subdirectory(top, source.get("subdir"), f"source.path {str(top)!r}")
    facts: dict[str, Any] = {"kind": "path", "path": str(top)}
    with contextlib.ExitStack() as stack:
        version = _WorkTree.of(root)
        if version:
            stack.callback(version.close)
        names = version.files() if version else None
        if version and names is not None:
            facts.update(version.facts())
        if not names:
            names = list(walk(str(root)))
    return pack(root, names, source, facts, cache)


class _WorkTree:
    """A directory inside a git work tree, asked three things at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Work trees of other users are ours to read (safe.directory), but not to run programs for (fsmonitor).
        base = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root)]
        questions = {
            "files": ["ls-files", "-t", "-z", "--cached", "--others", "--exclude-standard"],
            "status": ["status", "--porcelain=v2", "--branch", "-z", "--", "."],
            "describe": ["describe", "--tags", "--always"],
        }
        env = environment()
        self._asked = {
            name: subprocess.Popen(
                base + words,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if name == "files" else subprocess.DEVNULL,
            )
            for name, words in questions.items()
        }

    @classmethod
    def of(cls, root: Path) -> _WorkTree | None:
        """Return the work tree that ``root`` lies in, or None."""
        real = root.resolve()
        if not any((directory / ".git").exists() for directory in (real, *real.parents)):
            return None
        try:
            return cls(root)
        except FileNotFoundError:
            raise SourceError(
                f"{str(root)!r} is in a git work tree, and the controller has no git to ask which of its files belong "
                "to the app. Install git and run again."
            ) from None

    def close(self) -> None:
        for process in self._asked.values():
            if process.returncode is None:
                process.kill()
                process.communicate()

    def files(self) -> list[str] | None:
        """Return what git tracks or would track; None when it is no work tree after all or ignores the directory."""
        process = self._asked["files"]
        out, err = process.communicate()
        if process.returncode:
            message = err.decode(errors="replace").strip()
            if "not a git repository" in message or "must be run in a work tree" in message:
                return None
            raise SourceError(f"git cannot list the files of {str(self.root)!r}: {masked(message)}")
        names: set[str] = set()
        virtualenvs: dict[str, bool] = {}
        for entry in out.split(b"\0"):
            if not entry:
                continue
            tracked, name = entry[:1] != b"?", os.fsdecode(entry[2:])
            if not tracked and (
                any(is_excluded_name(part) for part in name.rstrip("/").split("/"))
                or self._virtualenv(name, virtualenvs)
            ):
                continue
            path = os.path.join(self.root, name)
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted, but still tracked
            if stat.S_ISDIR(mode):  # a submodule, or a repository inside this one
                nested = _WorkTree.of(Path(path)) if os.path.exists(os.path.join(path, ".git")) else None
                inner = nested.files() if nested else None
                if nested:
                    nested.close()
                names.update(f"{name.rstrip('/')}/{file}" for file in (inner or walk(path)))
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                names.add(name)
        return list(names) or None

    def _virtualenv(self, name: str, known: dict[str, bool]) -> bool:
        """Whether the untracked file ``name`` lies in a virtualenv."""
        directory = os.path.dirname(name)
        if not directory:
            return False
        if directory not in known:
            known[directory] = os.path.exists(os.path.join(self.root, directory, "pyvenv.cfg")) or self._virtualenv(
                directory, known
            )
        return known[directory]

    def facts(self) -> dict[str, Any]:
        """Return ``commit``, ``dirty`` and ``version`` as far as git knows them."""
        facts: dict[str, Any] = {}
        status, _err = self._asked["status"].communicate()
        if not self._asked["status"].returncode:
            lines = status.decode(errors="replace").split("\0")
            oid = next((line.split(" ", 2)[2] for line in lines if line.startswith("# branch.oid ")), "")
            if re.fullmatch(r"[0-9a-f]{40,64}", oid):
                facts["commit"] = oid
                facts["dirty"] = any(line and not line.startswith("#") for line in lines)
        version, _err = self._asked["describe"].communicate()
        if not self._asked["describe"].returncode and "commit" in facts:
            facts["version"] = version.decode().strip()
        return facts
