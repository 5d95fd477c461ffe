"""Two applications on one host behind nginx, as site.yml leaves them: asked from outside, and looked at from inside."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.server.tests.support import deploying, visitor

INVENTORY = yaml.safe_load(
    Path(os.environ["MOLECULE_INVENTORY_FILE"]).with_name("group_vars").joinpath("all").read_text()
)
APPS: dict[str, dict[str, Any]] = {app["name"]: app for app in INVENTORY["flask_apps"]}
SECRETS: Mapping[str, str] = APPS["shop"]["secrets"]
HOSTS = sorted(deploying.addresses())

#: systemd-analyze security: 0 is closed, 10 open; a unit without any directive has 9.2.
MOST_EXPOSURE = 1.5


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """The container of one of the hosts after the other."""
    return deploying.addresses()[request.param]


@pytest.fixture
def front(request: pytest.FixtureRequest, host: str) -> str:
    """The address of that host."""
    return visitor.address(request.node.callspec.params["host"])


def unit_of(host: str, app: str) -> str:
    return f"{app}@{deploying.on_host(host, app).live}.service"


def properties(host: str, unit: str, *names: str) -> dict[str, str]:
    shown = deploying.shell(host, f"systemctl show --property={','.join(names)} {unit}")
    return dict(line.partition("=")[::2] for line in shown.splitlines())


def owners(host: str, *paths: str) -> list[str]:
    """Return ``mode owner group`` of each path."""
    return deploying.shell(host, f"stat --format='%a %U %G' {' '.join(paths)}").splitlines()


# -- through nginx -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shop.test", "tea.test"])
def test_the_shop_shows_what_its_migrations_put_in(front: str, name: str) -> None:
    page = visitor.get(front, name)
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Iron Goddess" in page.text


def test_an_order_is_kept(front: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    added = visitor.post(front, "shop.test", "/cart", b"product=3&quantity=2", headers=form)
    assert added.status == 303 and "secure" in added.headers["set-cookie"].lower()
    cookie = {"Cookie": added.headers["set-cookie"].partition(";")[0]}
    ordered = visitor.post(front, "shop.test", "/order", "customer=Zoë".encode(), headers=form | cookie)
    assert ordered.status == 303
    receipt = visitor.get(front, "shop.test", ordered.headers["location"])
    assert receipt.status == 200 and "Zoë" in receipt.text and "Iron Goddess" in receipt.text


@pytest.mark.parametrize(
    ("file", "kind"), [("shop.css", "text/css"), ("shop.js", "text/javascript"), ("cup.svg", "image/svg+xml")]
)
def test_static_files_come_from_nginx(host: str, front: str, file: str, kind: str) -> None:
    answer = visitor.get(front, "shop.test", f"/static/{file}?from=test")
    assert answer.status == 200 and answer.headers["content-type"].partition(";")[0] in (kind, "application/javascript")
    assert answer.body == (deploying.ROOT / "examples" / "shop" / "shop" / "static" / file).read_bytes()
    entry = nginx_entries(host, f"/static/{file}?from=test")[-1]
    assert entry["status"] == 200 and entry["upstream_status"] is None


def test_the_app_sees_the_visitor(front: str) -> None:
    answer = visitor.get(front, "shop.test", "/whoami?x=1")
    assert answer.json() == {
        "url": "https://shop.test/whoami?x=1",
        "scheme": "https",
        "host": "shop.test",
        "remote_addr": answer.sent_from,
        "secure": True,
    }


def test_what_a_visitor_claims_is_not_believed(front: str) -> None:
    claims = {
        "X-Forwarded-For": "198.51.100.7",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Port": "81",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "198.51.100.7",
        "Forwarded": "for=198.51.100.7;host=evil.test;proto=http",
    }
    answer = visitor.get(front, "shop.test", "/whoami", headers=claims)
    seen = answer.json()
    assert (seen["url"], seen["remote_addr"]) == ("https://shop.test/whoami", answer.sent_from)


def test_httpbin_sees_the_visitor(front: str) -> None:
    answer = visitor.get(front, "httpbin.test", "/get?a=1")
    assert answer.status == 200
    seen = answer.json()
    assert (seen["url"], seen["origin"]) == ("https://httpbin.test/get?a=1", answer.sent_from)
    assert seen["headers"]["Host"] == "httpbin.test"


def test_httpbin_answers_with_any_status(front: str) -> None:
    answer = visitor.get(front, "httpbin.test", "/status/418")
    assert answer.status == 418 and "teapot" in answer.text


def test_httpbin_streams(front: str) -> None:
    answer = visitor.get(front, "httpbin.test", "/stream/5")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.status == 200 and [line["id"] for line in lines] == [0, 1, 2, 3, 4]


def test_httpbin_takes_five_megabytes(front: str) -> None:
    body = (b"0123456789abcdef" * 65536 * 5)[: 5 * 1024 * 1024]
    answer = visitor.post(front, "httpbin.test", "/post", body, headers={"Content-Type": "text/plain"})
    assert answer.status == 200 and answer.json()["data"].encode() == body


@pytest.mark.parametrize("name", ["shop.test", "tea.test", "httpbin.test"])
def test_http_is_redirected(front: str, name: str) -> None:
    answer = visitor.get(front, name, "/a?b=c", tls=False)
    assert answer.status in (301, 308) and answer.headers["location"] == f"https://{name}/a?b=c"


def test_unknown_hosts_get_nothing(front: str) -> None:
    with pytest.raises(ConnectionResetError):
        visitor.get(front, "unknown.test", tls=False)
    with pytest.raises(ssl.SSLError):
        visitor.get(front, "unknown.test")


# -- what is on the host -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", list(APPS))
def test_the_record(host: str, app: str) -> None:
    there = deploying.on_host(host, app)
    deploys = [entry for entry in there.record if entry["result"] != "commands ran"]
    assert [(entry["action"], entry["result"], entry["release"]) for entry in deploys] == [
        ("deploy", "live", there.live)
    ]
    assert there.releases == [there.live] and len(there.venvs) == 1 and there.instances == {there.live: "active"}
    assert there.lock is None
    facts = json.loads(deploying.shell(host, f"cat /srv/{app}/live/release.json"))
    assert facts["release"] == there.live and facts["venv"] == there.venvs[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["staged"]) and "@" in facts["by"]
    assert re.fullmatch(r"[0-9a-f]{64}", facts["components"]["code"])
    locked = dict(item.split("==") for item in facts["locked"])
    assert {"flask", "gunicorn", "werkzeug"} <= set(locked)
    if app == "httpbin":
        assert locked["httpbin"] == facts["source"]["version"] == "0.10.4"
    else:
        assert facts["source"]["kind"] == "path" and facts["source"]["path"].endswith("examples/shop")


def test_every_host_has_the_same_releases() -> None:
    for app in APPS:
        assert len({deploying.on_host(address, app).live for address in deploying.addresses().values()}) == 1


def test_check_mode_on_a_bare_host_foretold_the_releases() -> None:
    said = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "check.txt").read_text()
    for name, address in deploying.addresses().items():
        for app in APPS:
            assert f"'{app}: would deploy {deploying.on_host(address, app).live}, the first release'" in said, name
    assert "never-shown" not in said


@pytest.mark.parametrize("app", list(APPS))
def test_the_app_reads_but_does_not_own(host: str, app: str) -> None:
    live = f"/srv/{app}/live"
    assert owners(host, f"/srv/{app}", f"{live}/", f"{live}/app", f"{live}/serve", f"{live}/env") == [
        *[f"750 root {app}"] * 4,
        f"640 root {app}",
    ]
    assert owners(host, f"{live}/secrets.env") == ["600 root root"]
    assert owners(host, f"/srv/{app}/shared", f"/srv/{app}/shared/instance") == [f"770 {app} {app}"] * 2
    # Nothing of a release or a virtualenv belongs to the app, or may be written by anybody but root.
    loose = f"find /srv/{app}/releases /srv/{app}/venvs ! -type l \\( ! -user root -o -perm /022 \\)"
    assert deploying.shell(host, loose) == ""


def test_secrets_are_in_no_file_that_others_can_read(host: str) -> None:
    found = deploying.shell(
        host, "grep -rlsE never-shown /srv /etc /run /opt /var/log /root /tmp /var/tmp", check=False
    )
    assert found.split() == [f"/srv/shop/releases/{deploying.on_host(host, 'shop').live}/secrets.env"]
    assert "never-shown" not in deploying.shell(
        host, "ps -eww -o args; systemctl show 'shop*'; systemctl cat 'shop@*'; journalctl --no-pager"
    )


@pytest.mark.parametrize("app", list(APPS))
def test_the_app_can_write_only_what_is_shared(host: str, app: str) -> None:
    there = deploying.on_host(host, app)
    main = properties(host, unit_of(host, app), "MainPID")["MainPID"]
    places = {
        f"/srv/{app}": False,
        f"/srv/{app}/live/app": False,
        f"/srv/{app}/venvs/{there.venvs[0]}": False,
        f"/srv/{app}/venvs/{there.venvs[0]}/bin": False,
        f"/run/{app}": False,
        "/etc": False,
        f"/srv/{app}/shared/instance": True,
        "/tmp": True,
    }
    # As its user, and once more from within its own sandbox.
    for enter in ("", f"nsenter --target {main} --mount "):
        script = (
            "for place in "
            + " ".join(places)
            + "; do if touch $place/try 2>&-; then rm $place/try; echo $place; fi; done"
        )
        said = deploying.shell(host, f"{enter}setpriv --reuid={app} --regid={app} --clear-groups sh -c '{script}'")
        assert said.split() == [path for path, wanted in places.items() if wanted]


@pytest.mark.parametrize("app", list(APPS))
def test_no_user_of_an_app_can_log_in(host: str, app: str) -> None:
    assert deploying.shell(host, f"getent passwd {app}").endswith("/usr/sbin/nologin")
    assert deploying.shell(host, f"getent shadow {app}").split(":")[1] in ("*", "!", "!*")


@pytest.mark.parametrize("app", list(APPS))
def test_the_unit(host: str, app: str) -> None:
    unit = unit_of(host, app)
    said = properties(
        host, unit, "ActiveState", "User", "Group", "Type", "NoNewPrivileges", "NRestarts", "MainPID", "MemoryMax"
    )
    assert (said["ActiveState"], said["User"], said["Group"], said["Type"]) == ("active", app, app, "notify")
    assert said["NoNewPrivileges"] == "yes" and said["NRestarts"] == "0"
    assert said["MemoryMax"] == (str(512 * 2**20) if app == "shop" else "infinity")
    assert deploying.shell(host, f"systemctl is-enabled {app}.service") == "enabled"
    # It runs from the virtualenv of its own release.
    command = deploying.shell(host, f"tr '\\0' ' ' </proc/{said['MainPID']}/cmdline")
    assert command.startswith(f"/srv/{app}/releases/{deploying.on_host(host, app).live}/venv/bin/python -m gunicorn ")
    exposure = deploying.shell(host, f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
    found = re.search(r"exposure level for .*: ([\d.]+)", exposure)
    assert found and float(found[1]) < MOST_EXPOSURE, exposure
    print(f"{unit}: exposure {found[1]}")


def test_secrets_arrive_as_they_are(host: str) -> None:
    main = properties(host, unit_of(host, "shop"), "MainPID")["MainPID"]
    processes = [main, *deploying.shell(host, f"cat /proc/{main}/task/{main}/children").split()]
    assert len(processes) == 1 + APPS["shop"]["workers"]
    for process in processes:
        environment = deploying.shell(host, f"tr '\\0' '\\001' </proc/{process}/environ").split("\x01")
        variables = dict(item.partition("=")[::2] for item in environment)
        for name, value in {**SECRETS, **APPS["shop"]["env"]}.items():
            assert variables[name] == value


# -- logs --------------------------------------------------------------------------------------------------------------


def nginx_entries(host: str, uri: str) -> list[dict[str, Any]]:
    """Return the entries of nginx's access log for one URI; it is written when the request has ended."""

    def look() -> list[dict[str, Any]]:
        lines = deploying.shell(host, "cat /var/log/nginx/access.log").splitlines()
        return [entry for line in lines if (entry := json.loads(line))["uri"] == uri]

    found: list[dict[str, Any]] = deploying.wait_until(f"nginx's log of {uri}", look, 5)
    return found


