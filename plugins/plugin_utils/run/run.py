# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who runs this playbook: what a host writes into its lock and its record."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.process import started


def this_run() -> dict[str, Any]:
    """Return what names the running ansible-playbook: the same in all of its worker processes."""
    pid = os.getppid()
    controller = _process_space()
    return {
        "token": f"{controller}/{pid}/{_started(pid)}",
        "controller": controller,
        "pid": pid,
        "who": who(),
    }


def who() -> str:
    """Return ``user@controller``."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def is_dead(holder: dict[str, Any]) -> bool:
    """Say whether a run is known to have ended: only a run of this very machine can be asked."""
    token = str(holder.get("token", ""))
    controller, _, rest = token.rpartition("/")[0].rpartition("/")[0], "", token
    if controller != _process_space():
        return False
    pid, started = rest.rsplit("/", 2)[1:]
    return _started(int(pid)) != started


def _process_space() -> str:
    """Return what tells this machine, in this boot, and this container on it, from all others."""
    parts = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            parts.append(read())
        except OSError:
            # Not Linux: the host name alone.
            continue
    return "|".join(parts).replace("/", "-")


def _started(pid: int) -> str:
    """Return when a process started, or "gone"; where /proc does not tell, whether it is there at all."""
    if Path("/proc/self/stat").exists():
        return started(pid) or "gone"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    return "there"
