# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pack an app's source into one deterministic tarball, and unpack it safely.

``build`` runs on the controller, ``unpack`` on the hosts. The same tree gives the same bytes on any machine, whatever
the source was (a directory, a git commit, an archive), so the SHA-256 of the tarball identifies the code.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# Part of every cache key: raise it when the bytes of a tarball change for the same tree.
FORMAT = 1

# Never part of an app, wherever they lie (files that git tracks are kept whatever their name).
EXCLUDED_NAMES = frozenset(
    {
        ".git",
        "__pycache__",
        ".venv",
        ".tox",
        ".nox",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        "node_modules",
    }
)
EXCLUDED_SUFFIXES = (".pyc", ".pyo", ".egg-info")

# The modification time of a file in the tarball is taken from its content, somewhere in 1980 to 2019. nginx makes the
# ETag of a static file from its time and size: so it is the same on every host and in every release that has the same
# content, and changes with the content. With one constant time, a change that keeps the size would answer 304 Not
# Modified with the old page; with real times, every deploy and every host would have an ETag of its own.
_MTIME_FIRST = 315_532_800  # 1980-01-01
_MTIME_RANGE = 40 * 365 * 86_400

_LARGE = 16 * 1024 * 1024  # bytes; larger files are streamed, not read at once
_KEEP_ARTIFACTS = 30 * 86_400  # seconds that an unused tarball stays in the cache

# Part of the key of a tarball that is remembered: raise it when more sources are refused than before.
_REFUSALS = 2

# What Git LFS puts in a file's place (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md): short lines of key and
# value, the version first, the content's digest among them. The other versions are those from before its release.
_POINTER_BYTES = 1024
_POINTER = re.compile(
    rb"version (?:https://git-lfs\.github\.com/spec/v1|https://hawser\.github\.com/spec/v1|http://git-media\.io/v/2)\r?\n"
    rb"(?:[a-z0-9.-]+ [^\r\n]*\r?\n)*?oid sha256:[0-9a-f]+(?:\r?\n[a-z0-9.-]+ [^\r\n]*)*(?:\r?\n)?"
)

