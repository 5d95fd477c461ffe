# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of deploys: what a rollback goes to."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from records import entries


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
