# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Containers: the options of Podman and Docker that an app may set, and those that a release runs with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.servers import gunicorn
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

#: Options of `podman run` and `docker run` that both know (podman-run(1); docs.docker.com, "docker container run").
SETTINGS = frozenset(
    """
    add-host annotation blkio-weight blkio-weight-device cap-add cap-drop cgroupns cpu-period cpu-quota cpu-rt-period
    cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems device device-cgroup-rule device-read-bps device-read-iops
    device-write-bps device-write-iops dns dns-option dns-search env expose gpus group-add health-cmd health-interval
    health-retries health-start-period health-timeout hostname init ip ip6 ipc label log-driver log-opt mac-address
    memory memory-reservation memory-swap memory-swappiness mount network network-alias no-healthcheck oom-kill-disable
    oom-score-adj pid pids-limit platform publish read-only runtime security-opt shm-size stop-signal stop-timeout
    storage-opt sysctl tmpfs ulimit userns uts volume volumes-from
    """.split()
)

#: Options that the release or systemd controls, with the reason or what to set instead.
RESERVED: Mapping[str, str] = {
    "attach": "systemd supervises the process and takes its output",
    "cgroup-parent": "the release has its own slice; use limits",
    "cidfile": "the container is named after its release",
    "detach": "systemd supervises the process and takes its output",
    "entrypoint": "the image's own is used",
    "env-file": "use env and secrets",
    "interactive": "standard input carries the secrets",
    "name": "the container is named after its release",
    "privileged": "it would control the whole host; list what the app needs in cap-add, device or volume",
    "pull": "the image is pulled when its release is staged",
    "restart": "systemd restarts it",
    "rm": "the container is removed when the instance stops",
    "tty": "the output goes to the journal",
    "user": "the app's own user is used",
    "workdir": "the image's own is used",
}

#: How long open requests may take to finish. systemd waits for that; what the container engine is told to remove
#: afterwards ends at once.
STOP_TIMEOUT = "stop-timeout"

#: What a release runs with, unless the inventory sets something else.
DEFAULTS: Mapping[str, Any] = {
    "read-only": True,
    "tmpfs": "/tmp",
    "cap-drop": "all",
    "security-opt": "no-new-privileges",
    # As with the other servers, localhost is the host: a database there is reachable.
    "network": "host",
    # The attached client writes to the journal.
    "log-driver": "none",
}

#: Limits of systemd that a slice cannot have, and the ulimit with the same effect.
_ULIMITS = {f"Limit{name}": name.lower() for name in "CORE CPU DATA FSIZE MEMLOCK NOFILE NPROC RSS STACK".split()}

#: Suffixes of limits: 1024 to the power of 1, 2, ... (systemd.exec(5)).
_SUFFIXES = "KMGTPE"


def _check_value(_unused: str, value: Any) -> str | None:
    if _is_writable(value):
        return None
    return "expected a text, a number, true or false, or a list of them"


def _is_writable(value: Any) -> bool:
    """Whether a value can be an argument on a command line; null removes the option."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return value is None or all(isinstance(item, (str, int, float)) for item in values)


def options(app: Mapping[str, Any]) -> list[str]:
    """Return the options with which an app's container runs.

    >>> options({"container": {"network": "bridge", "read-only": False, "dns": ["192.0.2.1", "192.0.2.2"]}, "limits": {}})
    ['--tmpfs=/tmp', '--cap-drop=all', '--security-opt=no-new-privileges', '--network=bridge', '--log-driver=none', \
'--dns=192.0.2.1', '--dns=192.0.2.2', '--stop-timeout=0']
    """
    listed = []
    for name, value in {**DEFAULTS, **app["container"], STOP_TIMEOUT: 0}.items():
        if value is True:
            listed.append(f"--{name}")
        elif value is not False and value is not None:
            values = value if isinstance(value, list) else [value]
            listed += [f"--{name}={item}" for item in values]
    for name, value in app["limits"].items():
        if name in _ULIMITS:
            listed.append(f"--ulimit={_ULIMITS[name]}={_ulimit(value)}")
        elif name == "OOMScoreAdjust":
            listed.append(f"--oom-score-adj={value}")
    return listed


def _ulimit(value: Any) -> str:
    """Return a limit as container engines write it.

    >>> [_ulimit(value) for value in (65536, "1024:4K", "infinity")]
    ['65536', '1024:4096', '-1']
    """
    limits = []
    for part in str(value).split(":"):
        number, suffix = part[:-1], part[-1:]
        if part == "infinity":
            limits.append("-1")
        elif number.isdigit() and suffix in _SUFFIXES:
            limits.append(str(int(number) << 10 * (_SUFFIXES.index(suffix) + 1)))
        else:
            limits.append(part)
    return ":".join(limits)


#: Limits of systemd that have no effect on a container, and what to use instead.
NO_LIMITS: Mapping[str, str] = {"LimitAS": "MemoryMax", "Nice": "CPUWeight"}


def slice_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that apply to a slice (systemd.resource-control(5))."""
    return {name: value for name, value in limits.items() if name not in (*_ULIMITS, *NO_LIMITS, "OOMScoreAdjust")}


SERVER = Server(
    name="container",
    options=Field(
        "dict",
        "Options of `podman run` or `docker run`, by their long names. They win over the collection's.",
        default={},
    ),
    # An image that the collection builds runs the app under Gunicorn.
    packages=gunicorn.PACKAGES,
    runtime="image",
    settings=sorted(SETTINGS),
    setting_noun="an option of podman run and docker run",
    reserved=RESERVED,
    check_value=_check_value,
    graceful_setting=STOP_TIMEOUT,
    no_limits={name: f"a container has no such limit, use {instead}" for name, instead in NO_LIMITS.items()},
    noise=gunicorn.NOISE,
    starts=gunicorn.STARTS,
    dies=gunicorn.DIES,
)
