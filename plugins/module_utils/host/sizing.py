# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many workers and threads a host can carry, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Memory that a worker of an ordinary Flask application with an ORM is given, in bytes.
WORKER_MEMORY = 128 * 2**20
#: The share of the memory that the workers of one app may plan with: the system, nginx and a second instance during a
#: deploy need the rest.
MEMORY_SHARE = 0.4
#: Gunicorn's documentation: "(2 x $num_cores) + 1" (https://docs.gunicorn.org/en/stable/design.html).
WORKERS_PER_CPU = 2
#: More than this many workers share a socket badly; a person should choose.
MOST_WORKERS = 32
#: Threads for each worker: Flask applications wait for databases and other services most of the time.
THREADS = 4


@dataclass(frozen=True)
class Capacity:
    """What a host offers: CPUs (a fraction where a quota says so) and memory in bytes, and what limits each."""

    cpus: float
    memory: int
    cpu_reason: str
    memory_reason: str


@dataclass(frozen=True)
class Size:
    """The processes and the threads in each, with the reason in words."""

    workers: int
    threads: int
    reason: str


def size(workers: int | str, threads: int | str, capacity: Capacity) -> Size:
    """Return the size of an app on a host.

    :param workers: a number, or ``auto``.
    :param threads: a number, or ``auto``.
    """
    thread_count = THREADS if threads == "auto" else int(threads)
    if workers != "auto":
        return Size(int(workers), thread_count, f"{workers} workers and {thread_count} threads each, as set")
    by_cpu = max(2, int(WORKERS_PER_CPU * capacity.cpus) + 1)
    by_memory = max(1, int(capacity.memory * MEMORY_SHARE / WORKER_MEMORY))
    count = min(by_cpu, by_memory, MOST_WORKERS)
    mib = capacity.memory // 2**20
    if count == by_cpu:
        why = f"{WORKERS_PER_CPU} for each of {capacity.cpus:g} CPUs ({capacity.cpu_reason}) and one more"
    elif count == by_memory:
        why = f"{MEMORY_SHARE:.0%} of {mib} MiB memory ({capacity.memory_reason}) at {WORKER_MEMORY // 2**20} MiB a worker"
    else:
        why = "more is for a person to choose"
    return Size(count, thread_count, f"{count} workers: {why}; {thread_count} threads each")


def capacity(limits: Mapping[str, Any], root: Path = Path("/")) -> Capacity:
    """Return what the host, the cgroup it runs in and the app's own limits leave.

    :param limits: the app's systemd limits (``CPUQuota``, ``MemoryMax``, ``MemoryHigh``).
    :raises OSError: when /proc is not mounted.
    """
    cpus, cpu_reason = float(len(os.sched_getaffinity(0))), "this host's"
    memory, memory_reason = _total_memory(root), "this host's"
    for limit, reason in ((_cgroup_cpus(root), "its cgroup's quota"), (_percent(limits.get("CPUQuota")), "CPUQuota")):
        if limit is not None and limit < cpus:
            cpus, cpu_reason = limit, reason
    candidates = ((_cgroup_memory(root), "its cgroup's limit"), (_bytes(limits.get("MemoryMax"), memory), "MemoryMax"))
    for limit, reason in (*candidates, (_bytes(limits.get("MemoryHigh"), memory), "MemoryHigh")):
        if limit is not None and limit < memory:
            memory, memory_reason = limit, reason
    return Capacity(cpus, int(memory), cpu_reason, memory_reason)


def _total_memory(root: Path) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    if match is None:
        raise OSError("/proc/meminfo does not say MemTotal")
    return int(match.group(1)) * 1024


def _cgroup_cpus(root: Path) -> float | None:
    quota, period = _read(root / "sys/fs/cgroup/cpu.max", "max 100000").split()[:2]
    return None if quota == "max" else int(quota) / int(period)


def _cgroup_memory(root: Path) -> int | None:
    value = _read(root / "sys/fs/cgroup/memory.max", "max").strip()
    return None if value == "max" else int(value)


def _read(path: Path, default: str) -> str:
    try:
        return path.read_text()
    except OSError:
        return default


def _percent(value: Any) -> float | None:
    match = re.fullmatch(r"([\d.]+)%", str(value or ""))
    return float(match.group(1)) / 100 if match else None


def _bytes(value: Any, total: int) -> int | None:
    """Return a size as systemd writes it (systemd.resource-control(5)): bytes, K, M, G, T, or a share of the memory."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT%]?)", str(value or ""))
    if match is None:
        return None
    number, suffix = float(match.group(1)), match.group(2)
    if suffix == "%":
        return int(total * number / 100)
    return int(number * 1024 ** " KMGT".index(suffix or " "))
