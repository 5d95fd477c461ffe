# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The main process of a release's container, which systemd does not know: its own is the engine's client."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.process import run

#: Seconds for the answer of an engine.
TIMEOUT = 60


def settings(release: Path) -> dict[str, Any]:
    """Return which engine a release is made and run by, and the registry between hosts.

    :param release: its directory.
    """
    told: dict[str, Any] = json.loads((release / "serve" / "container.json").read_text())
    return told


def container_name(app: str, release: str, kind: str = "") -> str:
    """Return what a release's container is called.

    :param kind: what it is for, when it is not the web instance's.
    """
    return "-".join(filter(None, [app, release, kind]))


def container_pid(layout: Layout, release: str) -> int:
    """Return the main process of a release's container; 0 if it is not running."""
    container = container_name(layout.name, release)
    command = [
        settings(layout.release(release))["engine"],
        "container",
        "inspect",
        "--format",
        "{{.State.Pid}}",
        container,
    ]
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": "/root"}
    said = run(command, timeout=TIMEOUT, env=environment, cwd="/").output.strip()
    return int(said) if said.isdigit() else 0
