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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.errors import StagingError
from ansible_collections.flaskops.server.plugins.module_utils.host.urls import without_credentials

ORDER = ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml")

# Locks of other tools, and the manifest of one, with the command that makes a requirements.txt of each.
_PIP_LIST = "'pip list --format=freeze > requirements.txt', run in that environment"
_UNREAD = {
    "poetry.lock": "'poetry export -f requirements.txt -o requirements.txt' with poetry-plugin-export installed",
    "pdm.lock": "'pdm export -f requirements -o requirements.txt --prod'",
    "Pipfile.lock": "'pipenv requirements > requirements.txt'",
    "Pipfile": "'pipenv lock && pipenv requirements > requirements.txt'",
    "requirements.lock": "\"grep -v '^-e' requirements.lock > requirements.txt\"",
    "pixi.lock": _PIP_LIST,
    "conda-lock.yml": _PIP_LIST,
}
# Beside a pyproject.toml with a [project] table these describe a workplace; alone they are all that there is.
_UNREAD_ALONE = dict.fromkeys(("environment.yml", "environment.yaml"), _PIP_LIST)
_NOT_FOR_SERVING = re.compile(
    r"(?i)(?<![a-z])(?:dev|develop|development|tests?|testing|docs?|lint|linting|ci|types?|typing|build|bench)(?![a-z])"
)

#: How Poetry calls the index that it has without being told of it.
_PYPI_OF_POETRY = ("PyPI", "pypi", "PYPI")

_SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules", "build", "dist"})
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))(?P<file>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)(?P<target>\S.*)")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class RequirementsError(StagingError):
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
    :ivar pip_ignores: what pip, other than uv, would not read: a sentence for the user, empty where there is nothing.
    """

    kind: str
    file: str | None
    digest: str
    files: tuple[str, ...] = ()
    constraints: str | None = None
    editable: bool = False
    pip_ignores: str = ""


def find(app: Path, python: Mapping[str, Any]) -> Requirements:
    """Return the requirements of the app in the directory ``app``.

    ``python.requirements`` names a file or several; otherwise the first of ``ORDER`` that the app has is taken (a
    ``pyproject.toml`` only when it declares dependencies). What would be passed over, such as another tool's lock, is
    refused.

    :param python: the app's python options; ``requirements``, ``extras``, ``constraints``, ``require_hashes``,
        ``find_links``, ``index_url`` and ``offline`` are read here.
    :raises RequirementsError: a file is missing, malformed or leads out of the app, options contradict it, or it says
        something about the packages that would be ignored.
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

    index_chosen = bool(python.get("index_url") or python.get("offline"))
    pip_ignores = ""
    tree = _Reading(root)
    if kind == "requirements.txt":
        for name in files:
            tree.requirements(name)
        pip_ignores = _sources_of(root, tree.projects)
    elif kind == "pyproject.toml":
        wanted = dependencies(app, files[0], extras)
        _refuse_sources(_toml(root, files[0]), files[0], wanted, extras, index_chosen)
        if wanted and not index_chosen and (names := _indexes(root, files[0])):
            pip_ignores = f"{files[0]} states package indexes for uv ({', '.join(names)})"
        tree.add("dependencies", json.dumps(wanted).encode())
        for line in wanted:
            if target := local_target(line):
                tree.local(os.path.join(os.path.dirname(files[0]), target), files[0])
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
        pip_ignores=pip_ignores,
    )


def _discover(root: str) -> tuple[str, tuple[str, ...]]:
    for name in ORDER:
        if os.path.isfile(os.path.join(root, name)):
            if name == "pyproject.toml":
                _refuse_unread(root, _UNREAD)
                project = _toml(root, name)
                if not _declares(project, name):
                    continue
                empty = not {"dependencies", "optional-dependencies"} & _table(project, "project").keys()
                _refuse_unnamed(root, r"require|^pylock\." if empty else r"^pylock\.")
            return name, (name,)
    _refuse_unread(root, _UNREAD | _UNREAD_ALONE)
    for name in ("setup.py", "setup.cfg"):
        if _is_manifest(root, name):
            raise RequirementsError(
                f"{name} of the app is not read, and there is nothing else to install from. Add a requirements.txt with "
                "one line, '.' (a dot), which installs the app with what it needs (an empty one where it needs nothing), "
                "or name a file in python.requirements."
            )
    _refuse_unnamed(root, r"require|^pylock\.")
    return "none", ()


