# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an app says about its packages is what visitors are served with, or the deploy is refused and says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.tests.support import deploying

[(HOST, ADDRESS)] = deploying.addresses().items()

#: Tells the version of Flask, and whether there is a package that Gunicorn 23 depends on.
CODE = """
from importlib.metadata import version
from importlib.util import find_spec
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"flask {version('flask')}, {'with' if find_spec('packaging') else 'without'} packaging\\n"
"""

PINNED = {
    "blinker": "1.9.0",
    "click": "8.1.8",
    "flask": "3.1.0",
    "itsdangerous": "2.2.0",
    "jinja2": "3.1.6",
    "markupsafe": "3.0.2",
    "werkzeug": "3.1.3",
}


def app(name: str, directory: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """Return an item of ``flask_apps`` for CODE and these files."""
    directory.mkdir()
    for file, text in {"hello.py": CODE, **files}.items():
        (directory / file).write_text(text)
    return {
        "name": name,
        "source": {"path": str(directory)},
        "wsgi": "hello:app",
        "domains": [f"{name}.test"],
        "workers": 1,
        "tls": {"mode": "none"},
    }


def project(name: str, *needs: str) -> str:
    return (
        f'[project]\nname = "{name}"\nversion = "99"\nrequires-python = ">=3.11"\ndependencies = {json.dumps(needs)}\n'
    )


def test_a_lock_that_is_not_read_is_refused_and_its_export_is_not(tmp_path: Path) -> None:
    before = app("requirements-poetry", tmp_path / "1", {"requirements.txt": "flask==3.1.0\n"})
    first = deploying.playbook("site", apps=[before])
    assert first.code == 0, first.output
    answer = deploying.fetch(ADDRESS, host="requirements-poetry.test")
    assert answer[1].startswith("flask 3.1.0, ")
    live = deploying.on_host(ADDRESS, "requirements-poetry")

    poetry = {"pyproject.toml": project("web", "flask (>=2.3)"), "poetry.lock": "[metadata]\nlock-version = '2.1'\n"}
    refused = deploying.playbook("deploy", apps=[app("requirements-poetry", tmp_path / "2", poetry)])
    assert refused.code != 0
    message = deploying.message(refused, HOST)
    for words in (
        "The app has poetry.lock, which is not read",
        "'poetry export -f requirements.txt -o requirements.txt'",
        "name a file in python.requirements",
        f"Still serving: {live.live} (",
    ):
        assert words in message
    now = deploying.on_host(ADDRESS, "requirements-poetry")
    assert (now.live, now.releases, now.venvs) == (live.live, live.releases, live.venvs)
    assert deploying.fetch(ADDRESS, host="requirements-poetry.test") == answer

    exported = {**poetry, "requirements.txt": "flask==3.1.1\n"}
    done = deploying.playbook("deploy", apps=[app("requirements-poetry", tmp_path / "3", exported)])
    assert done.code == 0, done.output
    assert deploying.fetch(ADDRESS, host="requirements-poetry.test")[1].startswith("flask 3.1.1, ")


def test_a_lock_of_uv_is_installed_as_locked(tmp_path: Path) -> None:
    """The app has the name of a package that one of its packages depends on: resolved anew, that would come along."""
    pinned = {**PINNED, "gunicorn": "23.0.0"}
    needs = {
        "flask": ["blinker", "click", "itsdangerous", "jinja2", "werkzeug"],
        "gunicorn": ["packaging"],
        "jinja2": ["markupsafe"],
        "packaging": ["flask", "gunicorn"],
        "werkzeug": ["markupsafe"],
    }
    lock = 'version = 1\nrequires-python = ">=3.11"\n'
    for name, version in {**pinned, "packaging": "99"}.items():
        source = 'virtual = "."' if name == "packaging" else 'registry = "https://pypi.org/simple"'
        depends = ", ".join(f'{{ name = "{needed}" }}' for needed in needs.get(name, []))
        lock += f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {{ {source} }}\n'
        lock += f"dependencies = [{depends}]\n"
    files = {"pyproject.toml": project("packaging", "flask", "gunicorn"), "uv.lock": lock}
    run = deploying.playbook("site", apps=[app("requirements-uv", tmp_path / "app", files)])
    assert run.code == 0, run.output
    answer = deploying.fetch(ADDRESS, host="requirements-uv.test")
    assert answer == (200, "flask 3.1.0, without packaging\n")
    facts = json.loads(deploying.shell(ADDRESS, "cat /srv/requirements-uv/live/release.json"))
    assert facts["requirements"] == "uv.lock"
    assert facts["locked"] == sorted(f"{name}=={version}" for name, version in pinned.items())
