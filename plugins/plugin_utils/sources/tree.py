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


def find_subdirectory(top: Path, subdir: Any, what: str) -> Path:
    """Return the directory ``subdir`` of ``top``.

    :param what: the source, for messages.
    :raises SourceError: when it does not exist or lies outside.
    """
    if not subdir or str(subdir).strip("/") in ("", "."):
        return top
    relative = str(subdir)
    if relative.startswith("/") or ".." in relative.split("/"):
        raise SourceError(f"Expected source.subdir as a relative path without '..', got {relative!r}.")
    root = top / relative
    if not root.is_dir():
        existing = sorted(
            entry.name for entry in os.scandir(top) if entry.is_dir() and entry.name not in EXCLUDED_NAMES
        )
        near = difflib.get_close_matches(relative.strip("/"), existing, 3, 0.5) or existing[:10]
        raise SourceError(
            f"{what} has no directory {relative!r} (source.subdir). "
            f"Nearest: {', '.join(near) or 'none, it has no directories'}."
        )
    if not is_inside(os.path.realpath(root), os.path.realpath(top)):
        raise SourceError(
            f"source.subdir {relative!r} is a link that points outside of {what}. Name the real directory."
        )
    return root


def walk_files(root: str, prefix: str = "") -> Iterator[str]:
    """Yield the files and links below ``root``, relative to it, without caches, virtualenvs and repositories."""
    with os.scandir(os.path.join(root, prefix) if prefix else root) as entries:
        for entry in entries:
            if is_excluded_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield from walk_files(root, f"{prefix}{entry.name}/")
            elif entry.is_symlink() or entry.is_file():
                yield prefix + entry.name


def list_files(root: Path) -> list[str]:
    """Return all files and links below ``root``, relative to it."""
    names: list[str] = []
    for directory, directories, files in os.walk(root):
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        names.extend(os.path.relpath(os.path.join(directory, name), root) for name in files + links)
    return names
