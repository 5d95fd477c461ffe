# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The walk asks every part at its moment: forwards, and backwards where a release is given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts import PARTS
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from fakes import NO_CHECKS, Host, Refused


class Spy(Part):
    """A part that says when it was asked, and refuses at one moment."""

    def __init__(self, name: str, asked: list[str], refuses: str = "") -> None:
        self.name, self.asked, self.refuses = name, asked, refuses

    def _at(self, moment: str) -> None:
        self.asked.append(f"{self.name} {moment}")
        if moment == self.refuses:
            raise DeployError(Where.LIVE, f"is refused by {self.name}")

    def begins(self, live: Release) -> None:
        self._at(f"begins {live.id}")

    def stage(self, release: Release, staging: Path) -> dict[str, Any]:
        self._at("stage")
        (staging / "serve" / f"{self.name}.json").write_text("{}")
        return {self.name: "was here"}

    def units(self, release: Release) -> list[str]:
        return [f"shop_{self.name}@{release.id}.service"]

    def check(self, release: Release) -> None:
        self._at("check")

    def check_started(self, release: Release) -> None:
        self._at("check_started")

    def verify(self, release: Release, started: float) -> None:
        self._at("verify")

    def switching(self, release: Release) -> None:
        self._at("switching")

    def switched(self, new: Release, old: Release | None) -> None:
        self._at(f"switched {new.id} {old.id if old else None}")

    def settled(self, new: Release, old: Release | None) -> None:
        self._at("settled")

    def finished(self, release: Release) -> None:
        self._at("finished")

    def aborted(self, release: Release) -> None:
        self._at("aborted")

    def failed(self, live: Release) -> None:
        self._at(f"failed {live.id}")

    def status(self, release: Release) -> dict[str, Any]:
        return {self.name: f"of {release.id}"}

    def refuses_rollback(self, to: Release) -> str:
        return "its tables are gone" if self.refuses == "rollback" else ""


A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def spied(host: Host, refuses: str = "") -> list[str]:
    asked: list[str] = []
    host.parts = (*PARTS, Spy("first", asked), Spy("second", asked, refuses))
    return asked


def test_forwards(host: Host) -> None:
    host.deploy(A, NO_CHECKS)
    asked = spied(host)
    host.deploy(B, NO_CHECKS)
    moments = [
        f"begins {A}",
        "stage",
        "check",
        "check_started",
        "verify",
        "switching",
        f"switched {B} {A}",
        "settled",
        "finished",
    ]
    assert asked == [f"{name} {moment}" for moment in moments for name in ("first", "second")]
    assert host.layout.manifest(B)["second"] == "was here"
    assert host.layout.manifest(B)["parts"] == {"first": f"of {B}", "second": f"of {B}"}
    # What a part adds is counted: a release without it is damaged.
    assert host.layout.missing(B) == []
    (host.layout.release(B) / "serve/second.json").unlink()
    assert host.layout.missing(B) == ["1 file is gone"]


def test_all_units_of_a_release_come_and_go_together(host: Host) -> None:
    spied(host)
    host.deploy(A, NO_CHECKS)
    assert set(host.systemd.running) == {f"shop@{A}.service", f"shop_first@{A}.service", f"shop_second@{A}.service"}
    host.step(host.walk(B, NO_CHECKS), "verify")
    assert f"shop_second@{B}.service" in host.systemd.running
    host.step(host.walk(B, NO_CHECKS), "abort")
    assert {unit for unit in host.systemd.running if B in unit} == set()


@pytest.mark.parametrize("moment", ["stage", "check", "check_started", "verify", "switching"])
def test_backwards_where_a_release_is_refused(host: Host, moment: str) -> None:
    host.deploy(A, NO_CHECKS)
    asked = spied(host, moment)
    with pytest.raises(Refused, match="is refused by second"):
        host.deploy(B, NO_CHECKS)
    assert asked[-4:] == ["second aborted", "first aborted", f"second failed {A}", f"first failed {A}"]
    assert (host.layout.live_id(), host.layout.staged_ids()) == (A, [A])
    assert {unit for unit in host.systemd.running if B in unit} == set()


def test_what_a_part_raises_after_the_switch_takes_the_release_back(host: Host) -> None:
    host.deploy(A, NO_CHECKS)
    asked = spied(host, f"switched {B} {A}")
    with pytest.raises(Refused, match=f"(?s)is refused by second.*Still serving: {A}"):
        host.deploy(B, NO_CHECKS)
    assert "first settled" not in asked
    # The old one ran all the time.
    assert host.layout.live_id() == A and f"shop@{A}.service" in host.systemd.running
    assert host.told[-1] == ("deploy", B, record.TAKEN_BACK)


def test_a_part_forbids_a_rollback_in_its_own_words(host: Host) -> None:
    for release in (A, B):
        host.deploy(release, NO_CHECKS)
    spied(host, "rollback")
    with pytest.raises(Refused, match="cannot be rolled back to: its tables are gone"):
        host.rollback()
    assert host.layout.live_id() == B


def test_a_rollback_goes_to_no_release_that_was_taken_back_unless_it_is_named(host: Host) -> None:
    commands = {"hooks": {"before_live": ["true"]}, **NO_CHECKS}
    for release in (A, B):
        host.deploy(release, commands)
    host.deploy(A, commands)
    spied(host, f"switched {B} {A}")
    with pytest.raises(Refused):
        host.deploy(B, commands)
    host.parts = PARTS
    assert host.layout.staged_ids() == [A, B]
    with pytest.raises(Refused, match="no earlier good release"):
        host.rollback()
    host.rollback(B)
    assert host.layout.live_id() == B
