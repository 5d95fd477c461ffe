# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A commit of a git repository as the source of an app."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import (
    Artifact,
    SourceError,
    move_credentials_to_header,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import (
    find_cached,
    hold_lock,
    make_key,
    make_tarball_key,
    store,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import compile_excludes
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import find_subdirectory, list_files
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack

#: Variables that point git to a repository of the caller, such as inside a git hook.
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
)


def git_environment() -> dict[str, str]:
    """Return the environment for git: no questions on a terminal, and no repository but the one that is named."""
    env = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0")
    return env


class _Mirror:
    """The bare copy of a repository in the cache."""

    def __init__(self, url: str, cache: Path) -> None:
        self.shown = masked(url)
        # Credentials go to git in its environment, which only this user can read, not on its command line.
        self.url, header = move_credentials_to_header(url)
        # url.<base>.insteadOf would not hide the rest either: git passes the real URL to git-remote-https as an argument.
        if masked(self.url) != self.url:
            raise SourceError(
                f"source.git {self.shown} holds a query, or a password outside http(s). git would show it to every user "
                "of the controller, on its command line. Use https://USER:TOKEN@HOST/PATH, a credential helper or an SSH "
                "key instead."
            )
        self.path = cache / "git" / f"{make_key('git', self.shown)[:16]}.git"
        self.env = git_environment()
        # The filter of Git LFS would look for a remote, which the mirror does not have.
        self.env["GIT_LFS_SKIP_SMUDGE"] = "1"
        config = {
            "core.autocrlf": "false",
            "core.eol": "lf",
            "core.fsmonitor": "false",
            "gc.autoDetach": "false",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": "60",
            "advice.detachedHead": "false",
        }
        if header:
            config["http.extraHeader"] = header
        count = int(self.env.get("GIT_CONFIG_COUNT") or 0)
        for number, (name, value) in enumerate(config.items(), count):
            self.env[f"GIT_CONFIG_KEY_{number}"], self.env[f"GIT_CONFIG_VALUE_{number}"] = name, value
        self.env["GIT_CONFIG_COUNT"] = str(count + len(config))
        if "://" not in self.url or self.url.startswith(("ssh:", "git+ssh:")):
            ssh = self.env.get("GIT_SSH_COMMAND") or self._read_config("core.sshCommand") or "ssh"
            self.env["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes -o ConnectTimeout=30"

    def _read_config(self, name: str) -> str:
        return _run(["git", "config", "--get", name], self.env, check=False).decode().strip()

    def run(self, *arguments: str, check: bool = True) -> bytes:
        return _run(["git", "--git-dir", str(self.path), *arguments], self.env, check=check)

    def create_if_missing(self) -> None:
        if not (self.path / "HEAD").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _run(["git", "init", "--quiet", "--bare", str(self.path)], self.env)

    def has(self, commit: str) -> bool:
        return bool(self.run("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", check=False))

    def run_remote(self, *arguments: str) -> bytes:
        """Run a git command that connects to the repository."""
        try:
            return self.run(*arguments)
        except SourceError as error:
            raise SourceError(
                f"The controller cannot read the git repository {self.shown}: {error} Check source.git, and that this user "
                "can read the repository without a prompt (SSH agent or key, or a credential helper)."
            ) from error

    def fetch(self) -> None:
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self.run_remote("fetch", "--quiet", "--force", "--prune", "--no-write-fetch-head", self.url, *refs)

    def resolve(self, version: str) -> str:
        """Return the full commit of ``version``: a tag, a branch, a commit; ``""`` is the remote's HEAD."""
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", version):
            if not self.has(version):
                self.fetch()
            if not self.has(version):
                self.run("fetch", "--quiet", "--no-write-fetch-head", self.url, version, check=False)
            if self.has(version):
                return self._peel(version)
            raise SourceError(
                f"The git repository {self.shown} has no commit {version} (source.version). Push it, or fix source.version."
            )
        listed = self.run_remote("ls-remote", self.url).decode(errors="replace")
        refs = {name: oid for oid, _tab, name in (line.partition("\t") for line in listed.splitlines())}
        names = ["HEAD"] if not version else [f"refs/tags/{version}", f"refs/heads/{version}", version]
        for name in names:
            if name in refs and (name.startswith("refs/") or name == "HEAD"):
                oid = refs.get(f"{name}^{{}}", refs[name])
                if not self.has(oid):
                    self.fetch()
                if not self.has(oid):  # a ref that is neither a branch nor a tag
                    self.run("fetch", "--quiet", "--no-write-fetch-head", self.url, name, check=False)
                return self._peel(oid)
        if not version:
            raise SourceError(
                f"The git repository {self.shown} is empty or has no HEAD. Push a commit, or set source.version."
            )
        if re.fullmatch(r"[0-9a-f]{4,63}", version):
            for attempt in (1, 2):
                if self.has(version):
                    return self._peel(version)
                if attempt == 1:
                    self.fetch()
        raise SourceError(self._describe_nearest(version, list(refs)))

    def _peel(self, oid: str) -> str:
        """Return the commit that an object is or, if it is a tag, points to."""
        return self.run("rev-parse", "--verify", f"{oid}^{{commit}}").decode().strip()

    def _describe_nearest(self, version: str, refs: Sequence[str]) -> str:
        near = []
        for kind, prefix in (("tags", "refs/tags/"), ("branches", "refs/heads/")):
            names = [name[len(prefix) :] for name in refs if name.startswith(prefix) and not name.endswith("^{}")]
            close = difflib.get_close_matches(version, names, 5, 0.4) or names[-5:]
            near.append(f"{kind}: {', '.join(close) or 'none'}")
        return (
            f"The git repository {self.shown} has no tag, branch or commit {version!r} (source.version). "
            f"Nearest {'; '.join(near)}."
        )


def _run(command: Sequence[str], env: Mapping[str, str], *, check: bool = True) -> bytes:
    """Run git and return its output.

    :raises SourceError: with the end of git's own output; not when ``check`` is false.
    """
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise SourceError(
            "source.git needs git on the controller, but git is not installed. Install it and run again."
        ) from None
    if done.returncode:
        if not check:
            return b""
        lines = masked(done.stderr.decode(errors="replace")).strip().splitlines()
        tail = " / ".join(line.strip() for line in lines[-6:] if line.strip()) or f"exit code {done.returncode}"
        raise SourceError(f"git says: {tail.rstrip('.')}.")
    return done.stdout


def from_git(source: Mapping[str, Any], cache: Path) -> Artifact:
    """Pack a commit of a git repository.

    :raises SourceError: when the repository or the version cannot be read, or when it has submodules.
    """
    url = str(source["git"])
    version = str(source.get("version") or "")
    if url.startswith("-") or version.startswith("-") or "ext::" in url:
        raise SourceError(
            f"Expected a repository and a version, got source.git {masked(url)!r} and source.version {version!r}. "
            "Neither may begin with a hyphen, and the ext:: transport is not allowed."
        )
    mirror = _Mirror(os.path.expanduser(url) if "://" not in url else url, cache)
    with hold_lock(cache, mirror.path.name):
        mirror.create_if_missing()
        commit = mirror.resolve(version)
        origin = {"kind": "git", "url": mirror.shown, "version": version or "HEAD", "commit": commit}
        if source.get("subdir"):
            origin["subdir"] = str(source["subdir"])
        key = make_tarball_key(source, "git", mirror.shown, commit)
        if sha256 := find_cached(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, origin)
        _refuse_submodules(mirror, commit, source)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            exported = Path(tree, "export.tar")
            mirror.run("archive", "--format=tar", f"--output={exported}", commit)
            top = Path(tree, "tree")
            unpack(exported, top)
            root = find_subdirectory(top, source.get("subdir"), f"{mirror.shown} at {origin['version']}")
            return store(cache, key, pack(root, list_files(root), source, origin, cache))


def _refuse_submodules(mirror: _Mirror, commit: str, source: Mapping[str, Any]) -> None:
    """Refuse a commit with submodules, unless they are excluded.

    :raises SourceError: with their names.
    """
    subdir = str(source.get("subdir") or "").strip("/")
    excluded = compile_excludes(source.get("exclude") or ())
    listed = mirror.run("ls-tree", "-r", "-z", commit, "--", *([subdir] if subdir else []))
    submodules = []
    for entry in listed.split(b"\0"):
        if entry.startswith(b"160000 "):
            name = os.fsdecode(entry.partition(b"\t")[2])
            if not excluded(name[len(subdir) + 1 :] if subdir else name):
                submodules.append(name)
    if submodules:
        raise SourceError(
            f"The git repository {mirror.shown} has submodules ({', '.join(submodules)}), which source.git does not fetch. "
            "Deploy a checkout that has them with source.path, or list them in source.exclude."
        )
