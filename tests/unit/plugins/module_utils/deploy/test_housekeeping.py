# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What may be pruned: never the live release, nor the one that a rollback goes to."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.housekeeping import to_prune
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from records import entries


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
    assert to_prune(entries(told), live, staged, keep) == list(pruned)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_live_one_and_its_predecessor_stay(seed: int) -> None:
    dice = random.Random(seed)
    keep = dice.randint(1, 4)
    told: list[dict[str, Any]] = []
    staged: set[str] = set()
    live: str | None = None
    for _unused in range(60):
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
        pruned = set(to_prune(told, live, staged, keep))
        staged -= pruned
        assert {live, predecessor} - {None} <= staged
        assert len(staged) <= max(keep, 2)
        assert record.previous(told, live, staged) == predecessor
        assert to_prune(told, live, staged, keep) == []
