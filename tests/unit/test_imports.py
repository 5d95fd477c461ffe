# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where code runs decides where it lies: the graph of imports holds that, and has no circles."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
PREFIX = "ansible_collections.flaskops.server.plugins."


def imported(path: Path) -> set[str]:
    """Return the files of the collection that a file imports, relative to ``plugins``; imports in functions count."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
            home = str(node.module).removeprefix(PREFIX).replace(".", "/")
            for name in node.names:
                places = (
                    f"{home}/{name.name}.py",
                    f"{home}/{name.name}/__init__.py",
                    f"{home}.py",
                    f"{home}/__init__.py",
                )
                found.add(next(place for place in places if (PLUGINS / place).is_file()))
    return found


GRAPH = {str(path.relative_to(PLUGINS)): imported(path) for path in sorted(PLUGINS.rglob("*.py"))}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return files that import each other in a ring; nothing where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if ring := walk(other, [*path, name]):
                    return ring
            done.add(name)
        return []

    return next(filter(None, (walk(name, []) for name in graph)), [])


def test_what_a_host_executes_imports_nothing_of_the_controllers() -> None:
    assert {
        name: wrong
        for name, others in GRAPH.items()
        if name.startswith(("module_utils/", "modules/"))
        and (wrong := [other for other in others if not other.startswith("module_utils/")])
    } == {}


def test_there_are_no_circles() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle(GRAPH) == []


def test_a_host_has_the_standard_library_only_and_what_ansible_sends() -> None:
    for path in sorted((PLUGINS / "module_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                is_sent = name.startswith((PREFIX, "ansible.module_utils."))
                assert is_sent or name.split(".")[0] in sys.stdlib_module_names, path
