# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files of a source are left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError

# Never part of an app, at any depth (files that git tracks are kept, whatever their names).
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


def compile_excludes(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether ``patterns`` exclude a relative path.

    As in a ``.gitignore``: a pattern without a slash matches a file or directory of that name at any depth, one with
    a slash is anchored at the top; ``*`` and ``?`` match within one name, ``**`` across several; everything in an excluded
    directory is excluded, and a trailing slash matches directories only.

    :raises SourceError: when a pattern is malformed.
    """
    regexes: list[str] = []
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
        regexes.append(("" if anchored else "(?:.*/)?") + regex + ("/.*" if directory else "(?:/.*)?"))
    if not regexes:
        return lambda name: False
    try:
        compiled = re.compile("|".join(f"(?:{regex})" for regex in regexes), re.DOTALL)
    except re.error as error:
        raise SourceError(f"source.exclude has a malformed pattern: {error}.") from error
    return lambda name: compiled.fullmatch(name) is not None


def is_excluded_name(name: str) -> bool:
    """Whether a file or directory of this name is left out of every app."""
    return name in EXCLUDED_NAMES or name.endswith(EXCLUDED_SUFFIXES)
