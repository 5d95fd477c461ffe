# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as what releases run in: those that are there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.cli import ENGINES, Cli, repository
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.pid import (
    container_name,
    container_pid,
    settings,
)


class Image:
    """Containers, each of an image that belongs to its release."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._pids: dict[str, int] = {}

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        serve = self.layout.release(release) / "serve"
        # The container is given the release's own variables, by the same way as an instance.
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/root"}
        arguments = ["/bin/sh", str(serve / "run"), self._name(release, "command"), *command]
        return arguments, {"cwd": "/", "env": environment}

    def ended(self, release: str) -> None:
        self._cli(release).remove_container(self._name(release, "command"))

    def main_pid(self, release: str, unit_pid: int) -> int:
        if not unit_pid:
            return 0
        pid = self._pids.get(release, 0)
        if not pid or not Path(f"/proc/{pid}").exists():
            pid = self._pids[release] = container_pid(self.layout, release)
        return pid

    def prune(self, staged: list[str]) -> None:
        for name in ENGINES:
            cli = Cli(name)
            if cli.is_there():
                for tag in cli.tags(repository(self.layout.name)):
                    if tag.rpartition(":")[2] not in staged:
                        cli.remove_image(tag)

    def _name(self, release: str, kind: str) -> str:
        return container_name(self.layout.name, release, kind)

    def _cli(self, release: str) -> Cli:
        return Cli(settings(self.layout.release(release))["engine"])