_GIT_LOCAL_ENV = (
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


class SourceError(Exception):
    """The source cannot be packed or unpacked. The message is for the user, in full sentences, without credentials."""


@dataclass(frozen=True)
class Artifact:
    """A packed source.

    :ivar path: the tarball, ``<cache>/artifacts/<sha256>.tar``, or the archive of an image; None for an image that a
        registry has.
    :ivar sha256: hex digest of the tarball, or the digest of the image.
    :ivar source: facts about where it comes from: ``kind`` and, where they apply, ``path``, ``url`` (without
        credentials), ``version``, ``commit``, ``dirty``, ``requirement``, ``checksum``, ``subdir``.
    """

    path: Path | None
    sha256: str
    source: dict[str, Any]


def masked(text: str) -> str:
    """Return ``text`` without the credentials of the URLs in it (user, password, token, query values)."""

    def userinfo(match: re.Match[str]) -> str:
        scheme, user = match[1], match[2]
        if scheme.lower() in ("ssh://", "git+ssh://") and ":" not in user:
            return match[0]
        return f"{scheme}***@"

    text = re.sub(r"(?i)([a-z][a-z0-9+.-]*://)([^/\s'\"]*)@", userinfo, text)
    return re.sub(r"(?i)([a-z][a-z0-9+.-]*://[^\s'\"?]*\?)[^\s'\"]+", r"\1***", text)


# --------------------------------------------------------------------------------------------------------- build


def build(source: Mapping[str, Any], cache: Path) -> Artifact:
    """Pack ``source`` into ``cache`` and return the artifact.

    :param source: exactly one of ``path``, ``git`` (with ``version``), ``archive`` (with ``checksum``), ``package``;
        ``subdir`` and ``exclude`` (glob patterns, see ``excluder``) as far as they are given.
    :param cache: a directory of the controller; made when missing. Several processes may use it at once.
    :raises SourceError: the source does not exist, is not allowed, or cannot be read.
    """
    cache = Path(cache)
    kinds = {"path": _from_path, "git": _from_git, "archive": _from_archive, "package": _from_package}
    given = [kind for kind in kinds if source.get(kind)]
    if len(given) != 1:
        raise SourceError(
            f"The source of an app is exactly one of {', '.join(kinds)}; "
            f"{'none of them is' if not given else ' and '.join(given) + ' are'} given."
        )
    try:
        for directory in ("artifacts", "index", "locks"):
            (cache / directory).mkdir(parents=True, exist_ok=True)
        return kinds[given[0]](source, cache)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(
                f"There is no space left below {cache}, where the source is packed. Free some and run again."
            ) from error
        where = masked(str(error.filename)) if error.filename else str(cache)
        raise SourceError(f"The source cannot be packed: {where}: {error.strerror or error}.") from error


def _from_path(source: Mapping[str, Any], cache: Path) -> Artifact:
    top = Path(os.path.expanduser(str(source["path"])))
    if not top.is_dir():
        problem = "is not a directory" if top.exists() else "does not exist on the controller"
        raise SourceError(f"source.path {str(top)!r} {problem}. It names the directory that holds the app's code.")
    root = _subdirectory(top, source.get("subdir"), f"source.path {str(top)!r}")
    facts: dict[str, Any] = {"kind": "path", "path": str(top)}
    with contextlib.ExitStack() as stack:
        version = _WorkTree.of(root)
        if version:
            stack.callback(version.close)
        names = version.files() if version else None
        if version and names is not None:
            facts.update(version.facts())
        if not names:
            names = list(_walk(str(root)))
    return _pack(root, names, source, facts, cache)


def _from_package(source: Mapping[str, Any], cache: Path) -> Artifact:
    requirement, version = pinned(str(source["package"]))
    facts = {"kind": "package", "requirement": requirement, "version": version}
    with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
        Path(tree, "requirements.txt").write_text(requirement + "\n", encoding="utf-8")
        return _pack(Path(tree), ["requirements.txt"], {}, facts, cache)


def pinned(requirement: str) -> tuple[str, str]:
    """Return ``(requirement, version)`` of a requirement that always means the same code.

    :param requirement: such as ``httpbin[mainapp]==0.10.4`` or ``shop @ https://example.org/shop-1.0.tar.gz``;
        ``--hash=`` options may follow.
    :raises SourceError: it is not pinned, is not one requirement, or holds credentials.
    """
    text = requirement.strip()
    name = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[A-Za-z0-9._,\s-]*\])?"
    rest = r"(?:\s*;[^\n]*?)?(?:\s+--hash=[a-z0-9]+:[0-9a-f]+)*"
    if any(ord(character) < 32 for character in text):
        raise SourceError("source.package is one requirement on one line, such as 'httpbin==0.10.4'.")
    if match := re.fullmatch(rf"{name}\s*===?\s*(?P<version>[A-Za-z0-9][A-Za-z0-9._+!-]*){rest}", text):
        return text, match["version"]
    if match := re.fullmatch(rf"{name}\s*@\s*(?P<url>[a-z][a-z0-9+.-]*://\S+){rest}", text):
        if masked(match["url"]).partition("***@")[1]:
            raise SourceError(
                f"source.package {masked(text)!r} holds credentials, which would be written into the release. "
                "Give them to the installer instead: python.index_url of the app, or python_index_url of the host."
            )
        return text, masked(match["url"])
    hint = re.match(name, text)
    raise SourceError(
        f"source.package {masked(text)!r} is not pinned, and a release must always mean the same code. Write the "
        f"version, as in '{(hint[0].strip() if hint else 'httpbin')}==1.2.3', or a direct reference, as in "
        "'shop @ https://example.org/shop-1.2.3.tar.gz'."
    )


