# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nginx hands out of directories that an app can write: its uploads, and nothing that it links to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, visitor

HOST = min(deploying.addresses())
NAME, OTHER = "links", "linksother"
HOME, OTHER_HOME = f"/srv/{NAME}", f"/srv/{OTHER}"

#: Runs a shell command as somebody would who has taken the app over: in its process, its user and its sandbox.
CODE = """
import subprocess
from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def index():
    return "ok"


@app.post("/shell")
def shell():
    done = subprocess.run(["sh", "-c", request.get_data(as_text=True)], capture_output=True, text=True)
    return done.stdout + done.stderr, 200 if done.returncode == 0 else 500
"""


def made(directory: Path, name: str) -> dict[str, Any]:
    """Write an app with links of its own below ``assets`` and return its item of ``flask_apps``."""
    source = directory / name
    (source / "assets/real").mkdir(parents=True)
    (source / "app.py").write_text(CODE)
    (source / "requirements.txt").write_text((deploying.PROBE / "requirements.txt").read_text())
    (source / "assets/real/a.css").write_text("a")
    (source / "assets/b.css").symlink_to("real/a.css")
    (source / "assets/linked").symlink_to("real")
    (source / "assets/photos").symlink_to("../instance/media")
    return {
        "name": name,
        "source": {"path": str(source)},
        "wsgi": "app:app",
        "domains": [f"{name}.test"],
        "workers": 1,
        "tls": {"mode": "none"},
        "shared_paths": ["instance", "assets/uploads"],
        "static": [
            {"url": "/media/", "path": "./instance//media/"},
            {"url": "/one.txt", "path": "instance/one.txt"},
            {"url": "/assets", "path": "assets"},
        ],
    }


def inside(script: str) -> str:
    """Run a shell script in the app."""
    answer = visitor.post(visitor.address(HOST), f"{NAME}.test", "/shell", script.encode(), tls=False)
    assert answer.status == 200, f"{script}\n{answer.text}"
    return answer.text


def ask(target: str, method: str = "GET", **headers: str) -> visitor.Answer:
    return visitor.ask(method, visitor.address(HOST), f"{NAME}.test", target, tls=False, headers=headers)


def assert_refused(*targets: str) -> None:
    answers = {target: ask(target) for target in targets}
    assert {target: (answer.status, answer.text) for target, answer in answers.items() if answer.status < 400} == {}
    assert {answer.status for answer in answers.values()} <= {400, 403, 404}