def test_one_request_id_in_both_logs(host: str, front: str) -> None:
    path = f"/whoami-{time.time_ns()}"
    answer = visitor.get(front, "shop.test", f"{path}?token=never-logged")
    assert answer.status == 404
    (outer,) = nginx_entries(host, f"{path}?token=never-logged")

    def look() -> list[dict[str, Any]]:
        lines = deploying.shell(host, f"journalctl --quiet --output=cat --unit={unit_of(host, 'shop')}").splitlines()
        return [entry for line in lines if line.startswith("{") and (entry := json.loads(line))["path"] == path]

    (inner,) = deploying.wait_until("the app's access log", look, 5)
    assert re.fullmatch(r"[0-9a-f]{32}", inner["request_id"]) and inner["request_id"] == outer["request_id"]
    assert inner["status"] == outer["status"] == outer["upstream_status"] == 404
    assert inner["host"] == outer["host"] == "shop.test" and outer["client"] == answer.sent_from
    assert 0 <= inner["duration"] <= outer["duration"] + 0.01
    assert inner["release"] == deploying.on_host(host, "shop").live
    assert "never-logged" not in json.dumps(inner)


# -- again -------------------------------------------------------------------------------------------------------------


def test_deploying_the_same_changes_nothing() -> None:
    before = {
        name: properties(address, unit_of(address, "shop"), "MainPID")
        for name, address in deploying.addresses().items()
    }
    run = deploying.playbook("deploy", "-vvv", "--diff")
    assert run.code == 0, run.output
    assert re.findall(r"changed=(\d+)", run.output) == ["0"] * len(HOSTS), run.output
    assert "never-shown" not in run.output
    after = {
        name: properties(address, unit_of(address, "shop"), "MainPID")
        for name, address in deploying.addresses().items()
    }
    assert after == before
    print(f"deploy.yml with nothing to do: {run.seconds:.1f} s")