def _subdirectory(top: Path, subdir: Any, what: str) -> Path:
    """Return the directory ``subdir`` of ``top``; it has to exist and to lie in it."""
    if not subdir or str(subdir).strip("/") in ("", "."):
        return top
    relative = str(subdir)
    if relative.startswith("/") or ".." in relative.split("/"):
        raise SourceError(f"source.subdir {relative!r} is a path inside the source: relative, and without '..'.")
    root = top / relative
    if not root.is_dir():
        there = sorted(entry.name for entry in os.scandir(top) if entry.is_dir() and entry.name not in EXCLUDED_NAMES)
        near = difflib.get_close_matches(relative.strip("/"), there, 3, 0.5) or there[:10]
        raise SourceError(
            f"source.subdir {relative!r} is not a directory of {what}. "
            f"There {'is' if len(near) == 1 else 'are'}: {', '.join(near) or 'no directories'}."
        )
    if not _inside(os.path.realpath(root), os.path.realpath(top)):
        raise SourceError(f"source.subdir {relative!r} is a link that leads out of {what}.")
    return root


def _inside(path: str, root: str) -> bool:
    """Whether the real path ``path`` is the real path ``root`` or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def excluder(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that says whether a relative path is excluded by ``patterns``.

    As in a ``.gitignore``: a pattern without a slash matches a file or directory of that name at any depth, one with
    a slash is anchored at the top; ``*`` and ``?`` stay within one name, ``**`` does not; what lies in an excluded
    directory is excluded, and a trailing slash matches directories only.
    """
    anywhere: list[str] = []
    for pattern in patterns:
        body = str(pattern).strip()
        directory = body.endswith("/")
        body = body.rstrip("/")
        anchored = "/" in body
        body = body.lstrip("/")
        if not body:
            continue
        regex, index = "", 0
        while index < len(body):
            if body.startswith("**/", index):
                regex, index = regex + "(?:.*/)?", index + 3
            elif body.startswith("**", index):
                regex, index = regex + ".*", index + 2
            elif body[index] == "*":
                regex, index = regex + "[^/]*", index + 1
            elif body[index] == "?":
                regex, index = regex + "[^/]", index + 1
            elif body[index] == "[" and "]" in body[index + 2 :]:
                end = body.index("]", index + 2)
                inner = body[index + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
                inner = "^" + inner[1:] if inner[0] in "!^" else inner
                regex, index = regex + f"[{inner}]", end + 1
            else:
                regex, index = regex + re.escape(body[index]), index + 1
        anywhere.append(("" if anchored else "(?:.*/)?") + regex + ("/.*" if directory else "(?:/.*)?"))
    if not anywhere:
        return lambda name: False
    try:
        compiled = re.compile("|".join(f"(?:{regex})" for regex in anywhere), re.DOTALL)
    except re.error as error:
        raise SourceError(f"source.exclude holds a malformed pattern: {error}.") from error
    return lambda name: compiled.fullmatch(name) is not None


# ---------------------------------------------------------------------------------------------- trees on the disk


def _excluded_name(name: str) -> bool:
    return name in EXCLUDED_NAMES or name.endswith(EXCLUDED_SUFFIXES)


def _walk(root: str, prefix: str = "") -> Iterator[str]:
    """Yield the files and links below ``root``, relative to it, without caches, virtualenvs and repositories."""
    with os.scandir(os.path.join(root, prefix) if prefix else root) as entries:
        for entry in entries:
            if _excluded_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield from _walk(root, f"{prefix}{entry.name}/")
            elif entry.is_symlink() or entry.is_file():
                yield prefix + entry.name


def _git_env() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _GIT_LOCAL_ENV}
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0")
    return env


def _git_missing() -> SourceError:
    return SourceError("The source needs git on the controller, and there is none. Install it and run again.")


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
        env = _git_env()
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
                any(_excluded_name(part) for part in name.rstrip("/").split("/")) or self._virtualenv(name, virtualenvs)
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
                names.update(f"{name.rstrip('/')}/{file}" for file in (inner or _walk(path)))
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


# -------------------------------------------------------------------------------------------------- the tarball