def _refuse_unread(root: str, unread: Mapping[str, str]) -> None:
    """Refuse an app with another tool's lock or manifest: without it, other versions or nothing would be installed."""
    there = [name for name in unread if os.path.isfile(os.path.join(root, name)) and _is_manifest(root, name)]
    if there:
        raise RequirementsError(
            f"The app has {' and '.join(there)}, which {'is' if len(there) == 1 else 'are'} not read: other versions than "
            f"those, or nothing at all, would be installed. Run {unread[there[0]]} and add the file to the app. Or "
            "name a file in python.requirements, which is then the only one used."
        )


def _refuse_unnamed(root: str, pattern: str) -> None:
    """Refuse an app with files to install from whose names match, but are not those that are looked for."""
    there = sorted(
        name
        for name in _candidates(root)
        if re.search(pattern, name, re.IGNORECASE) and not _NOT_FOR_SERVING.search(name)
    )
    if there:
        raise RequirementsError(
            f"The app has {', '.join(there)}, and a file of such a name is not looked for: nothing of it would be "
            "installed. Name what is to be installed in python.requirements, a file or a list of files."
        )


def _is_manifest(root: str, name: str) -> bool:
    """Whether a file says what to install: one of these names may be a linter's settings or the app's own module."""
    signs = {
        "setup.py": r"\b(setuptools|distutils|skbuild|pbr)\b",
        "setup.cfg": r"(?m)^\[(metadata|options)\b",
        "environment.yml": r"(?m)^dependencies\s*:",
        "environment.yaml": r"(?m)^dependencies\s*:",
    }
    if not os.path.isfile(os.path.join(root, name)):
        return False
    return name not in signs or bool(re.search(signs[name], _text(root, name)))


def _kind(name: str) -> str:
    base = os.path.basename(name)
    if base in ("uv.lock", "pyproject.toml"):
        return base
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", base):
        return "pylock.toml"
    if base.endswith((".lock", ".toml", ".cfg", ".yml", ".yaml")) or base in ("setup.py", "Pipfile"):
        how = {**_UNREAD, **_UNREAD_ALONE}.get(base)
        raise RequirementsError(
            f"python.requirements names {name}, which is not a format that can be installed from: use one of "
            f"{', '.join(ORDER)} (requirements files may have any name that ends in .txt or .in)."
            f"{f' {how} writes one.' if how else ''}"
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
                if name in ORDER or name.lower().endswith((".txt", ".in")) or name.startswith("pylock"):
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
    """Whether a pyproject.toml has a [project] table; one that only another tool understands is refused."""
    if not isinstance(project.get("project", {}), dict):
        raise RequirementsError(f"project of {name} is not a table.")
    own = _table(project, "project")
    # Poetry reads its own table where [project] states no dependencies, and one beside it otherwise.
    stated = {"dependencies", "optional-dependencies"} & {*own, *(own.get("dynamic") or ())}
    poetry = _table(project, "tool", "poetry")
    of_poetry = {**_table(poetry, "group", "main", "dependencies"), **_table(poetry, "dependencies")}
    if "project" in project:
        of_poetry.pop("python", None)
    if of_poetry and not stated:
        raise RequirementsError(
            f"{name} of the app states its dependencies in Poetry's own table, [tool.poetry]. Export them "
            f"({_UNREAD['poetry.lock']}) or move them to [project]."
        )
    if "project" not in project and _table(project, "tool", "flit", "metadata"):
        raise RequirementsError(
            f"{name} of the app states its dependencies in Flit's own table, [tool.flit]. Move them to [project], or add a "
            "requirements.txt with one line, '.' (a dot), which installs the app with what it needs, or name a file in "
            "python.requirements."
        )
    return "project" in project


def _table(value: Any, *names: str) -> dict[str, Any]:
    """Return the table at a path of names below ``value``, empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[dict[str, Any]]:
    """Return the tables of an array of tables."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _refuse_sources(
    project: Mapping[str, Any], file: str, wanted: Sequence[str], extras: Sequence[str], index_chosen: bool
) -> None:
    """Refuse a pyproject.toml whose tables for uv, Poetry or PDM lead elsewhere than the package index for ``wanted``.

    :param index_chosen: the app's options say where packages come from.
    """
    taken = {normalised(match[0]) for item in wanted if not foreign(item) and (match := re.match(_NAME, item))}
    sources = _table(project, "tool", "uv", "sources")
    if uv := _elsewhere(sources, taken, extras, index_chosen, _usual(project)):
        advice = "Add a uv.lock ('uv lock' writes it), which says where each of them comes from."
        if "workspace" not in _table(project, "tool", "uv") and any(
            isinstance(entry, dict) and entry.get("workspace") for _name, entry in _entries(sources)
        ):
            advice = (
                "This is a member of a workspace, whose uv.lock ('uv lock' writes it) lies in a directory above: deploy the "
                "whole workspace, without source.subdir."
            )
        raise RequirementsError(
            f"{file} of the app takes {', '.join(uv)} from elsewhere by [tool.uv.sources], which is not read without a lock: "
            f"whatever has that name in the package index would be installed. {advice}"
        )
    poetry = _table(project, "tool", "poetry")
    tables = [_table(poetry, "dependencies")]
    tables += [_table(poetry, "group", group, "dependencies") for group in _table(poetry, "group")]
    by_poetry = [_elsewhere(table, taken, extras, index_chosen, _PYPI_OF_POETRY) for table in tables]
    if names := sorted({name for found in by_poetry for name in found}):
        raise RequirementsError(
            f"{file} of the app takes {', '.join(names)} from elsewhere by [tool.poetry], which is not read: whatever has "
            "that name in the package index would be installed. Add a requirements.txt that says where each comes from (a "
            "path inside the app such as ./libs/name, or a URL), or move them to [tool.uv.sources] and add a uv.lock "
            "('uv lock')."
        )
    for name in ("poetry", "pdm") if wanted and not index_chosen else ():
        shown = [
            str(item.get("name") or "without a name")
            for item in _tables(_table(project, "tool", name).get("source"))
            if item.get("url") and item.get("priority") != "explicit" and not _is_pypi(item["url"])
        ]
        if shown:
            raise RequirementsError(
                f"{file} of the app states package indexes in [[tool.{name}.source]] ({', '.join(shown)}), which is not "
                "read: packages would come from the host's own index. Name the index in python.index_url, or state it in "
                "[[tool.uv.index]] and add a uv.lock ('uv lock')."
            )


