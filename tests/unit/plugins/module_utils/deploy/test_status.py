# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What people and monitoring are told of an app."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.history import append
from ansible_collections.flaskops.server.plugins.module_utils.deploy.status import as_lines, memory_of, status
from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.health import Answer, NoAnswerError
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.record import version
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import UnitState, UnitStates

APP: dict[str, Any] = {
    "server": "gunicorn",
    "domains": [],
    "tls": {"mode": "none"},
    "health": {"path": "/healthz", "headers": {}},
}
NOW = 1_800_000_000.0


class Running(UnitStates):
    """systemd where everything runs."""

    def state(self, unit: str) -> UnitState:
        return UnitState("active", 0, 1, "success", 50 * 2**20, "Fri")

    def releases(self, name: str) -> dict[str, list[str]]:
        return {"def": ["shop@def.service", "shop_mail@def.timer"], "abc": ["shop@abc.service"]}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout("shop", tmp_path)
    for name in ("abc", "def"):
        for part in ("app", "serve"):
            (layout.release(name) / part).mkdir(parents=True)
        for file in ("env", "secrets.env", "serve/service.conf", "app/shop.py"):
            (layout.release(name) / file).write_text("x")
        (layout.release(name) / "http.sock").symlink_to(layout.instance_socket(name))
        (layout.release(name) / "release.json").write_text(
            '{"source": {"kind": "git", "version": "v1"}, "staged": "2027-01-15T06:00:00Z", "size": "3 workers"}'
        )
        append(layout.record, {"release": name, "result": record.LIVE, "action": "deploy", "time": "t", "by": "ann"})
    append(
        layout.record,
        {
            "release": "bad",
            "result": record.FAILED,
            "action": "deploy",
            "time": "u",
            "by": "eve",
            "reason": "cannot be imported",
        },
    )
    site = tmp_path / "etc/nginx/sites-enabled/shop.conf"
    site.parent.mkdir(parents=True)
    site.write_text("server unix:/srv/shop/live/http.sock;")
    return layout


def test_the_question_is_the_one_of_the_proof(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("releases/def", layout.live)
    asked: list[Any] = []
    monkeypatch.setattr(health, "ask", lambda *given: asked.append(given) or Answer(500, "", ((302, "/login"),)))
    app = {**APP, "domains": ["a.example"], "health": {"path": "/", "status": [200], "headers": {}}}
    assert status(layout, Running(), app, 0)["health"] == "500"
    assert asked[0][1] == "/" and asked[0][4:] == ([200], ["a.example"])


def test_what_is_live(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("releases/def", layout.live)
    monkeypatch.setattr(health, "ask", lambda *_unused: Answer(200, "ok"))
    said = status(layout, Running(), APP, 2)
    assert said["live"] == "def" and said["previous"] == "abc" and said["size"] == "3 workers"
    assert as_lines(said, NOW) == [
        "shop: def (v1) is live, 2 h old",
        "  health 200, instance active, 50 MiB",
        "  kept: abc, def; a rollback goes to abc",
        "  shop_mail@def.timer active",
        "  t deploy def live (ann)",
        "  u deploy bad failed: cannot be imported (eve)",
    ]


def test_nothing_is_live(layout: Layout) -> None:
    said = status(layout, Running(), APP, 0)
    assert (said["live"], said["health"], said["instance"], said["deploys"]) == (None, "nothing is live", "none", [])
    assert as_lines(said, NOW) == ["shop: nothing is live"]


def test_no_answer_is_told_and_is_no_failure(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_unused: Any) -> Answer:
        raise NoAnswerError("nothing listens on its socket")

    os.symlink("releases/abc", layout.live)
    monkeypatch.setattr(health, "ask", silent)
    said = status(layout, Running(), APP, 0)
    assert said["health"] == "nothing listens on its socket"
    assert as_lines({**said, "memory": None, "staged": None}, NOW) == [
        "shop: abc (v1) is live, age unknown",
        "  health nothing listens on its socket, instance active",
        "  kept: abc, def; there is no earlier release to roll back to",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"kind": "git", "version": "v1", "commit": "c"}, "v1"),
        ({"kind": "package", "requirement": "a==1"}, "a==1"),
        ({"kind": "path", "commit": "c0ffee"}, "c0ffee"),
        ({"kind": "path"}, "path"),
        ({}, "unknown source"),
    ],
)
def test_version(source: dict[str, Any], words: str) -> None:
    assert version(source) == words


def test_a_damaged_release_is_not_called_well(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("releases/def", layout.live)
    monkeypatch.setattr(health, "ask", lambda *_unused: Answer(200, ""))
    (layout.release("def") / "serve/service.conf").unlink()
    (layout.release("abc") / "env").unlink()
    said = status(layout, Running(), APP, 0)
    # Nor is another damaged one where a rollback goes.
    assert (said["damaged"], said["previous"]) == (["serve/service.conf is gone"], None)
    assert as_lines(said, NOW)[1] == (
        "  damaged: serve/service.conf is gone. Next: ansible-playbook -i INVENTORY flaskops.server.deploy makes it again"
    )


def test_an_app_that_nginx_does_not_lead_to(layout: Layout) -> None:
    for file in (layout.root / "etc/nginx/sites-enabled").iterdir():
        file.write_text("server unix:/srv/other/live/http.sock;")
    said = status(layout, Running(), APP, 0)
    assert said["reachable"] is False
    assert "  no nginx site on this host points to it:" in as_lines(said, NOW)[-1]


@pytest.mark.parametrize(
    ("staged", "age"),
    [
        ("2027-01-15T07:59:30Z", "30 s"),
        ("2027-01-15T07:50:00Z", "10 min"),
        ("2027-01-15T01:30:00Z", "6 h"),
        ("2027-01-01T08:00:00Z", "14 d"),
    ],
)
def test_age(staged: str, age: str) -> None:
    said = {"app": "shop", "live": "abc", "source": {}, "staged": staged, "health": "200", "instance": "active"}
    said |= {
        "memory": None,
        "releases": [],
        "previous": None,
        "deploys": [],
        "damaged": [],
        "reachable": True,
        "units": {},
    }
    assert as_lines(said, NOW)[0] == f"shop: abc (unknown source) is live, {age} old"


def test_release_commands_are_told(layout: Layout) -> None:
    entry = {"release": "new", "result": record.COMMANDS, "action": "deploy", "time": "v", "by": "ann"}
    append(layout.record, {**entry, "commands": ["flask db upgrade", "touch x"]})
    said = status(layout, Running(), APP, 1)
    assert as_lines(said, NOW)[-1] == "  v deploy new commands ran: flask db upgrade; touch x (ann)"


def test_memory_of_a_process_that_is_there_and_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "smaps_rollup").write_text("Rss:      900 kB\nPss:      700 kB\nPss_Dirty:  10 kB\n")
    assert memory_of(42, tmp_path) == 700 * 1024
    assert memory_of(43, tmp_path) is None