class _Hashing:
    """A file that is written to and hashed in one go."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def _pack(root: Path, names: Iterable[str], source: Mapping[str, Any], facts: dict[str, Any], cache: Path) -> Artifact:
    """Write the files ``names`` of ``root`` as a tarball into ``cache``."""
    excluded = excluder(source.get("exclude") or ())
    chosen = sorted((name for name in names if not excluded(name)), key=os.fsencode)
    if not chosen:
        raise SourceError(
            f"The source {masked(str(facts.get('path') or facts.get('url') or root))!r} holds no files"
            f"{' that source.exclude leaves' if source.get('exclude') else ''}: there is nothing to deploy."
        )
    if source.get("subdir"):
        facts["subdir"] = str(source["subdir"])
    real = os.path.realpath(root)
    artifacts = cache / "artifacts"
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix=".tar", dir=artifacts)
    try:
        with os.fdopen(handle, "wb") as file:
            out = _Hashing(file)
            with tarfile.open(mode="w|", fileobj=out, format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:  # type: ignore[call-overload]
                pointers = [name for name in chosen if _add(tar, real, name)]
        if pointers:
            raise _large_files_missing(pointers, str(facts["kind"]))
        sha256 = out.sha256.hexdigest()
        path = artifacts / f"{sha256}.tar"
        if path.exists():
            os.utime(path)
        else:
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            _tidy(artifacts)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return Artifact(path, sha256, facts)


def _large_files_missing(pointers: Sequence[str], kind: str) -> SourceError:
    shown = ", ".join(pointers[:5]) + (f" and {len(pointers) - 5} more" if len(pointers) > 5 else "")
    advice = {
        "git": "source.git does not fetch them: deploy a checkout in which 'git lfs pull' was run with source.path",
        "path": "Run 'git lfs pull' there and deploy again",
        "archive": "Make the archive from a checkout in which 'git lfs pull' was run",
    }
    return SourceError(
        f"{len(pointers)} file{'s' if len(pointers) > 1 else ''} of the source {'are' if len(pointers) > 1 else 'is'} in Git "
        f"LFS and not here ({shown}): visitors would get the short pointer {'files' if len(pointers) > 1 else 'file'} instead of "
        f"the content. {advice.get(kind, advice['path'])}, or list what the app does not need in source.exclude."
    )


def _add(tar: tarfile.TarFile, root: str, name: str) -> bool:
    """Add the file or link ``name`` of ``root``, with nothing of this machine in its header.

    :returns: whether it is a pointer of Git LFS in place of the file.
    """
    path = os.path.join(root, name)
    info = tarfile.TarInfo(name)
    try:
        if os.path.islink(path):
            target = os.readlink(path)
            if os.path.isabs(target) or not _inside(os.path.realpath(path), root):
                raise SourceError(
                    f"The source holds a link that leads out of it: {name} -> {target}. Only links to other files of "
                    "the source can be deployed, as relative paths. Replace it, or list it in source.exclude."
                )
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            info.mtime = _mtime(hashlib.sha256(os.fsencode(target)))
            tar.addfile(info)
            return False
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            info.mode = 0o755 if status.st_mode & 0o100 else 0o644
            if status.st_size > _LARGE:
                info.mtime = _mtime(hashlib.file_digest(file, "sha256"))
                info.size = file.tell()
                file.seek(0)
                tar.addfile(info, file)
            else:
                data = file.read()
                info.mtime, info.size = _mtime(hashlib.sha256(data)), len(data)
                tar.addfile(info, _Once(data))  # type: ignore[arg-type]
                return len(data) <= _POINTER_BYTES and data.startswith(b"version ") and bool(_POINTER.fullmatch(data))
            return False
    except (FileNotFoundError, PermissionError) as error:
        raise SourceError(f"The file {name} of the source cannot be read: {error.strerror}.") from error


class _Once:
    """Bytes to be read from the start to the end; what tarfile needs of a file, without a copy."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at += size
        return part


def _mtime(digest: Any) -> int:
    return _MTIME_FIRST + int.from_bytes(digest.digest()[:8], "big") % _MTIME_RANGE


def _tidy(artifacts: Path) -> None:
    """Remove tarballs that nobody used for a month, and what dead runs left."""
    now = time.time()
    with os.scandir(artifacts) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if age > (86_400 if entry.name.startswith(".") else _KEEP_ARTIFACTS):
                    os.unlink(entry.path)


# ------------------------------------------------------------------------------------------------------- caching