def _entries(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and entry of a table of sources, where a name may have a list of them."""
    for name, value in table.items():
        for entry in value if isinstance(value, list) else [value]:
            yield name, entry


def _elsewhere(
    table: Mapping[str, Any], taken: set[str], extras: Sequence[str], index_chosen: bool, usual: Collection[str] = ()
) -> list[str]:
    """Return which packages of ``taken`` a table of sources leads elsewhere, on a host as ours and with ``extras``.

    :param usual: the names of indexes that are the usual one, PyPI.
    """
    keys = {"path", "file", "git", "url", "workspace"} | (set() if index_chosen else {"index", "source"})
    chosen = {normalised(extra) for extra in extras}
    found = set()
    for name, entry in _entries(table):
        if not isinstance(entry, dict) or "group" in entry:
            continue
        if not any(entry.get(key) and not (key in ("index", "source") and str(entry[key]) in usual) for key in keys):
            continue
        if "extra" in entry and normalised(str(entry["extra"])) not in chosen:
            continue
        if normalised(name) in taken and not foreign(f";{entry.get('marker') or entry.get('markers') or ''}"):
            found.add(name)
    return sorted(found)


def foreign(requirement: str) -> bool:
    """Whether a requirement's marker names another operating system and nothing else.

    >>> foreign("pywin32; sys_platform == 'win32'"), foreign("uvloop; sys_platform != 'win32'")
    (True, False)
    """
    marker = requirement.partition(";")[2].strip()
    return bool(
        re.fullmatch(
            r"(?:(?:sys_platform|platform_system|os_name)\s*==\s*['\"](?:win32|cygwin|darwin|nt|Windows|Darwin)['\"]"
            r"|(?:sys_platform|platform_system)\s*!=\s*['\"](?:linux|Linux)['\"])",
            marker,
        )
    )


def _is_pypi(url: Any) -> bool:
    return str(url).partition("://")[2].startswith("pypi.org/")


def _usual(project: Mapping[str, Any]) -> set[str]:
    """Return the names that a pyproject.toml gives PyPI for uv, none where another index is asked before it."""
    indexes = _tables(_table(project, "tool", "uv").get("index"))
    if not all(index.get("explicit") or _is_pypi(index.get("url")) for index in indexes):
        return set()
    return {str(index.get("name")) for index in indexes if _is_pypi(index.get("url"))}


def _indexes(root: str, file: str) -> list[str]:
    """Return the package indexes that a pyproject.toml, or a uv.toml beside it, states for uv: names, or the option's."""
    beside = os.path.join(os.path.dirname(file), "uv.toml")
    tables = [_table(_toml(root, file), "tool", "uv")]
    if os.path.isfile(os.path.join(root, beside)):
        tables.append(_toml(root, beside))
    found: dict[str, None] = {}
    for table in tables:
        for index in _tables(table.get("index")):
            if not index.get("explicit") and not _is_pypi(index.get("url")):
                found[str(index.get("name") or "without a name")] = None
        for part in (table, _table(table, "pip")):
            options = ("index-url", "extra-index-url", "find-links", "no-index")
            found.update((option, None) for option in options if part.get(option))
    return list(found)


def _sources_of(root: str, projects: Iterable[str]) -> str:
    """Return what to say of directories of the app, installed by a requirements file, that have sources for uv."""
    for project in projects:
        file = os.path.normpath(os.path.join(project, "pyproject.toml"))
        if os.path.isfile(os.path.join(root, file)):
            facts = _toml(root, file)
            items = _table(facts, "project").get("dependencies") or []
            taken = {normalised(match[0]) for item in items if (match := re.match(_NAME, str(item)))}
            if names := _elsewhere(_table(facts, "tool", "uv", "sources"), taken, (), False, _usual(facts)):
                return f"{file} takes {', '.join(names)} from elsewhere by [tool.uv.sources]"
    return ""


def index_packages(app: Path, file: str, explicit: bool) -> dict[tuple[str, str], str]:
    """Return the packages of a uv.lock that come from an index which the pyproject.toml beside it states.

    :param explicit: those alone of indexes that are ``explicit``; otherwise of all.
    :returns: the index's name by name and version of the package.
    """
    root = os.path.realpath(app)
    beside = os.path.join(os.path.dirname(file), "pyproject.toml")
    if not os.path.isfile(os.path.join(root, beside)):
        return {}

    def same(url: Any) -> str:
        return without_credentials(str(url)).rstrip("/")

    names = {
        same(index.get("url")): str(index.get("name") or "without a name")
        for index in _tables(_table(_toml(root, beside), "tool", "uv").get("index"))
        if (index.get("explicit") or not explicit) and not _is_pypi(index.get("url"))
    }
    if not names:
        return {}
    return {
        (normalised(package["name"]), str(package.get("version"))): names[url]
        for package in _tables(_toml(root, file).get("package"))
        if (url := same(_table(package, "source").get("registry"))) in names
    }


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


def project_name(app: Path, file: str) -> str:
    """Return the normalised name of the project of a pyproject.toml, empty where it states none."""
    return normalised(str(_table(_toml(str(app), file), "project").get("name") or ""))


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


def distribution_name(requirement: str) -> str:
    """Return the normalised name of the distribution that a requirement asks for.

    >>> distribution_name("Gunicorn[gthread]==23.0.0")
    'gunicorn'
    """
    match = re.match(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)", requirement)
    return normalised(match[1]) if match else ""


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
        self.projects: list[str] = []

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
            self.projects.append(name)
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
        local = rb"(?m)\b(?:editable|directory|path)\s*=\s*[\"'](?!\.[\"'])|packages\.directory|\bdirectory\s*=\s*\{"
        if not re.search(local, data):
            return
        base = os.path.dirname(name)
        lock = _toml(self.root, name)
        for package in lock.get("package") or lock.get("packages") or ():
            sources = [package.get("source") or {}, package.get("directory") or {}, package.get("archive") or {}]
            for source in sources:
                for key in ("editable", "directory", "path"):
                    target = source.get(key)
                    # The project itself is installed from a pylock.toml, and left out of a uv.lock.
                    if isinstance(target, str) and (target != "." or "packages" in lock):
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
