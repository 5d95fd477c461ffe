# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A configuration to change, and how it is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import MARK, File


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A configuration as Debian's package leaves it, more or less."""
    root = tmp_path / "etc" / "nginx"
    for directory in ("sites-available", "sites-enabled"):
        (root / directory).mkdir(parents=True)
    (root / "nginx.conf").write_text("include sites-enabled/*;\n")
    (root / "sites-available" / "default").write_text("default\n")
    (root / "sites-enabled" / "default").symlink_to(root / "sites-available" / "default")
    return root


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """What reads all files below a directory; of links, where they lead."""

    def read(root: Path) -> dict[str, str]:
        return {
            str(path.relative_to(root)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    return read


@pytest.fixture
def ours() -> Callable[..., File]:
    """What makes a file that bears our mark."""

    def make(path: str, text: str = "") -> File:
        return File(path, f"# {MARK}\n{text}", owned=True)

    return make
