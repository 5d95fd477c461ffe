# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Requests and pages as they are: uploads that an app refuses without reading them, and a login page that always fails."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, visitor

NAME, DOMAIN = "servers-early", "early.servers.test"
[HOST] = deploying.addresses()
#: Less than nginx lets through, and more than a socket holds.
UPLOAD = b"x" * 18_000_000
TIMES = 20

APP = """
from flask import Flask, jsonify, redirect, request

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024


@app.get("/")
def index():
    return "early 1\\n"


@app.post("/upload")
def upload():
    return f"{len(request.get_data())} bytes\\n"


@app.post("/private")
def private():
    return jsonify(error="log in first"), 401


def fails(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise LookupError("before an answer")
    return app(environ, start_response)
"""
LOGIN = """

@app.get("/login")
def login():
    raise LookupError("no such table")


@app.before_request
def to_login():
    if request.path == "/":
        return redirect("/login?next=/")
"""


def early(directory: Path, text: str = APP, **more: Any) -> dict[str, Any]:
    """An item of flask_apps for an app of this text."""
    source = directory / "early"
    source.mkdir(exist_ok=True)
    (source / "early.py").write_text(text)
    shutil.copy(deploying.PROBE / "requirements.txt", source)
    app = {
        "name": NAME,
        "source": {"path": str(source)},
        "wsgi": "early:fails",
        "domains": [DOMAIN],
        "workers": 2,
        "health": {"timeout": 20},
        "tls": {"mode": "none"},
    }
    return {**app, **more}


@pytest.fixture(scope="module", autouse=True)
def live(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The release that serves while this file runs."""
    run = deploying.playbook("site", apps=[early(tmp_path_factory.mktemp("live"))])
    assert run.code == 0, run.output
    release = deploying.on_host(deploying.addresses()[HOST], NAME).live
    assert release
    return release


@pytest.mark.parametrize(("path", "status"), [("/private", 401), ("/upload", 413), ("/fails", 500)])
def test_an_answer_that_comes_before_the_upload_is_read_reaches_its_visitor(path: str, status: int) -> None:
    address = visitor.address(HOST)
    seen = collections.Counter(
        visitor.post(address, DOMAIN, path, UPLOAD, tls=False).status for _unused in range(TIMES)
    )
    assert seen == {status: TIMES}


def test_a_worker_that_is_killed_for_its_memory_does_not_take_the_instance_along(live: str) -> None:
    address = deploying.addresses()[HOST]
    assert deploying.shell(address, f"systemctl show --property OOMPolicy --value {NAME}@{live}.service") == "continue"


def test_a_login_page_that_always_fails_does_not_go_live(tmp_path: Path, live: str) -> None:
    run = deploying.playbook("deploy", apps=[early(tmp_path, APP + LOGIN)])
    assert run.code != 0
    message = deploying.message(run, HOST)
    assert "answered GET / with 302 to /login, which answered 500, expected a status below 500." in message
    assert "no such table" in message, "the app's own words"
    assert f"Still serving: {live} (" in message
    found = deploying.on_host(deploying.addresses()[HOST], NAME)
    assert (found.live, found.lock) == (live, None)
    assert visitor.get(visitor.address(HOST), DOMAIN, tls=False).text == "early 1\n"