@contextlib.contextmanager
def _locked(cache: Path, key: str) -> Iterator[None]:
    """Hold the lock ``key`` of the cache; other processes wait for it."""
    with open(cache / "locks" / key, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:32]


def _remembered(cache: Path, key: str) -> str | None:
    """Return the SHA-256 of the tarball that ``key`` gave before, when it is still there."""
    try:
        known = json.loads((cache / "index" / key).read_text(encoding="utf-8"))
        path = cache / "artifacts" / f"{known['sha256']}.tar"
        if path.stat().st_size != known["size"]:
            return None
        os.utime(path)
        return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(cache: Path, key: str, artifact: Artifact) -> Artifact:
    packed = cache / "artifacts" / f"{artifact.sha256}.tar"
    known = {"sha256": artifact.sha256, "size": packed.stat().st_size}
    temporary = cache / "index" / f".{key}-{os.getpid()}"
    temporary.write_text(json.dumps(known), encoding="utf-8")
    os.replace(temporary, cache / "index" / key)
    return artifact


def _selection(source: Mapping[str, Any]) -> list[Any]:
    """What of ``source`` chooses among the files of a commit or an archive."""
    return [str(source.get("subdir") or "").strip("/"), sorted(str(item) for item in source.get("exclude") or ())]


# ----------------------------------------------------------------------------------------------------------- git


class _Mirror:
    """The bare copy of a repository in the cache."""

    def __init__(self, url: str, cache: Path) -> None:
        self.shown = masked(url)
        # Credentials go to git in its environment, where only this user can read them, not on its command line.
        self.url, header = _without_credentials(url)
        self.path = cache / "git" / f"{_key('git', self.shown)[:16]}.git"
        self.env = _git_env()
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


def _without_credentials(url: str) -> tuple[str, str]:
    """Return the http(s) URL without its userinfo, and the header that replaces it (or an empty string)."""
    parts = urllib.parse.urlsplit(url) if "://" in url else None
    if not parts or parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, ""
    userinfo, _at, host = parts.netloc.rpartition("@")
    user, _colon, password = userinfo.partition(":")
    token = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
    return (
        urllib.parse.urlunsplit(parts._replace(netloc=host)),
        "Authorization: Basic " + base64.b64encode(token.encode()).decode(),
    )


def _run(words: Sequence[str], env: Mapping[str, str], *, check: bool = True) -> bytes:
    """Run git and return its output; a failure raises SourceError with git's own words."""
    try:
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        raise _git_missing() from None
    if done.returncode:
        if not check:
            return b""
        lines = masked(done.stderr.decode(errors="replace")).strip().splitlines()
        said = " / ".join(line.strip() for line in lines[-6:] if line.strip()) or f"exit code {done.returncode}"
        raise SourceError(f"git says: {said.rstrip('.')}.")
    return done.stdout


def _from_git(source: Mapping[str, Any], cache: Path) -> Artifact:
    url = str(source["git"])
    version = str(source.get("version") or "")
    if url.startswith("-") or version.startswith("-") or "ext::" in url:
        raise SourceError(f"source.git {masked(url)!r} with version {version!r} is not a repository and a version.")
    mirror = _Mirror(os.path.expanduser(url) if "://" not in url else url, cache)
    with _locked(cache, mirror.path.name):
        mirror.prepare()
        commit = mirror.resolve(version)
        facts = {"kind": "git", "url": mirror.shown, "version": version or "HEAD", "commit": commit}
        if source.get("subdir"):
            facts["subdir"] = str(source["subdir"])
        key = _key("git", mirror.shown, commit, _selection(source), _REFUSALS)
        if sha256 := _remembered(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, facts)
        _refuse_submodules(mirror, commit, source)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            exported = Path(tree, "export.tar")
            mirror.git("archive", "--format=tar", f"--output={exported}", commit)
            top = Path(tree, "tree")
            unpack(exported, top)
            root = _subdirectory(top, source.get("subdir"), f"{mirror.shown} at {facts['version']}")
            return _remember(cache, key, _pack(root, _everything(root), source, facts, cache))


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


