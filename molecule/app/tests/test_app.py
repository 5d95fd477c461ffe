# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An app that the role put on a host: who it is, what it can write, what it was told, where it came from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

APPS = ["fromgit", "fromarchive"]


def is_first(host: Any) -> bool:
    """Whether the release commands ran here: once for all hosts of the play."""
    return bool(host.backend.get_hostname() == min(deploying.addresses()))


def address(host: Any) -> str:
    return deploying.addresses()[host.backend.get_hostname()]


def ask(host: Any, app: str, target: str) -> Any:
    status, body = deploying.ask_live(address(host), target, app)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("app", APPS)
def test_it_answers(host: Any, app: str) -> None:
    assert ask(host, app, "/version")["app"] == "probe"


@pytest.mark.parametrize("app", APPS)
def test_its_user_can_do_nothing_else(host: Any, app: str) -> None:
    user = host.user(app)
    assert user.shell == "/usr/sbin/nologin"
    assert user.password in ("*", "!")
    assert user.groups == [app]
    assert app in host.user("www-data").groups
    assert ask(host, app, "/process")["uid"] == user.uid


@pytest.mark.parametrize(
    "path", [".", "/srv/fromgit", "/srv/fromgit/live/venv/bin", "/srv/fromgit/live", "/etc", "/opt"]
)
def test_it_cannot_write(host: Any, path: str) -> None:
    status, body = deploying.ask_live(address(host), f"/writable?path={path}", "fromgit")
    assert status != 200 or not json.loads(body)["writable"], body
    assert host.run(f"runuser -u fromgit -- touch /srv/fromgit/live/app/{path}/x").rc != 0


@pytest.mark.parametrize("path", ["instance", "var/uploads"])
def test_it_can_write_what_persists(host: Any, path: str) -> None:
    assert ask(host, "fromgit", f"/writable?path={path}")["writable"]
    assert host.file(f"/srv/fromgit/live/app/{path}").linked_to == f"/srv/fromgit/shared/{path}"


@pytest.mark.parametrize(
    ("name", "value"), [("PROBE_SETTING", "plain"), ("PROBE_SWITCH", "true"), ("PROBE_SECRET", "kept-from-everybody")]
)
def test_its_settings_and_secrets_arrive(host: Any, name: str, value: str) -> None:
    assert ask(host, "fromgit", f"/setting/{name}")["environment"] == value


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("", "root", "fromgit", 0o750),
        ("/shared", "fromgit", "fromgit", 0o770),
        ("/live/app/probe.py", "root", "fromgit", 0o640),
        ("/live/env", "root", "fromgit", 0o640),
        ("/live/secrets.env", "root", "root", 0o600),
        ("/live/release.json", "root", "root", 0o640),
    ],
)
def test_files_belong_to_root(host: Any, path: str, owner: str, group: str, mode: int) -> None:
    file = host.file(f"/srv/fromgit{path}")
    assert (file.user, file.group, file.mode) == (owner, group, mode)


def test_no_file_but_one_holds_the_secret(host: Any) -> None:
    holders = host.run("grep --recursive --files-with-matches kept-from-everybody /srv /etc /run /var/log /opt").stdout
    releases = {str(path) for path in holders.split() if not path.endswith("/secrets.env")}
    assert releases == set()


def test_the_secret_is_in_no_process_list_and_no_journal(host: Any) -> None:
    assert "kept-from-everybody" not in host.check_output("ps axww -o args")
    assert "kept-from-everybody" not in host.check_output("journalctl --no-pager")
    assert "kept-from-everybody" not in host.check_output("systemctl show 'fromgit@*'")


def test_where_it_came_from_is_kept(host: Any) -> None:
    facts = json.loads(host.file("/srv/fromgit/live/release.json").content_string)
    assert facts["source"]["kind"] == "git"
    assert facts["source"]["version"] == "v1.0"
    repository = Path(facts["source"]["url"])
    tagged = subprocess.run(["git", "-C", repository, "rev-parse", "v1.0"], capture_output=True, text=True, check=True)
    assert facts["source"]["commit"] == tagged.stdout.strip()
    assert facts["installer"] == "pip"
    assert "gunicorn==27.0.1" in facts["locked"]
    assert json.loads(host.file("/srv/fromarchive/live/release.json").content_string)["source"]["kind"] == "archive"


def test_release_commands_and_hooks_ran_as_the_app(host: Any) -> None:
    live = deploying.on_host(address(host), "fromgit").live
    assert host.file("/srv/fromgit/shared/instance/live").content_string.strip() == live
    migrations = host.file("/srv/fromgit/shared/instance/migrations")
    assert migrations.exists == is_first(host)
    if is_first(host):
        assert migrations.content_string == f"migrated by fromgit in /srv/fromgit/releases/{live}/app\n"


def test_the_record_knows_the_commands_and_the_deploy(host: Any) -> None:
    *ran, entry = deploying.on_host(address(host), "fromgit").record
    assert [(line["result"], len(line["commands"]), line["release"]) for line in ran] == (
        [("commands ran", 1, entry["release"])] if is_first(host) else []
    )
    assert (entry["result"], entry["action"]) == ("live", "deploy")


def test_bytecode_is_made_when_the_release_is(host: Any) -> None:
    assert host.run("ls /srv/fromgit/live/app/__pycache__/probe.*.pyc").rc == 0
