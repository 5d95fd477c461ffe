# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of the options with which Podman and Docker run a container, and those that a release runs with."""

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

#: Options that belong to the release or to systemd, and what to write instead.
RESERVED: Mapping[str, str] = {
    "attach": "systemd keeps the process and its output",
    "cgroup-parent": "the release has its own slice; use limits",
    "cidfile": "the container is called by its release",
    "detach": "systemd keeps the process and its output",
    "entrypoint": "the image's own is used",
    "env-file": "use env and secrets",
    "interactive": "the secrets come on standard input",
    "name": "the container is called by its release",
    "privileged": "it would be the host; name what is needed in cap-add, device or volume",
    "pull": "the image is fetched before its release is proved",
    "restart": "systemd starts it again",
    "rm": "a release's container ends with its instance",
    "tty": "the output goes to the journal",
    "user": "the app's own user is used",
    "workdir": "the image's own is used",
}

#: How long what is in flight may take to finish. It is systemd that waits for it: what the engine is asked to remove
#: after that goes at once.
STOP_TIMEOUT = "stop-timeout"

#: What a release runs with, where the inventory says nothing else.
DEFAULTS: Mapping[str, Any] = {
    "read-only": True,
    "tmpfs": "/tmp",
    "cap-drop": "all",
    "security-opt": "no-new-privileges",
    # As under the other servers: a database on this host is at localhost.
    "network": "host",
    # The client that is attached writes to the journal.
    "log-driver": "none",
}

#: Limits of systemd that are not a slice's, by the option that does the same.
_ULIMITS = {f"Limit{name}": name.lower() for name in "CORE CPU DATA FSIZE MEMLOCK NOFILE NPROC RSS STACK".split()}

#: What systemd multiplies a limit by 1024 for, each once more than the one before (systemd.exec(5)).
_SUFFIXES = "KMGTPE"


def _check_value(_: str, value: Any) -> str | None:
    if _is_writable(value):
        return None
    return "expected a text, a number, true or false, or a list of them"


def _is_writable(value: Any) -> bool:
    """Whether a value can be said on a command line: null leaves an option out."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return value is None or all(isinstance(one, (str, int, float)) for one in values)


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
    """Return a limit in the engines' words.

    >>> [_ulimit(value) for value in (65536, "1024:4K", "infinity")]
    ['65536', '1024:4096', '-1']
    """
    said = []
    for part in str(value).split(":"):
        number, suffix = part[:-1], part[-1:]
        if part == "infinity":
            said.append("-1")
        elif number.isdigit() and suffix in _SUFFIXES:
            said.append(str(int(number) << 10 * (_SUFFIXES.index(suffix) + 1)))
        else:
            said.append(part)
    return ":".join(said)


#: Limits of systemd that a container cannot have, and what to use instead.
NO_LIMITS: Mapping[str, str] = {"LimitAS": "MemoryMax", "Nice": "CPUWeight"}


def slice_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that systemd keeps for a slice (systemd.resource-control(5))."""
    return {name: value for name, value in limits.items() if name not in (*_ULIMITS, *NO_LIMITS, "OOMScoreAdjust")}


SERVER = Server(
    name="container",
    options=Field(
        "dict",
        "Options of `podman run` or `docker run`, by their long names. They win over the collection's.",
        default={},
    ),
    # An image that is built here runs the app under Gunicorn.
    packages=gunicorn.PACKAGES,
    runtime="image",
    settings=sorted(SETTINGS),
    one_setting="an option of podman run and docker run",
    reserved=RESERVED,
    check_value=_check_value,
    graceful_setting=STOP_TIMEOUT,
    no_limits={name: f"a container has no such limit, use {instead}" for name, instead in NO_LIMITS.items()},
    noise=gunicorn.NOISE,
    starts=gunicorn.STARTS,
    dies=gunicorn.DIES,
)
