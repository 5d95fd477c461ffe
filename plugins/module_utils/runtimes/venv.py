# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Virtualenvs as what releases run in: those that are there."""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout


class Virtualenv:
    """Processes of the host, with a virtualenv that releases of the same requirements share."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        user = pwd.getpwnam(self.layout.name)
        return command, {
            "cwd": self.layout.release(release) / "app",
            "env": dict(variables),
            "user": user.pw_uid,
            "group": user.pw_gid,
            "extra_groups": [],
            "umask": 0o007,
        }

    def ended(self, release: str) -> None:
        """Its processes are killed by their group."""

    def main_pid(self, release: str, unit_pid: int) -> int:
        return unit_pid

    def prune(self, staged: list[str]) -> None:
        links = [self.layout.release(release) / "venv" for release in staged]
        used = {os.path.basename(os.readlink(link)) for link in links if link.is_symlink()}
        for venv in self.layout.venvs.iterdir() if self.layout.venvs.is_dir() else ():
            if venv.name not in used:
                shutil.rmtree(venv)


def remove_leftovers(venvs: Path) -> None:
    """Remove what builds that died left aside; the caller holds the app's lock."""
    if venvs.is_dir():
        for leftover in (*venvs.glob(".build-*"), *venvs.glob(".old-*")):
            _remove(leftover)


def _remove(path: Path) -> None:
    """Remove a directory; a process of a dead run may still be writing into it."""
    for _attempt in range(5):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.2)
