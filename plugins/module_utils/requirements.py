# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what an unpacked app needs installed, and name it by a digest. Reads files, changes nothing."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORDER = ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml")

_SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules", "build", "dist"})
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))(?P<file>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(?P<target>\S.*)")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class RequirementsError(Exception):
    """What the app says about its requirements cannot be used. The message is for the user, in full sentences."""


@dataclass(frozen=True)
class Requirements:
    """What an app needs installed.

    :ivar kind: ``uv.lock``, ``pylock.toml``, ``requirements.txt`` (of any name), ``pyproject.toml`` or ``none``.
    :ivar file: the file it comes from, relative to the app; several are joined by ``", "``; None for ``none``.
    :ivar digest: SHA-256 hex over everything that the install reads from the app.
    :ivar files: the same as ``file``, one by one.
    :ivar constraints: the constraints file, relative to the app, or None.
    :ivar editable: a requirements file asks for an editable install.
    """

    kind: str
    file: str | None
    digest: str
    files: tuple[str, ...] = ()
    constraints: str | None = None
    editable: bool = False


def find(app: Path, python: Mapping[str, Any]) -> Requirements:
    """Return the requirements of the app in the directory ``app``.

    ``python.requirements`` names a file or several; otherwise the first of ``ORDER`` that the app has is taken (a
    ``pyproject.toml`` only when it declares dependencies).

    :param python: the app's python options; ``requirements``, ``extras``, ``constraints``, ``require_hashes`` and
        ``find_links`` are read here.
    :raises RequirementsError: a file is missing, malformed or leads out of the app, or options contradict it.
    """
    app = Path(app)
    root = os.path.realpath(app)
    explicit = _strings(python.get("requirements"))
    if explicit:
        files = tuple(_relative(root, name, "python.requirements") for name in explicit)
        kinds = [_kind(name) for name in files]
        if len(files) > 1 and set(kinds) != {"requirements.txt"}:
            raise RequirementsError(
                f"python.requirements names {', '.join(files)}: several files work for requirements files only, "
                "a lock or a pyproject.toml stands alone."
            )
        kind = kinds[0]
        if kind == "pyproject.toml" and not _declares(_toml(root, files[0]), files[0]):
            raise RequirementsError(f"python.requirements names {files[0]}, which has no [project] table.")
    else:
        kind, files = _discover(root)
    extras = _strings(python.get("extras"))
    if extras and kind in ("requirements.txt", "none"):
        raise RequirementsError(
            f"python.extras ({', '.join(extras)}) needs a uv.lock, pylock.toml or pyproject.toml that defines them; "
            f"this app is installed from {files[0] if files else 'no requirements at all'}."
        )
    if python.get("require_hashes") and kind in ("pyproject.toml", "none") and files:
        raise RequirementsError(
            f"python.require_hashes is set, and {files[0]} has no hashes. Add a lock: 'uv lock' writes uv.lock."
        )
    constraints = None
    if python.get("constraints"):
        constraints = _relative(root, str(python["constraints"]), "python.constraints")

    tree = _Reading(root)
    if kind == "requirements.txt":
        for name in files:
            tree.requirements(name)
    elif kind == "pyproject.toml":
        tree.add("dependencies", json.dumps(dependencies(app, files[0], extras)).encode())
    elif kind != "none":
        tree.lock(files[0])
    if kind == "uv.lock":
        tree.project(os.path.join(os.path.dirname(files[0]), "pyproject.toml"))
    if constraints:
        tree.requirements(constraints)
    for directory in _strings(python.get("find_links")):
        tree.wheels(directory)
    return Requirements(
        kind=kind,
        file=", ".join(files) or None,
        digest=tree.digest(),
        files=files,
        constraints=constraints,
        editable=tree.editable,
    )


def _discover(root: str) -> tuple[str, tuple[str, ...]]:
    for name in ORDER:
        if os.path.isfile(os.path.join(root, name)):
            if name == "pyproject.toml" and not _declares(_toml(root, name), name):
                continue
            return name, (name,)
    return "none", ()


def _kind(name: str) -> str:
    base = os.path.basename(name)
    if base in ("uv.lock", "pyproject.toml"):
        return base
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", base):
        return "pylock.toml"
    if base.endswith((".lock", ".toml", ".cfg", ".yml", ".yaml")) or base in ("setup.py", "Pipfile"):
        raise RequirementsError(
            f"python.requirements names {name}, which is not a format that can be installed from: use one of "
            f"{', '.join(ORDER)} (requirements files may have any name that ends in .txt or .in)."
        )
    return "requirements.txt"


def _strings(value: Any) -> tuple[str, ...]:
    """Return an option that is a string, a list of strings or nothing as a tuple."""
    if not value:
        return ()
    return (str(value),) if isinstance(value, (str, os.PathLike)) else tuple(str(item) for item in value)


def _relative(root: str, name: str, option: str) -> str:
    """Return the normalised name of the file ``name`` of the app."""
    normal = os.path.normpath(name)
    if os.path.isabs(name) or normal.startswith("..") or not _within(os.path.join(root, normal), root):
        raise RequirementsError(
            f"{option} names {name!r}: it is the path of a file inside the app, relative to its top."
        )
    if not os.path.isfile(os.path.join(root, normal)):
        there = sorted(_candidates(root))
        near = difflib.get_close_matches(normal, there, 3, 0.5) or there[:10]
        raise RequirementsError(
            f"{option} names {name!r}, which the app does not have. It has: {', '.join(near) or 'no such file'}."
        )
    return normal


def _candidates(root: str) -> Iterator[str]:
    for directory in ("", "requirements"):
        path = os.path.join(root, directory)
        if os.path.isdir(path):
            for name in os.listdir(path):
                if name in ORDER or name.endswith((".txt", ".in")) or name.startswith("pylock"):
                    yield os.path.join(directory, name)


def _within(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return real == root or real.startswith(root + os.sep)


# ---------------------------------------------------------------------------------------------- pyproject.toml


def _toml(root: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(root, name), "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequirementsError(f"{name} of the app is not valid TOML: {error}.") from error


def _declares(project: Mapping[str, Any], name: str) -> bool:
    """Whether a pyproject.toml has a [project] table; one that only Poetry understands is refused."""
    if "project" in project:
        return True
    if "dependencies" in (project.get("tool") or {}).get("poetry", {}):
        raise RequirementsError(
            f"{name} of the app states its dependencies in Poetry's own table, [tool.poetry]. Export them "
            "('poetry export -o requirements.txt', from the plugin poetry-plugin-export) or move them to [project]."
        )
    return False


def dependencies(app: Path, file: str = "pyproject.toml", extras: Sequence[str] = ()) -> list[str]:
    """Return the requirements that a pyproject.toml declares, with those of ``extras``.

    :raises RequirementsError: they are dynamic, malformed, or an extra is not defined.
    """
    project = _toml(str(app), file).get("project") or {}
    dynamic = set(project.get("dynamic") or ())
    wanted = {"dependencies"} | ({"optional-dependencies"} if extras else set())
    if dynamic & wanted:
        raise RequirementsError(
            f"{file} of the app leaves {' and '.join(sorted(dynamic & wanted))} to its build backend (project.dynamic). "
            "Only stated dependencies can be read: add a requirements.txt or a lock ('uv lock' writes uv.lock)."
        )
    groups = {normalised(str(name)): items for name, items in (project.get("optional-dependencies") or {}).items()}
    own = normalised(str(project.get("name") or ""))
    found: list[str] = []
    seen: set[str] = set()

    def take(items: Any, where: str) -> None:
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise RequirementsError(f"{where} of {file} is not a list of strings.")
        for item in items:
            match = re.match(rf"\s*({_NAME.pattern})\s*(?:\[([^\]]*)\])?", item)
            if match and own and normalised(match[1]) == own:  # shop[postgres,mail] in one of shop's own extras
                for extra in (match[2] or "").split(","):
                    if extra.strip():
                        group(extra.strip())
            elif item.strip() not in found:
                found.append(item.strip())

    def group(extra: str) -> None:
        name = normalised(extra)
        if name in seen:
            return
        seen.add(name)
        if name not in groups:
            near = difflib.get_close_matches(name, groups, 1)
            raise RequirementsError(
                f"python.extras names {extra!r}, which {file} of the app does not define; it defines "
                f"{', '.join(sorted(groups)) or 'none'}.{f' Did you mean {near[0]!r}?' if near else ''}"
            )
        take(groups[name], f"project.optional-dependencies.{extra}")

    take(project.get("dependencies") or [], "project.dependencies")
    for extra in extras:
        group(extra)
    return found


def requires_python(app: Path, file: str) -> str | None:
    """Return ``requires-python`` of a pyproject.toml, when it states one."""
    value = (_toml(str(app), file).get("project") or {}).get("requires-python")
    return str(value) if value else None


def allows(specifier: str, version: str) -> bool:
    """Whether ``version`` (``3.13.5``) satisfies a ``requires-python`` specifier; what is not understood does.

    >>> allows(">=3.9,<4", "3.11.2"), allows("~=3.12", "3.11.2"), allows("==3.11.*", "3.11.2")
    (True, False, True)
    """

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text))

    have = numbers(version)[:3]
    for clause in specifier.split(","):
        match = re.fullmatch(r"\s*(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*", clause)
        if not match:
            continue
        operator, wanted, star = match[1], numbers(match[2]), bool(match[3])
        size = max(len(have), len(wanted))
        left, right = have + (0,) * (size - len(have)), wanted + (0,) * (size - len(wanted))
        equal = have[: len(wanted)] == wanted if star else left == right
        holds = {
            "==": equal,
            "!=": not equal,
            ">=": left >= right,
            "<=": left <= right,
            ">": left > right,
            "<": left < right,
            "~=": left >= right and have[: len(wanted) - 1] == wanted[:-1],
        }[operator]
        if not holds:
            return False
    return True


def normalised(name: str) -> str:
    """Return the name of a distribution or an extra as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------------ requirements files


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a requirements file that mean something, continued lines joined, comments removed."""
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            line = ""
        line = pending + line
        if line.endswith("\\"):
            pending = line[:-1].rstrip() + " "
            continue
        pending = ""
        line = re.sub(r"(^|\s+)#.*$", "", line).strip()
        if line:
            yield line
    if pending.strip():
        yield pending.strip()


def local_target(requirement: str) -> str | None:
    """Return the local path that a requirement installs from, without its extras; None for anything else."""
    text = requirement.strip()
    if direct := re.match(rf"{_NAME.pattern}\s*(?:\[[^\]]*\])?\s*@\s*(?P<url>\S+)", text):
        text = direct["url"]
    text = text.split(";")[0].strip()
    with_extras = re.fullmatch(r"(?P<path>.*?)(?:\[[^\]/]*\])?", text)
    path = with_extras["path"] if with_extras else text
    if path.startswith("file:"):
        return re.sub(r"^file:(//(localhost)?)?", "", path.split("#")[0])
    if "://" in path or path.startswith("-"):
        return None
    if path in (".", "..") or path.startswith(("./", "../", "/")) or ("/" in path and " " not in path):
        return path
    if path.endswith((".whl", ".tar.gz", ".zip")) and " " not in path:
        return path
    return None


def flattened(app: Path, files: Iterable[str]) -> str:
    """Return the requirements files as one, with editable installs made plain ones.

    A virtualenv is shared by every release with the same requirements, so it cannot point into one of them; and it is
    renamed when it is complete, so it cannot point into itself.
    """
    root = os.path.realpath(app)
    out: list[str] = []

    def take(name: str) -> None:
        for line in logical_lines(_text(root, name)):
            include = _INCLUDE.fullmatch(line)
            if include and "://" not in include["file"]:
                target = os.path.normpath(os.path.join(os.path.dirname(name), _unquoted(include["file"])))
                if include[1] in ("-r", "--requirement"):
                    take(target)
                else:
                    out.append(f"-c {os.path.join(root, target)}")
                continue
            if editable := _EDITABLE.fullmatch(line):
                line = _unquoted(editable["target"])
            if (path := local_target(line)) and line.startswith(path) and not os.path.isabs(path):
                line = os.path.normpath(os.path.join(root, path)) + line[len(path) :]
            out.append(line)

    for name in files:
        take(name)
    return "\n".join(out) + "\n"


def _unquoted(text: str) -> str:
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return text


def _text(root: str, name: str) -> str:
    with open(os.path.join(root, name), "rb") as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class _Reading:
    """Collects what an install reads, each part under its name."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.parts: dict[str, str] = {}
        self.editable = False

    def add(self, name: str, data: bytes) -> None:
        self.parts[name] = hashlib.sha256(data).hexdigest()

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def requirements(self, name: str, by: str = "") -> None:
        """Read a requirements or constraints file and what it includes."""
        if name in self.parts:
            return
        path = os.path.join(self.root, name)
        if name.startswith("..") or os.path.isabs(name) or not _within(path, self.root):
            raise RequirementsError(f"{by} includes {name}, which lies outside of the app and is not deployed with it.")
        if not os.path.isfile(path):
            raise RequirementsError(f"{by} includes {name}, which the app does not have.")
        text = _text(self.root, name)
        # Comments and blank lines do not change what is installed.
        lines = list(logical_lines(text))
        self.add(name, "\n".join(lines).encode())
        for line in lines:
            if include := _INCLUDE.fullmatch(line):
                if "://" not in include["file"]:
                    inner = os.path.join(os.path.dirname(name), _unquoted(include["file"]))
                    self.requirements(os.path.normpath(inner), name)
                continue
            editable = _EDITABLE.fullmatch(line)
            self.editable = self.editable or bool(editable)
            if target := local_target(_unquoted(editable["target"]) if editable else line.split(" --")[0]):
                self.local(target, name)

    def local(self, target: str, by: str) -> None:
        """Read a directory or a file of the app that is installed itself."""
        path = os.path.normpath(os.path.join(self.root, target))
        if not _within(path, self.root):
            if os.path.isabs(target) and os.path.exists(target):
                self.add(target, str(os.stat(target).st_mtime_ns).encode())
                return
            raise RequirementsError(
                f"{by} installs {target}, which lies outside of the app and is not deployed with it."
            )
        name = os.path.relpath(path, self.root)
        if os.path.isfile(path):
            self._file(path, name)
        elif os.path.isdir(path):
            for directory, directories, files in os.walk(path):
                directories[:] = sorted(item for item in directories if item not in _SKIPPED)
                for file in files:
                    if not file.endswith(".pyc"):
                        inner = os.path.join(directory, file)
                        self._file(inner, f"{name}/{os.path.relpath(inner, path)}")
        else:
            raise RequirementsError(f"{by} installs {target}, which the app does not have.")

    def _file(self, path: str, name: str) -> None:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                self.parts[f"tree:{name}"] = hashlib.file_digest(file, "sha256").hexdigest()

    def lock(self, name: str) -> None:
        """Read a uv.lock or pylock.toml, and the local directories that it installs."""
        with open(os.path.join(self.root, name), "rb") as file:
            data = file.read()
        self.add(name, data)
        # Parsing a large lock takes a while, and few have local packages.
        if not re.search(rb"(?m)\b(?:editable|directory|path)\s*=\s*\"(?!\.\")|packages\.directory", data):
            return
        base = os.path.dirname(name)
        lock = _toml(self.root, name)
        for package in lock.get("package") or lock.get("packages") or ():
            sources = [package.get("source") or {}, package.get("directory") or {}, package.get("archive") or {}]
            for source in sources:
                for key in ("editable", "directory", "path"):
                    target = source.get(key)
                    if isinstance(target, str) and target != ".":
                        self.local(os.path.join(base, target), name)

    def project(self, name: str) -> None:
        """Read what uv export takes from the pyproject.toml beside a uv.lock."""
        if not os.path.isfile(os.path.join(self.root, name)):
            raise RequirementsError(f"The app has a uv.lock and no {name} beside it, which uv needs to read the lock.")
        project = _toml(self.root, name)
        tool = project.get("tool") or {}
        relevant = {
            "project": {
                key: value
                for key, value in (project.get("project") or {}).items()
                if key in ("name", "dependencies", "optional-dependencies", "requires-python", "dynamic")
            },
            "dependency-groups": project.get("dependency-groups"),
            "uv": tool.get("uv"),
        }
        self.add(name, json.dumps(relevant, sort_keys=True, default=str).encode())

    def wheels(self, directory: str) -> None:
        """Read which files a find_links directory of the app holds."""
        path = os.path.join(self.root, directory)
        if "://" in directory or os.path.isabs(directory) or not os.path.isdir(path):
            return
        with os.scandir(path) as entries:
            listing = sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
        self.add(f"wheels:{directory}", json.dumps(listing).encode())