def _everything(root: Path) -> list[str]:
    """Return all files and links below ``root``, relative to it."""
    names: list[str] = []
    for directory, directories, files in os.walk(root):
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        names.extend(os.path.relpath(os.path.join(directory, name), root) for name in files + links)
    return names


# ------------------------------------------------------------------------------------------------------- archive


def _from_archive(source: Mapping[str, Any], cache: Path) -> Artifact:
    given = str(source["archive"])
    checksum = str(source.get("checksum") or "").strip()
    algorithm, _colon, expected = checksum.lower().partition(":")
    lengths = {"sha256": 64, "sha384": 96, "sha512": 128}
    if checksum and not re.fullmatch(rf"[0-9a-f]{{{lengths.get(algorithm, 0) or 1}}}", expected):
        raise SourceError(
            f"source.checksum {checksum!r} is not 'sha256:' and 64 hexadecimal digits (sha384 and sha512 work too)."
        )
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    facts: dict[str, Any] = {"kind": "archive"}
    with contextlib.ExitStack() as stack:
        if scheme in ("http", "https"):
            if not checksum:
                raise SourceError(
                    f"source.archive {masked(given)} is fetched from elsewhere and has no checksum. Add source.checksum, "
                    "'sha256:' and the digest that its publisher states, so that it always means the same code."
                )
            facts["url"] = masked(given)
            stack.enter_context(_locked(cache, f"archive-{expected[:32]}"))
            path = _download(given, algorithm, expected, cache)
        elif scheme in ("", "file"):
            path = Path(
                urllib.request.url2pathname(urllib.parse.urlsplit(given).path) if scheme else os.path.expanduser(given)
            )
            facts["path"] = str(path)
            if not path.is_file():
                raise SourceError(f"source.archive {str(path)!r} is not a file on the controller.")
            if checksum:
                _verify(path, algorithm, expected, str(path))
        else:
            raise SourceError(f"source.archive {masked(given)!r} is not a file, nor a URL of http or https.")
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts["checksum"] = checksum or f"sha256:{digest}"
        facts["version"] = os.path.basename(urllib.parse.urlsplit(given).path if scheme else given)
        key = _key("archive", digest, _selection(source), _REFUSALS)
        if source.get("subdir"):
            facts["subdir"] = str(source["subdir"])
        if sha256 := _remembered(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, facts)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            top = Path(tree, "tree")
            shown = facts.get("url") or facts["path"]
            try:
                if zipfile.is_zipfile(path):
                    with zipfile.ZipFile(path) as archive:
                        _extract(_zip_members(archive), top)
                else:
                    unpack(path, top)
            except SourceError as error:
                raise SourceError(f"source.archive {shown}: {error}") from error
            inner = [entry for entry in os.scandir(top) if entry.name not in ("__MACOSX", "pax_global_header")]
            if len(inner) == 1 and inner[0].is_dir(follow_symlinks=False):
                top = Path(inner[0].path)
            root = _subdirectory(top, source.get("subdir"), f"source.archive {shown}")
            return _remember(cache, key, _pack(root, _everything(root), source, facts, cache))


