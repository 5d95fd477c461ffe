# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A password or a token in a URL is in none of the places where a deploy leaves words: one test for each of them."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.flaskops.server.plugins.action.release import ActionModule
from ansible_collections.flaskops.server.plugins.module_utils.host.process import Finished
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import cli_build, requirements, virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import RuntimeBuildError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import VirtualenvError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.interpreter import Interpreter, interpreter
from ansible_collections.flaskops.server.plugins.plugin_utils.release import identity
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import split_secrets
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SpecError, resolve

USER, PASSWORD, TOKEN = "user1", "pw-hunter2", "abc123def"
WITH = f"{USER}:{PASSWORD}@{{}}?token={TOKEN}"
INDEX, LINKS = (f"https://{WITH.format(place)}" for place in ("index.example.org/simple", "links.example.org/wheels"))
BARE = {"index_url": "https://index.example.org/simple", "find_links": "https://links.example.org/wheels"}
APP = {
    "name": "shop",
    "source": {"path": "."},
    "wsgi": "shop:app",
    "python": {"index_url": INDEX, "find_links": LINKS},
}
HERE = Path(__file__).parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that writes no log."""

    def log_message(self, *_unused: object) -> None: ...


def hides(*said: Any) -> bool:
    """Say whether nothing of the credentials is in what was said."""
    text = " ".join(one if isinstance(one, str) else json.dumps(one, default=str) for one in said)
    return not any(secret in text for secret in (PASSWORD, TOKEN, USER))


def whole(app: dict[str, Any], hidden: dict[str, Any]) -> dict[str, Any]:
    """Return the app as the module puts it together on the host."""
    return {**app, "python": {**app["python"], **hidden["python"]}}


def loaded(path: str) -> Any:
    """Return other tests, for their host that is a directory."""
    spec = importlib.util.spec_from_file_location(f"of_{Path(path).stem}", HERE / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("server", ["gunicorn", "uwsgi", "mod_wsgi", "container"])
def test_what_is_sent_in_the_clear_and_the_rendered_files(server: str) -> None:
    app, hidden = split_secrets({**APP, "server": server})
    assert hidden["python"] == {"index_url": INDEX, "find_links": LINKS}
    assert hides(app)
    action = object.__new__(ActionModule)
    action._templar = Templar(DataLoader(), {})
    files = action._files(app, {})
    assert files
    assert hides(files)


def test_the_parts_and_the_id_do_not_change_with_credentials() -> None:
    changed = {"index_url": BARE["index_url"], "find_links": LINKS.replace(TOKEN, "another")}
    parts = [
        identity.compute_components(*split_secrets({**APP, "python": python}), "f" * 64, {}, ["gunicorn==1"])
        for python in (APP["python"], changed, BARE)
    ]
    assert parts[0] == parts[1] == parts[2]
    assert hides(parts)


def test_the_key_of_a_virtualenv_does_not_change_with_credentials(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\n")
    found = requirements.find(tmp_path, {})
    python = Interpreter("/usr/bin/python3", "3.13.5", "cpython", "linux")
    keys = {virtualenv.key(found, python, options, []) for options in (APP["python"], BARE)}
    assert len(keys) == 1


TELLS = """#!/bin/sh
echo "looking in $UV_DEFAULT_INDEX and $UV_FIND_LINKS, $PIP_INDEX_URL $PIP_FIND_LINKS"
echo "error: https://index.example.org/simple/flask/?token=abc123def answers 401 to user1 with pw-hunter2, abc123def"
exit 1
"""


def test_what_an_installer_says(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/requirements.txt").write_text("flask\n")
    (tmp_path / "tools/bin").mkdir(parents=True)
    (tmp_path / "tools/bin/uv").write_text(TELLS)
    (tmp_path / "tools/bin/uv").chmod(0o755)
    app, hidden = split_secrets(APP)
    options = {**whole(app, hidden)["python"], "interpreter": "/usr/bin/python3"}
    with pytest.raises(VirtualenvError) as caught:
        virtualenv.ensure(
            tmp_path / "venvs",
            tmp_path / "app",
            req=requirements.find(tmp_path / "app", options),
            interp=interpreter("/usr/bin/python3"),
            python=options,
            server_packages=[],
            env={},
            tools=tmp_path / "tools",
        )
    assert "index.example.org" in caught.value.output
    assert not [secret for secret in (PASSWORD, TOKEN) if secret in f"{caught.value} {caught.value.output}"]


def test_what_a_build_of_an_image_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, hidden = split_secrets({**APP, "server": "container"})
    recipe = tmp_path / "Containerfile"
    recipe.write_text("FROM base\n")
    called: list[str] = []

    def call(_unused: Any, arguments: list[str]) -> Any:
        called.extend(arguments)
        return Finished(1, f"ERROR: {INDEX} {LINKS} says no to {PASSWORD}, {TOKEN}")

    monkeypatch.setattr(cli_build.BuildingCli, "call", call)
    with pytest.raises(RuntimeBuildError) as caught:
        cli_build.BuildingCli("podman").build(tmp_path, recipe, "tag", whole(app, hidden))
    assert "index.example.org" in str(vars(caught.value)) + str(caught.value)
    assert hides(called)
    said = f"{caught.value} {vars(caught.value)}"
    assert not [secret for secret in (PASSWORD, TOKEN) if secret in said]


def test_what_is_left_of_a_release(tmp_path: Path) -> None:
    fakes = loaded("plugins/module_utils/deploy/fakes.py")
    host = fakes.Host(tmp_path)
    made = host.deploy("aaaaaaaaaaaa", {"python": APP["python"]})

    host.runtime.refuses = VirtualenvError("it cannot be installed", "install", "no")
    with pytest.raises(fakes.Refused) as caught:
        host.deploy("bbbbbbbbbbbb", {"python": APP["python"]})
    assert hides(made, str(caught.value))
    left = [path for path in host.layout.home.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path.name for path in left}
    assert {"release.json", "env", host.layout.record.name} <= names | {host.layout.record.name}
    assert host.layout.record.is_file()
    assert hides(*(path.read_text(errors="replace") for path in [*left, host.layout.record]))


def test_what_a_virtualenv_says_of_itself(tmp_path: Path) -> None:
    tests = loaded("plugins/module_utils/runtimes/wheels.py")
    if tests.UV is None:
        pytest.skip("uv is not installed")
    site = tests.Site(tmp_path, "uv")
    site.server = []
    handler = functools.partial(Quiet, directory=str(site.wheels))
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        place = f"127.0.0.1:{web.server_port}/werk-1.0-py3-none-any.whl"
        site.put("requirements.txt", f"werk @ http://{WITH.format(place)}\n")
        site.env["NO_PROXY"] = "127.0.0.1"
        built = site.ensure(offline=False, index_url=f"http://{WITH.format('127.0.0.1:9/simple')}")
    finally:
        web.shutdown()
        web.server_close()
    assert f"werk @ http://{place}" in built.locked
    assert hides(built.locked, built.key, (built.path / "flaskops.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"python": {**APP["python"], "index": 1}},
        {"python": {"index_url": [INDEX]}},
        {"python": {"index_url": INDEX, "extras": LINKS}},
        {"source": {"git": INDEX, "archive": LINKS}},
        {"source": {"archive": LINKS}},
        {"source": {"image": LINKS}},
        {"name": LINKS},
        {"wsgi": INDEX},
        {"python": INDEX},
        {"source": INDEX},
    ],
)
def test_the_errors_in_an_app(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        resolve([{**APP, **change}], "flask_apps")
    assert hides(str(caught.value), caught.value.errors)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({"git": f"https://{WITH.format('127.0.0.1:9/shop.git')}"}, "127.0.0.1:9/shop.git"),
        ({"git": f"-https://{WITH.format('127.0.0.1:9/shop.git')}"}, "127.0.0.1:9/shop.git"),
        ({"git": f"ext::https://{WITH.format('127.0.0.1:9/shop.git')}"}, "127.0.0.1:9/shop.git"),
        ({"archive": f"http://{WITH.format('127.0.0.1:9/x.tar')}"}, "127.0.0.1:9/x.tar"),
        ({"archive": f"http://{WITH.format('127.0.0.1:9/x.tar')}", "checksum": f"sha256:{'0' * 64}"}, "127.0.0.1:9"),
        ({"archive": f"ftp://{WITH.format('127.0.0.1:9/x.tar')}"}, "127.0.0.1:9/x.tar"),
        ({"package": f"shop @ https://{WITH.format('example.org/shop.whl')}"}, "example.org/shop.whl"),
        ({"package": f"shop @ https://example.org/shop.whl?token={TOKEN}"}, "example.org/shop.whl"),
        ({"package": f"https://{WITH.format('example.org/shop.whl')}"}, "example.org/shop.whl"),
        ({"path": f"https://{WITH.format('example.org/shop')}"}, "example.org/shop"),
        ({"image": f"https://{WITH.format('example.org/shop')}"}, "example.org/shop"),
    ],
)
def test_the_sources(source: dict[str, Any], place: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        build(source, tmp_path, images={})
    assert place in str(caught.value)
    assert hides(str(caught.value))


def test_an_error_reaches_the_controller_without_credentials() -> None:
    with pytest.raises(AnsibleActionFail) as caught:
        split_secrets({**APP, "python": {"index_url": [INDEX]}})
    assert hides(str(caught.value))
