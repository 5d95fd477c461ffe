# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many workers a host carries: from CPUs, memory, cgroup limits and the app's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.sizing import Capacity, capacity, size

MIB = 2**20
OWN = "this host's"


@pytest.mark.parametrize(
    ("workers", "threads", "cpus", "mib", "wanted", "reason"),
    [
        ("auto", "auto", 1, 2048, (3, 4), "3 workers: 2 for each of 1 CPUs (c) and one more; 4 threads each"),
        ("auto", "auto", 4, 16384, (9, 4), "9 workers: 2 for each of 4 CPUs (c) and one more; 4 threads each"),
        ("auto", 2, 0.5, 2048, (2, 2), "2 workers: 2 for each of 0.5 CPUs (c) and one more; 2 threads each"),
        ("auto", "auto", 8, 1024, (3, 4), "3 workers: 40% of 1024 MiB memory (m) at 128 MiB a worker; 4 threads each"),
        ("auto", "auto", 2, 64, (1, 4), "1 workers: 40% of 64 MiB memory (m) at 128 MiB a worker; 4 threads each"),
        ("auto", "auto", 64, 2**20, (32, 4), "32 workers: more is for a person to choose; 4 threads each"),
        (7, 1, 1, 64, (7, 1), "7 workers and 1 threads each, as set"),
        (7, "auto", 1, 64, (7, 4), "7 workers and 4 threads each, as set"),
    ],
)
def test_size(workers: Any, threads: Any, cpus: float, mib: int, wanted: tuple[int, int], reason: str) -> None:
    found = size(workers, threads, Capacity(cpus, mib * MIB, "c", "m"))
    assert ((found.workers, found.threads), found.reason) == (wanted, reason)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with 4 CPUs and 4 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemFree: 1 kB\nMemTotal:        4194304 kB\nSwapTotal: 1 kB\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu_max", "memory_max", "limits", "wanted"),
    [
        (None, None, {}, (4.0, 4096, OWN, OWN)),
        ("max 100000", "max", {}, (4.0, 4096, OWN, OWN)),
        ("150000 100000", "1073741824", {}, (1.5, 1024, "its cgroup's quota", "its cgroup's limit")),
        ("800000 100000", "99999999999", {}, (4.0, 4096, OWN, OWN)),
        (None, None, {"CPUQuota": "50%", "MemoryMax": "512M"}, (0.5, 512, "CPUQuota", "MemoryMax")),
        ("200000 100000", "2147483648", {"CPUQuota": "50%", "MemoryHigh": "1G"}, (0.5, 1024, "CPUQuota", "MemoryHigh")),
        ("20000 100000", None, {"CPUQuota": "50%"}, (0.2, 4096, "its cgroup's quota", OWN)),
        (None, None, {"CPUQuota": "800%", "MemoryMax": "infinity"}, (4.0, 4096, OWN, OWN)),
        (None, None, {"MemoryMax": "25%"}, (4.0, 1024, OWN, "MemoryMax")),
        (None, None, {"MemoryMax": 536870912}, (4.0, 512, OWN, "MemoryMax")),
        (None, None, {"MemoryMax": "524288K", "MemoryHigh": "1G"}, (4.0, 512, OWN, "MemoryMax")),
        (None, None, {"MemoryMax": "0.5G"}, (4.0, 512, OWN, "MemoryMax")),
    ],
)
def test_capacity(
    root: Path,
    cpu_max: str | None,
    memory_max: str | None,
    limits: dict[str, Any],
    wanted: tuple[float, int, str, str],
) -> None:
    for name, text in (("cpu.max", cpu_max), ("memory.max", memory_max)):
        if text is not None:
            (root / "sys/fs/cgroup" / name).write_text(text + "\n")
    cpus, mib, cpu_reason, memory_reason = wanted
    assert capacity(limits, root) == Capacity(cpus, mib * MIB, cpu_reason, memory_reason)


def test_without_proc(root: Path) -> None:
    (root / "proc/meminfo").write_text("nothing")
    with pytest.raises(OSError, match="MemTotal"):
        capacity({}, root)