def _verify(path: Path, algorithm: str, expected: str, shown: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise SourceError(
            f"source.archive {shown} has not the checksum that was stated: expected {algorithm}:{expected}, found "
            f"{algorithm}:{found}. Somebody changed the file, or the checksum is of another one; nothing was deployed."
        )


def _download(url: str, algorithm: str, expected: str, cache: Path) -> Path:
    """Return the file behind ``url``, fetched once; the environment's proxies and SSL_CERT_FILE are honoured."""
    directory = cache / "downloads"
    directory.mkdir(exist_ok=True)
    path = directory / expected
    if path.exists():
        with contextlib.suppress(SourceError):
            _verify(path, algorithm, expected, str(path))
            return path
    plain, header = _without_credentials(url)
    request = urllib.request.Request(plain, headers={"User-Agent": "flaskops.server"})
    if header:  # not sent on to wherever the server redirects
        request.add_unredirected_header(*header.split(": ", 1))
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=directory)
    try:
        context = ssl.create_default_context()
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(
                request, timeout=60
            ) as answer,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
        _verify(Path(temporary), algorithm, expected, masked(url))
        os.replace(temporary, path)
    except urllib.error.HTTPError as error:
        raise SourceError(f"source.archive {masked(url)} cannot be fetched: {error.code} {error.reason}.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = masked(str(getattr(error, "reason", error)))
        raise SourceError(
            f"source.archive {masked(url)} cannot be fetched by the controller: {reason}. Check the URL, the proxy "
            "(HTTPS_PROXY, NO_PROXY) and the certificate authorities (SSL_CERT_FILE)."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path


# -------------------------------------------------------------------------------------------------------- unpack


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

    Files become 0755 or 0644, directories 0755; owners and special bits of the archive are not taken over. On a
    failure ``dest`` may hold a part: the caller removes it.

    :raises SourceError: it is no tar archive, or holds an absolute path, ``..``, a link that leads out, a device, a
        FIFO, or an entry below something that is not a directory.
    """
    try:
        with tarfile.open(tarball, "r:*") as tar:
            _extract(_tar_members(tar), Path(dest))
    except (tarfile.TarError, EOFError, zipfile.BadZipFile) as error:
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


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    assert file is not None
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
                read=functools.partial(_opened, tar, info),
            )
        else:
            kind = "a device" if info.isdev() and not info.isfifo() else "a FIFO" if info.isfifo() else "a special file"
            raise SourceError(
                f"The archive holds {kind}, {info.name!r}: only files, directories and links can be used."
            )


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 0x1:
            raise SourceError("The archive is encrypted.")
        if info.is_dir():
            yield _Member(info.filename, "directory")
        elif stat.S_ISLNK(mode):
            yield _Member(info.filename, "symlink", target=os.fsdecode(archive.read(info)))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            yield _Member(info.filename, "file", bool(mode & 0o100), read=functools.partial(archive.open, info))
        else:
            raise SourceError(f"The archive holds a special file, {info.filename!r}: only files and links can be used.")


def _extract(members: Iterable[_Member], dest: Path) -> None:
    """Write ``members`` below ``dest``. Links are made last, so that nothing is written through one."""
    dest.mkdir(parents=True, exist_ok=True)
    os.chmod(dest, 0o755)
    if any(os.scandir(dest)):
        raise SourceError(f"The directory {dest} is not empty.")
    root = os.path.realpath(dest)
    directories = {""}
    links: dict[str, _Member] = {}

    def directory(name: str) -> None:
        if name not in directories:
            directory(os.path.dirname(name))
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
        name = _safe(member.name)
        if member.kind == "directory":
            directory(name)
            continue
        directory(os.path.dirname(name))
        path = os.path.join(root, name)
        if name in links or name in directories or not name:
            raise SourceError(f"The archive holds {member.name!r} twice.")
        if member.kind == "symlink":
            if os.path.lexists(path):
                raise SourceError(f"The archive holds {member.name!r} twice.")
            links[name] = member
            continue
        if member.kind == "hardlink":
            origin = _safe(member.target)
            origin_path = os.path.join(root, origin)
            if origin in links or not os.path.isfile(origin_path):
                raise SourceError(f"The archive holds a hard link to what it does not hold: {name} -> {origin}.")
            if os.path.lexists(path):
                raise SourceError(f"The archive holds {member.name!r} twice.")
            shutil.copy2(origin_path, path, follow_symlinks=False)
            continue
        assert member.read is not None
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
            raise _leads_out(name, member.target)
        os.symlink(member.target, os.path.join(root, name))
    for name, member in links.items():  # all at once: a link may lead through another one
        path = os.path.join(root, name)
        if not _inside(os.path.realpath(path), root):
            os.unlink(path)
            raise _leads_out(name, member.target)
        if member.mtime is not None:
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _leads_out(name: str, target: str) -> SourceError:
    return SourceError(f"The archive holds a link that leads out of it: {name} -> {target}.")


def _safe(name: str) -> str:
    """Return the normalised relative name of an archive's entry."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SourceError(f"The archive holds an entry that would be written outside of it: {name!r}.")
    return "/".join(parts)
