# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of a directory on the controller."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError, is_inside
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import EXCLUDED_NAMES, is_excluded_name


def subdirectory(top: Path, subdir: Any, what: str) -> Path:
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
    if not is_inside(os.path.realpath(root), os.path.realpath(top)):
        raise SourceError(f"source.subdir {relative!r} is a link that leads out of {what}.")
    return root


def walk(root: str, prefix: str = "") -> Iterator[str]:
    """Yield the files and links below ``root``, relative to it, without caches, virtualenvs and repositories."""
    with os.scandir(os.path.join(root, prefix) if prefix else root) as entries:
        for entry in entries:
            if is_excluded_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield from walk(root, f"{prefix}{entry.name}/")
            elif entry.is_symlink() or entry.is_file():
                yield prefix + entry.name


def everything(root: Path) -> list[str]:
    """Return all files and links below ``root``, relative to it."""
    names: list[str] = []
    for directory, directories, files in os.walk(root):
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        names.extend(os.path.relpath(os.path.join(directory, name), root) for name in files + links)
    return names
