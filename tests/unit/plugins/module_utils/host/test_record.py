# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of deploys: what a rollback goes to, and what may be pruned."""

from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import record


def entries(text: str) -> list[dict[str, Any]]:
    """Return a record: ``A`` a deploy, ``-A`` a failed one, ``<A`` a rollback, ``~A`` one that was taken back."""
    results = {"-": record.FAILED, "~": record.TAKEN_BACK}
    return [
        {
            "action": "rollback" if word[0] == "<" else "deploy",
            "release": word[-1],
            "result": results.get(word[0], record.LIVE),
        }
        for word in text.split()
    ]


@pytest.mark.parametrize(
    ("told", "history", "previous"),
    [
        ("", "", None),
        ("A", "A", None),
        ("A B C", "ABC", "B"),
        ("A B -C", "AB", "A"),
        ("A B C <B", "AB", "A"),
        ("A B C <A", "A", None),
        ("A B C <B D", "ABD", "B"),
        ("A B C <B <A", "A", None),
        # A release of before, deployed again, is on top.
        ("A B A", "BA", "B"),
        ("A B A B", "AB", "A"),
        # What failed, or was taken back, is passed over, until it is live again.
        ("A B -B C", "ABC", "A"),
        ("A B ~B C", "ABC", "A"),
        ("A -B B C", "ABC", "B"),
        # A rollback to a release that the record does not know.
        ("A B <C", "ABC", "B"),
    ],
)
def test_the_way_back(told: str, history: str, previous: str | None) -> None:
    known = entries(told)
    live = history[-1] if history else None
    assert record.history(known) == list(history)
    assert record.previous(known, live, "ABCD") == previous


@pytest.mark.parametrize(
    ("told", "live", "staged", "previous"),
    [
        ("A B C", "C", "AC", "A"),
        ("A B C", "C", "C", None),
        ("A B C", "B", "ABC", "A"),
        # The line of the live one was never written, or is gone.
        ("A B", "X", "ABX", "B"),
        ("", "X", "X", None),
        ("A", None, "A", "A"),
    ],
)
def test_only_what_is_there_is_gone_back_to(told: str, live: str | None, staged: str, previous: str | None) -> None:
    assert record.previous(entries(told), live, staged) == previous


@pytest.mark.parametrize(("told", "bad"), [("A -B", "B"), ("A -A", "A"), ("-A A", ""), ("~A B", "A"), ("", "")])
def test_bad(told: str, bad: str) -> None:
    assert record.bad(entries(told)) == set(bad)


@pytest.mark.parametrize(
    ("told", "live", "staged", "keep", "pruned"),
    [
        ("A B C D", "D", "ABCD", 5, ""),
        ("A B C D", "D", "ABCD", 3, "A"),
        ("A B C D", "D", "ABCD", 2, "AB"),
        ("A B C D", "D", "ABCD", 1, "AB"),
        # After a rollback the one that was gone back from is the youngest, and is kept as such.
        ("A B C D <C", "C", "ABCD", 3, "A"),
        ("A B C D <B", "B", "ABCD", 3, "C"),
        ("A B -C D", "D", "ABCD", 5, "C"),
        ("A B C", "C", "ABCX", 5, "X"),
        ("A B C -B D", "D", "ABCD", 2, "AB"),
        ("", "A", "AB", 5, "B"),
    ],
)
def test_prune(told: str, live: str, staged: str, keep: int, pruned: str) -> None:
    assert record.to_prune(entries(told), live, staged, keep) == list(pruned)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_live_one_and_its_predecessor_stay(seed: int) -> None:
    dice = random.Random(seed)
    keep = dice.randint(1, 4)
    told: list[dict[str, Any]] = []
    staged: set[str] = set()
    live: str | None = None
    for _ in range(60):
        action = dice.choice(["deploy", "deploy", "fail", "rollback"])
        release = dice.choice("ABCDEFGH")
        if action == "rollback":
            back = record.previous(told, live, staged)
            if back is None:
                continue
            assert back in staged and back != live
            release = back
        elif action == "fail":
            told += entries(f"-{release}")
            continue
        staged.add(release)
        before, live = live, release
        told += entries(f"{'<' if action == 'rollback' else ''}{release}")
        predecessor = record.previous(told, live, staged)
        if action == "deploy" and before not in {None, live, *record.bad(told)}:
            assert predecessor == before
        pruned = set(record.to_prune(told, live, staged, keep))
        staged -= pruned
        assert {live, predecessor} - {None} <= staged
        assert len(staged) <= max(keep, 2)
        assert record.previous(told, live, staged) == predecessor
        assert record.to_prune(told, live, staged, keep) == []


def test_lines_go_in_and_come_out(tmp_path: Path) -> None:
    path = tmp_path / "deploys.jsonl"
    assert record.read(path) == []
    for entry in entries("A -B"):
        record.append(path, entry)
    assert record.read(path) == entries("A -B")
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("rest", [b'{"release": "C", "resu', b"\xff\xfe\x00", b'["no", "dict"]', b"\n\n"])
def test_a_half_written_line_spoils_no_other(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "deploys.jsonl"
    record.append(path, {"release": "A"})
    with path.open("ab") as file:
        file.write(rest)
    assert record.read(path) == [{"release": "A"}]
    record.append(path, {"release": "B", "text": "a\nb\u2028c"})
    assert record.read(path) == [{"release": "A"}, {"release": "B", "text": "a\nb\u2028c"}]


@pytest.mark.parametrize("room", [0, 20])
def test_a_line_that_does_not_fit_leaves_nothing_of_it(tmp_path: Path, room: int) -> None:
    path = tmp_path / "deploys.jsonl"
    record.append(path, {"release": "a", "result": record.LIVE})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|No space left"):
            record.append(path, {"release": "b" * 100, "result": record.LIVE})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    record.append(path, {"release": "c", "result": record.LIVE})
    assert [entry["release"] for entry in record.read(path)] == ["a", "c"]
