# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lines of the record: each is written whole, or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.history import append
from ansible_collections.flaskops.server.plugins.module_utils.host import record

ENTRIES = [{"release": "A", "result": record.LIVE}, {"release": "B", "result": record.FAILED}]


def test_lines_go_in_and_come_out(tmp_path: Path) -> None:
    path = tmp_path / "deploys.jsonl"
    assert record.read(path) == []
    for entry in ENTRIES:
        append(path, entry)
    assert record.read(path) == ENTRIES
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("rest", [b'{"release": "C", "resu', b"\xff\xfe\x00", b'["no", "dict"]', b"\n\n"])
def test_a_half_written_line_spoils_no_other(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "deploys.jsonl"
    append(path, {"release": "A"})
    with path.open("ab") as file:
        file.write(rest)
    assert record.read(path) == [{"release": "A"}]
    append(path, {"release": "B", "text": "a\nb\u2028c"})
    assert record.read(path) == [{"release": "A"}, {"release": "B", "text": "a\nb\u2028c"}]


@pytest.mark.parametrize("room", [0, 20])
def test_a_line_that_does_not_fit_leaves_nothing_of_it(tmp_path: Path, room: int) -> None:
    path = tmp_path / "deploys.jsonl"
    append(path, {"release": "a", "result": record.LIVE})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|No space left"):
            append(path, {"release": "b" * 100, "result": record.LIVE})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    append(path, {"release": "c", "result": record.LIVE})
    assert [entry["release"] for entry in record.read(path)] == ["a", "c"]
