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
    credentials_as_header,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import (
    key_of,
    key_of_tarball,
    locked,
    remember,
    remembered,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import excluder
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import everything, subdirectory
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack

_LOCAL = (
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


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0")
    return env


def git_missing() -> SourceError:
    return SourceError("The source needs git on the controller, and there is none. Install it and run again.")


class _Mirror:
    """The bare copy of a repository in the cache."""

    def __init__(self, url: str, cache: Path) -> None:
        self.shown = masked(url)
        # Credentials go to git in its environment, where only this user can read them, not on its command line.
        self.url, header = credentials_as_header(url)
        self.path = cache / "git" / f"{key_of('git', self.shown)[:16]}.git"
        self.env = environment()
        # Its filter, where it is installed, would look for a remote that the mirror does not have.
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
            ssh = self.env.get("GIT_SSH_COMMAND") or self._configured("core.sshCommand") or "ssh"
            self.env["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes -o ConnectTimeout=30"

    def _configured(self, name: str) -> str:
        return _run(["git", "config", "--get", name], self.env, check=False).decode().strip()

    def git(self, *words: str, check: bool = True) -> bytes:
        return _run(["git", "--git-dir", str(self.path), *words], self.env, check=check)

    def prepare(self) -> None:
        if not (self.path / "HEAD").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _run(["git", "init", "--quiet", "--bare", str(self.path)], self.env)

    def has(self, commit: str) -> bool:
        return bool(self.git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", check=False))

    def remote(self, *words: str) -> bytes:
        """Run a git command that talks to the repository."""
        try:
            return self.git(*words)
        except SourceError as error:
            raise SourceError(
                f"The git repository {self.shown} cannot be read by the controller: {error} Check the URL and that "
                "this user may read it without being asked (an SSH agent or key, or a credential helper)."
            ) from error

    def fetch(self) -> None:
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self.remote("fetch", "--quiet", "--force", "--prune", "--no-write-fetch-head", self.url, *refs)

    def resolve(self, version: str) -> str:
        """Return the full commit of ``version``: a tag, a branch, a commit; ``""`` is the remote's HEAD."""
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", version):
            if not self.has(version):
                self.fetch()
            if not self.has(version):
                self.git("fetch", "--quiet", "--no-write-fetch-head", self.url, version, check=False)
            if self.has(version):
                return self._commit(version)
            raise SourceError(f"The git repository {self.shown} has no commit {version}. Was it pushed?")
        listed = self.remote("ls-remote", self.url).decode(errors="replace")
        refs = {name: oid for oid, _tab, name in (line.partition("\t") for line in listed.splitlines())}
        names = ["HEAD"] if not version else [f"refs/tags/{version}", f"refs/heads/{version}", version]
        for name in names:
            if name in refs and (name.startswith("refs/") or name == "HEAD"):
                oid = refs.get(f"{name}^{{}}", refs[name])
                if not self.has(oid):
                    self.fetch()
                if not self.has(oid):  # a ref that is neither a branch nor a tag
                    self.git("fetch", "--quiet", "--no-write-fetch-head", self.url, name, check=False)
                return self._commit(oid)
        if not version:
            raise SourceError(f"The git repository {self.shown} is empty or has no HEAD. Name a source.version.")
        if re.fullmatch(r"[0-9a-f]{4,63}", version):
            for attempt in (1, 2):
                if self.has(version):
                    return self._commit(version)
                if attempt == 1:
                    self.fetch()
        raise SourceError(self._no_such(version, list(refs)))

    def _commit(self, oid: str) -> str:
        return self.git("rev-parse", "--verify", f"{oid}^{{commit}}").decode().strip()

    def _no_such(self, version: str, refs: Sequence[str]) -> str:
        near = []
        for kind, prefix in (("tags", "refs/tags/"), ("branches", "refs/heads/")):
            names = [name[len(prefix) :] for name in refs if name.startswith(prefix) and not name.endswith("^{}")]
            close = difflib.get_close_matches(version, names, 5, 0.4) or names[-5:]
            near.append(f"{kind}: {', '.join(close) or 'none'}")
        return (
            f"The git repository {self.shown} has no tag, branch or commit {version!r} (source.version). "
            f"The nearest {'; '.join(near)}."
        )


def _run(words: Sequence[str], env: Mapping[str, str], *, check: bool = True) -> bytes:
    """Run git and return its output; a failure raises SourceError with git's own words."""
    try:
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise git_missing() from None
    if done.returncode:
        if not check:
            return b""
        lines = masked(done.stderr.decode(errors="replace")).strip().splitlines()
        said = " / ".join(line.strip() for line in lines[-6:] if line.strip()) or f"exit code {done.returncode}"
        raise SourceError(f"git says: {said.rstrip('.')}.")
    return done.stdout


def from_git(source: Mapping[str, Any], cache: Path) -> Artifact:
    url = str(source["git"])
    version = str(source.get("version") or "")
    if url.startswith("-") or version.startswith("-") or "ext::" in url:
        raise SourceError(f"source.git {masked(url)!r} with version {version!r} is not a repository and a version.")
    mirror = _Mirror(os.path.expanduser(url) if "://" not in url else url, cache)
    with locked(cache, mirror.path.name):
        mirror.prepare()
        commit = mirror.resolve(version)
        facts = {"kind": "git", "url": mirror.shown, "version": version or "HEAD", "commit": commit}
        if source.get("subdir"):
            facts["subdir"] = str(source["subdir"])
        key = key_of_tarball(source, "git", mirror.shown, commit)
        if sha256 := remembered(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, facts)
        _refuse_submodules(mirror, commit, source)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            exported = Path(tree, "export.tar")
            mirror.git("archive", "--format=tar", f"--output={exported}", commit)
            top = Path(tree, "tree")
            unpack(exported, top)
            root = subdirectory(top, source.get("subdir"), f"{mirror.shown} at {facts['version']}")
            return remember(cache, key, pack(root, everything(root), source, facts, cache))


def _refuse_submodules(mirror: _Mirror, commit: str, source: Mapping[str, Any]) -> None:
    subdir = str(source.get("subdir") or "").strip("/")
    excluded = excluder(source.get("exclude") or ())
    listed = mirror.git("ls-tree", "-r", "-z", commit, "--", *([subdir] if subdir else []))
    found = []
    for entry in listed.split(b"\0"):
        if entry.startswith(b"160000 "):
            name = os.fsdecode(entry.partition(b"\t")[2])
            if not excluded(name[len(subdir) + 1 :] if subdir else name):
                found.append(name)
    if found:
        raise SourceError(
            f"The git repository {mirror.shown} has submodules ({', '.join(found)}), which source.git does not fetch. "
            "Deploy a checkout that has them with source.path, or list them in source.exclude."
        )