@pytest.fixture(scope="module", autouse=True)
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two apps on the host, the first with uploads, both with something to steal."""
    directory = tmp_path_factory.mktemp("links")
    run = deploying.playbook("site", apps=[made(directory, NAME), made(directory, OTHER)])
    assert run.code == 0, run.output
    deploying.shell(
        deploying.addresses()[HOST],
        f"cd {OTHER_HOME}/shared/instance && echo theirs > app.db && chown {OTHER}:{OTHER} app.db && chmod 660 app.db",
    )
    inside(f"cd {HOME}/shared && mkdir -p instance/media/album && echo photo > instance/media/album/photo.txt")
    yield
    inside(f"cd {HOME}/shared && rm -rf instance/media instance/one.txt assets/uploads/*")


def test_uploads_are_served() -> None:
    inside(f"cd {HOME}/shared && echo one > instance/one.txt && echo up > assets/uploads/up.txt")
    photo = ask("/media/album/photo.txt")
    assert (photo.status, photo.text) == (200, "photo\n")
    assert ask("/one.txt").text == "one\n"
    assert ask("/assets/uploads/up.txt").text == "up\n"
    assert ask("/media/album/photo.txt", "HEAD").headers["content-length"] == "6"
    part = ask("/media/album/photo.txt", Range="bytes=1-2")
    assert (part.status, part.text) == (206, "ho")
    assert ask("/media/album/photo.txt", **{"If-Modified-Since": photo.headers["last-modified"]}).status == 304
    inside(f"cd {HOME}/shared/instance/media && echo no > .hidden && mkdir -p .git && echo no > .git/config")
    assert_refused(
        "/media/.hidden", "/media/.git/config", "/media/album", "/media/album/", "/media/", "/assets/uploads/"
    )


def test_links_of_the_repository_are_served() -> None:
    assert ask("/assets/real/a.css").text == "a"
    assert ask("/assets/b.css").text == "a"
    assert ask("/assets/linked/a.css").text == "a"


def test_links_of_the_repository_into_a_shared_path_lead_to_the_apps_own_files_alone() -> None:
    inside(f"cd {HOME}/shared/instance && echo photo > media/photo.txt && ln -sfn {OTHER_HOME}/live/env media/env")
    assert ask("/assets/photos/photo.txt").text == "photo\n"
    assert_refused("/assets/photos/env")
    for target in (f"{OTHER_HOME}/live", f"{HOME}/live", "/etc"):
        inside(f"cd {HOME}/shared/instance && mv media media.kept && ln -s {target} media")
        try:
            assert_refused("/assets/photos/env", "/assets/photos/passwd", "/assets/photos")
        finally:
            inside(f"cd {HOME}/shared/instance && rm media && mv media.kept media")


def test_links_to_other_files_are_not_followed() -> None:
    targets = {
        "env": f"{OTHER_HOME}/live/env",
        "code": f"{OTHER_HOME}/live/app/app.py",
        "database": f"{OTHER_HOME}/shared/instance/app.db",
        "record": f"{OTHER_HOME}/deploys.jsonl",
        "passwd": "/etc/passwd",
        "own": f"{HOME}/live/env",
        "beside": "album/photo.txt",
        "chain": "passwd",
    }
    for place in ("instance/media", "assets/uploads"):
        inside(f"cd {HOME}/shared/{place} && " + " && ".join(f"ln -sfn {to} {name}" for name, to in targets.items()))
    assert_refused(*(f"{url}/{name}" for url in ("/media", "/assets/uploads") for name in targets))
    assert_refused("/media/env/", "/media/passwd%00", "/media//passwd", "/media/./passwd", "/media/passwd%0A")


def test_linked_directories_are_not_entered() -> None:
    inside(f"cd {HOME}/shared/instance/media && ln -sfn {OTHER_HOME} other && ln -sfn /etc etc && ln -sfn album same")
    assert_refused(
        "/media/other/live/env",
        "/media/other/shared/instance/app.db",
        "/media/other/live/app/app.py",
        "/media/etc/passwd",
        "/media/etc/",
        "/media/same/photo.txt",
    )


@pytest.mark.parametrize(
    ("replaced", "by", "asked"),
    [
        ("instance/media", f"{OTHER_HOME}/live", ["/media/env", "/media/app/app.py"]),
        ("instance/media", "/etc/passwd", ["/media", "/media/", "/media%0A"]),
        ("instance", f"{OTHER_HOME}/live/app", ["/media/app.py", "/media/../app.py"]),
        ("instance", f"{OTHER_HOME}/shared/instance", ["/one.txt", "/media/app.db"]),
        ("instance/one.txt", f"{OTHER_HOME}/live/env", ["/one.txt", "/one.txt/", "/one.txt%0A"]),
        ("assets/uploads", f"{OTHER_HOME}/live", ["/assets/uploads/env", "/assets/uploads/app/app.py", "/assets//uploads/env"]),
        (
            "assets/uploads",
            f"{OTHER_HOME}/live/env",
            ["/assets/uploads", "/assets/uploads/", "/assets/uploads%0A", "/assets/./uploads", "/assets//uploads"],
        ),
        ("assets", f"{OTHER_HOME}/live", ["/assets/uploads/env", "/assets/uploads"]),
    ],
)  # fmt: skip
def test_a_directory_that_became_a_link_is_not_entered(replaced: str, by: str, asked: list[str]) -> None:
    """The app owns shared/, and so can put a link where its own directory was."""
    inside(f"cd {HOME}/shared && {{ [ ! -e {replaced} ] || mv {replaced} {replaced}.kept; }} && ln -s {by} {replaced}")
    try:
        # What the link leads to has a file of the name that is asked for.
        for name in ("one.txt", "media"):
            deploying.shell(deploying.addresses()[HOST], f"echo theirs > {OTHER_HOME}/shared/instance/{name}")
        assert_refused(*asked)
    finally:
        inside(f"cd {HOME}/shared && rm {replaced} && {{ [ ! -e {replaced}.kept ] || mv {replaced}.kept {replaced}; }}")
