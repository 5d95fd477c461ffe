#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print how much of the collection's code a host receives with each module: Ansible zips it and sends it as base64.

Ansible adds its own `AnsibleModule` to that, which is the same for every module.
"""

from __future__ import annotations

import ast
import base64
import io
import zipfile
from pathlib import Path

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
PREFIX = "ansible_collections.flaskops.server.plugins."


def list_imports(path: Path) -> set[Path]:
    """Return the files of the collection that a file imports, and the packages that they lie in."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
            home = PLUGINS.joinpath(*str(node.module).removeprefix(PREFIX).split("."))
            places = [home.with_suffix(".py")]
            for name in node.names:
                places += [home / f"{name.name}.py", home / name.name / "__init__.py"]
            places += [directory / "__init__.py" for directory in (home, *home.parents)]
            found |= {place for place in places if place.is_file()}
    return found


def list_files(module: str) -> set[Path]:
    """Return the files that a module needs on a host."""
    files: set[Path] = set()
    todo = {PLUGINS / "modules" / f"{module}.py"}
    while todo:
        files |= todo
        todo = {other for path in todo for other in list_imports(path)} - files
    return files


def measure(module: str) -> int:
    """Return the bytes of a module's payload."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(list_files(module)):
            archive.write(path, PREFIX.replace(".", "/") + str(path.relative_to(PLUGINS)))
    return len(base64.b64encode(packed.getvalue()))


def main() -> None:
    """Print a line for each module that has code of its own."""
    for path in sorted((PLUGINS / "modules").glob("*.py")):
        if len(list_files(path.stem)) > 1:
            print(f"{path.stem:<20} {measure(path.stem) / 1000:6.1f} KB in {len(list_files(path.stem))} files")


if __name__ == "__main__":
    main()
