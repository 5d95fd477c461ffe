# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an app keeps in its shared directories outlives every deploy, and root follows no link that the app puts there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

APP = "keeper"
[HOST] = deploying.addresses().values()
CODE = """\
import os, shutil
from flask import Flask
app = Flask(__name__)

@app.get("/")
def index():
    return "keeper"

@app.get("/copy")
def copy():
    shutil.rmtree("instance/copy", ignore_errors=True)
    shutil.copytree("instance/seeds", "instance/copy")
    return "copied"
"""


def keeper(directory: Path, *shared: str, version: str = "1") -> dict[str, Any]:
    """An app whose repository has files in ``instance/``."""
    source = directory / f"keeper-{version}"
    (source / "instance/seeds").mkdir(parents=True)
    (source / "keeper.py").write_text(CODE)
    (source / "requirements.txt").write_text("flask==3.1.3\n")
    (source / "VERSION").write_text(version)
    (source / "instance/config.py").write_text(f"VERSION = {version!r}\n")
    (source / "instance/seeds/one").write_text("1")
    return {
        "name": APP,
        "source": {"path": str(source)},
        "wsgi": "keeper:app",
        "workers": 1,
        "domains": ["keeper.test"],
        "tls": {"mode": "none"},
        "shared_paths": list(shared) or ["instance"],
    }


@pytest.fixture(scope="module", autouse=True)
def live(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first release of the app."""
    run = deploying.playbook("site", apps=[keeper(tmp_path_factory.mktemp("first"))])
    assert run.code == 0, run.output


def shell(script: str, check: bool = True) -> str:
    return deploying.shell(HOST, f"cd /srv/{APP} && {script}", check)


def test_what_the_repository_has_there_came_with_the_first_deploy() -> None:
    assert "VERSION = '1'" in shell("cat shared/instance/config.py live/app/instance/config.py")
    assert shell("stat -c '%a %U' shared/instance shared/instance/seeds shared/instance/config.py").splitlines() == [
        f"770 {APP}",
        f"770 {APP}",
        f"660 {APP}",
    ]
    # Without the bit that the sandbox lets nobody copy.
    assert deploying.fetch(HOST, "/copy", host="keeper.test") == (200, "copied")


@pytest.mark.parametrize("order", [("instance", "instance/uploads"), ("instance/uploads", "./instance/")])
def test_a_path_within_another_loses_nothing(tmp_path: Path, order: tuple[str, str]) -> None:
    shell("mkdir -p shared/instance/uploads && echo data > shared/instance/uploads/photo.jpg")
    run = deploying.playbook("deploy", apps=[keeper(tmp_path, *order, version=order[0].replace("/", "-"))])
    assert run.code == 0, run.output
    assert shell("cat live/app/instance/uploads/photo.jpg shared/instance/uploads/photo.jpg") == "data\ndata"
    # What the repository has changed there is not taken over, and not passed over without a word.
    assert "1 file of the repository in instance/ (config.py) will not be used" in run.words
    assert shell("cat shared/instance/config.py") == "VERSION = '1'"


def test_no_link_in_the_place_of_a_shared_directory_is_followed(tmp_path: Path) -> None:
    deploying.shell(HOST, "mkdir -p /root/important/uploads && echo precious > /root/important/uploads/file")
    before = deploying.shell(HOST, "find /root/important -printf '%p %m %U %i %T@\\n'")
    shell("mv shared/instance shared/real && ln -s /root/important shared/instance")
    try:
        deploying.playbook("deploy", apps=[keeper(tmp_path, "instance", "instance/uploads", version="linked")])
        assert deploying.shell(HOST, "find /root/important -printf '%p %m %U %i %T@\\n'") == before
    finally:
        shell("rm -f shared/instance && mv shared/real shared/instance")
    assert deploying.fetch(HOST, "/", host="keeper.test") == (200, "keeper")


def test_a_file_of_the_repository_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    app = keeper(tmp_path, "instance", "VERSION", version="file")
    run = deploying.playbook("deploy", apps=[app])
    assert run.code != 0
    assert "shared_paths lists VERSION, but VERSION is a file in the repository" in run.words
    assert deploying.fetch(HOST, "/", host="keeper.test") == (200, "keeper")
