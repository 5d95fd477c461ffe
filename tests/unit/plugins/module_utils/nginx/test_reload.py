# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a reload has come through: new workers, and what the log says."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.nginx.reload import (
    errors_since,
    is_final,
    wait_for_new_workers,
    workers_of,
)


def process(proc: Path, number: int, parent: int, title: str) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} (nginx) S {parent} 1 1")
    (proc / str(number) / "cmdline").write_text(f"nginx: {title}\0")


def test_workers_are_the_masters_own_that_still_work(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "master process /usr/sbin/nginx")
    process(tmp_path, 11, 10, "worker process")
    process(tmp_path, 12, 10, "worker process is shutting down")
    process(tmp_path, 13, 10, "cache manager process")
    process(tmp_path, 14, 9, "worker process")
    assert workers_of(10, tmp_path) == {11}
    assert wait_for_new_workers(10, {12}, 1, lambda: False, tmp_path)
    assert not wait_for_new_workers(10, {11}, 0.1, lambda: False, tmp_path)
    assert not wait_for_new_workers(10, {11}, 60, lambda: True, tmp_path)


def test_errors_since(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("[emerg] old\n")
    size = log.stat().st_size
    with log.open("a") as file:
        file.write("[notice] x\n[emerg] bind() to 0.0.0.0:80 failed\n")
    assert errors_since(log, size) == ["[emerg] bind() to 0.0.0.0:80 failed"]
    assert not is_final(errors_since(log, size))
    with log.open("a") as file:
        file.write("[emerg] still could not bind()\n")
    assert is_final(errors_since(log, size))
    assert errors_since(tmp_path / "missing", 0) == []
