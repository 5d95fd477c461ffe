# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites of apps that are not in the inventory any more: visitors get what the inventory says now."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, visitor

HOST = min(deploying.addresses())
OWN = "/etc/nginx/sites-enabled/stale-own.conf"
MISSING = "no answer"

Nginx = Callable[..., str]


def shell(script: str) -> str:
    return deploying.shell(deploying.addresses()[HOST], script)


def asked(name: str, tls: bool = False) -> str:
    """Return what a host name's visitors get."""
    try:
        answer = visitor.get(visitor.address(HOST), name, tls=tls)
    except (http.client.HTTPException, OSError):
        return MISSING
    return answer.text.strip() if answer.status == 200 else str(answer.status)


def configuration() -> dict[str, str]:
    listed = shell("cd /etc/nginx && sha256sum nginx.conf sites-enabled/*")
    return {path: digest for digest, path in (line.split("  ", 1) for line in listed.splitlines())}


def site(name: str, *names: str, **more: Any) -> dict[str, Any]:
    """Return a site that answers with its name."""
    page = {"location = /": {"default_type": "text/plain", "return": f'200 "{name}"'}}
    return {"name": name, "server_names": names, "directives": page, "tls": {"mode": "none"}, **more}


@pytest.fixture
def nginx(tmp_path: Path) -> Nginx:
    """Return a function that runs the role nginx with some sites and returns what was printed."""

    def function(*sites: dict[str, Any], arguments: tuple[str, ...] = ()) -> str:
        play = {
            "hosts": "all",
            "become": True,
            "gather_facts": False,
            "roles": [{"role": "flaskops.server.nginx", "nginx_sites": sites}],
        }
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        done = subprocess.run(
            ["ansible-playbook", "--inventory", deploying.inventory(), str(tmp_path / "play.yml"), *arguments],
            cwd=deploying.ROOT,
            env=deploying.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return function


@pytest.fixture(autouse=True)
def cleaned() -> Iterator[None]:
    yield
    shell("rm -f /etc/nginx/sites-enabled/*stale-* && nginx -q -s reload")


def changed(output: str) -> int:
    found = re.search(rf"^{HOST} .*changed=(\d+)", output, re.MULTILINE)
    assert found, output
    return int(found.group(1))


def words(output: str) -> str:
    """Return what was printed as one line: warnings are wrapped."""
    return " ".join(output.split())


def test_an_app_has_the_domain_of_one_that_is_gone(nginx: Nginx) -> None:
    # The old one's file comes first in the alphabet, which is nginx's order.
    nginx(site("a-stale-one", "stale.test", "stale-too.test"))
    app = deploying.inventory_apps()["probe"]
    try:
        run = deploying.playbook("site", apps=[{**app, "domains": [*app["domains"], "STALE.test"]}])
        assert run.code == 0, run.output
        assert asked("stale.test").startswith("probe ")
        assert asked("stale-too.test") == "a-stale-one", "its app still runs"
        said = words(run.output)
        assert "a-stale-one.conf belongs to the site a-stale-one, which is no longer in nginx_sites" in said
        assert "still answered for stale.test (now of the site probe)" in said
        assert "it goes on answering for stale-too.test" in said
        assert "{name: a-stale-one, state: absent}" in said
        assert "conflicting server name" not in run.output
    finally:
        again = deploying.playbook("site")
    assert again.code == 0 and "a-stale-one" not in again.output


def test_it_is_predicted_and_shown(nginx: Nginx) -> None:
    nginx(site("stale-a", "stale.test", "stale-too.test"))
    before = configuration()
    said = nginx(site("stale-b", "stale.test"), arguments=("--check", "--diff"))
    assert configuration() == before
    assert "This would be taken out of it" in words(said)
    assert "-    server_name stale.test stale-too.test;" in said and "+    server_name stale-too.test;" in said
    assert asked("stale.test") == "stale-a"


def test_what_then_answers_for_nothing_is_removed(nginx: Nginx) -> None:
    nginx(site("stale-a", "stale.test", "www.stale.test", redirect_to_canonical=True, tls={"mode": "self_signed"}))
    said = nginx(site("stale-b", "stale.test", "www.stale.test"))
    assert "sites-enabled/stale-a.conf" not in configuration()
    assert "It answered for nothing else and was removed." in words(said)
    assert [asked("stale.test"), asked("www.stale.test")] == ["stale-b"] * 2
    assert asked("stale.test", tls=True) == MISSING, "of the old site nothing is left, HTTPS included"


def test_another_app_becomes_the_default_vhost(nginx: Nginx) -> None:
    nginx(site("stale-a"))
    assert asked("stale-nobody.test") == "stale-a"
    said = nginx(site("stale-b"))
    assert asked("stale-nobody.test") == "stale-b"
    assert "hosts that no site names (now of the site stale-b)" in words(said)
    assert changed(nginx(site("stale-b"))) == 0


def test_the_default_vhost_is_gone_and_the_others_have_names(nginx: Nginx) -> None:
    nginx(site("stale-a", "stale-too.test", default=True, tls={"mode": "self_signed"}))
    nginx(site("stale-b", "stale.test"))
    # It may be another inventory's, or its app may still run: our catch-all takes no place from a site.
    assert [asked("stale.test"), asked("stale-nobody.test", tls=True)] == ["stale-b", "stale-a"]
    assert asked("stale-too.test", tls=True) == "stale-a"
    assert changed(nginx(site("stale-b", "stale.test"))) == 0


def test_somebodys_own_file_and_lock_change_nothing(nginx: Nginx) -> None:
    shell(
        f"printf 'server {{\\n    listen 80;\\n    server_name stale.test stale-own.test;\\n    return 200 own;\\n}}\\n' > {OWN}"
    )
    before = configuration()
    # Whoever may write into /run/lock keeps nobody waiting.
    holder = "import fcntl, time; f = open('/run/lock/flaskops-nginx.lock', 'w'); fcntl.flock(f, 2); time.sleep(60)"
    shell(
        f'(setpriv --reuid nobody --clear-groups python3 -c "{holder}" >/dev/null 2>&1 & echo $! > /run/stale-holder)'
    )
    try:
        nginx(site("stale-b", "stale.test"))
    finally:
        shell("kill $(cat /run/stale-holder); rm -f /run/stale-holder /run/lock/flaskops-nginx.lock")
    assert configuration()["sites-enabled/stale-own.conf"] == before["sites-enabled/stale-own.conf"]
    assert asked("stale-own.test") == "own"
    assert shell("stat --format='%a %U' /run/flaskops /run/flaskops/nginx.lock") == "700 root\n600 root"
