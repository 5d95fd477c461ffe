# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Identify this run of a playbook: a host writes it into its lock and its record."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.process import started


def identify_run() -> dict[str, Any]:
    """Return what identifies the running ansible-playbook; it is the same in all of its worker processes."""
    pid = os.getppid()
    controller = _identify_process_space()
    return {
        "token": f"{controller}/{pid}/{_read_start(pid)}",
        "controller": controller,
        "pid": pid,
        "who": name_user(),
    }


def name_user() -> str:
    """Return ``user@controller``."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def is_dead(holder: dict[str, Any]) -> bool:
    """Whether a run has certainly ended; unknown, and so false, for a run on another machine."""
    token = str(holder.get("token", ""))
    controller, _unused, rest = token.rpartition("/")[0].rpartition("/")[0], "", token
    if controller != _identify_process_space():
        return False
    pid, started = rest.rsplit("/", 2)[1:]
    return _read_start(int(pid)) != started


def _identify_process_space() -> str:
    """Return what identifies this machine, its current boot, and the container on it."""
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


def _read_start(pid: int) -> str:
    """Return when a process started, or "gone"; without /proc, "there" for one that exists."""
    if Path("/proc/self/stat").exists():
        return started(pid) or "gone"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    return "there"
