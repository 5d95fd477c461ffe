# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images of releases: built, fetched and loaded, and what is known of them then."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import RuntimeBuildError
from engine import DIGEST, ENGINES, MINE, SHARED, Host
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[5]


@pytest.mark.parametrize(
    ("files", "recipe"),
    [
        ({"Containerfile": "FROM x\n"}, "Containerfile"),
        ({"Dockerfile": "FROM x\n"}, "Dockerfile"),
        ({"Dockerfile": "FROM y\n", "Containerfile": "FROM x\n"}, "Containerfile"),
    ],
)
@ENGINES
def test_a_project_builds_by_its_own_recipe(host: Host, engine: str, files: dict[str, str], recipe: str) -> None:
    facts = host.builder.build(host.bundle(files, engine))
    assert facts == {"image": "id-built", "digests": ["x@sha256:1"], "engine": engine}
    assert host.names == [f"{MINE}:aaa"]
    built = host.now()["built"]
    assert built["recipe"] == recipe
    assert set(built["context"]) == {"shop.py", *files}
    # Docker knows no formats; only Podman has to be told the one that knows health checks.
    assert ("--format" in host.called("build")[0]) == (engine == "podman")
    assert host.now()["environment"]["DOCKER_BUILDKIT"] == "1"


def test_a_project_without_a_recipe_is_built_by_ours(host: Host) -> None:
    bundle = host.bundle({"requirements.txt": "flask==3.1.3\n", ".dockerignore": "*\n"})
    host.builder.build(bundle)
    built = host.now()["built"]
    assert built["recipe"] == "serve/Containerfile"
    assert built["context"]["requirements/app.txt"] == "flask==3.1.3\n"
    assert built["context"]["requirements/server.txt"] == "gunicorn==27.0.1\n"
    assert "app/shop.py" in built["context"]
    # The engine is sent the requirements and the code, and no configuration.
    assert built["context"][".dockerignore"] == "*\n!requirements\n!app\n"
    # What was laid out for the build is no part of the release.
    assert sorted(os.listdir(bundle.staging)) == ["app", "serve"]


def test_a_server_of_the_app_is_kept(host: Host) -> None:
    host.builder.build(host.bundle({"requirements.txt": "Gunicorn[gthread]==23.0.0\n"}))
    assert host.now()["built"]["context"]["requirements/server.txt"] == ""


def test_packages_of_the_apps_own_tree_come_with_the_requirements(host: Host) -> None:
    host.builder.build(host.bundle({"requirements.txt": "./lib\n", "lib/pyproject.toml": "[project]\n"}))
    context = host.now()["built"]["context"]
    assert "/requirements/code/lib" in context["requirements/app.txt"]
    assert str(host.root) not in context["requirements/app.txt"]
    assert context["requirements/code/lib/pyproject.toml"] == "[project]\n"


@pytest.mark.parametrize("locked", [True, False])
def test_a_lock_is_all_that_pip_installs_of_the_app(host: Host, monkeypatch: pytest.MonkeyPatch, locked: bool) -> None:
    text = virtualenv.Text("plugin==1 --hash=sha256:aa\n", locked, "shop" if locked else "")
    monkeypatch.setattr(virtualenv, "requirements_text", lambda code, python: text)
    host.builder.build(host.bundle({}))
    context = host.now()["built"]["context"]
    assert context["requirements/app.txt"] == text.text
    assert context["requirements/app.options"] == ("--no-deps\n" if locked else "")
    # The server needs what it needs.
    assert context["requirements/server.txt"] == "gunicorn==27.0.1\n"
    # What pip check says: nothing for no lock, and for a lock that what depends on the project finds it in the code.
    said = " requires shop, which is not installed.\n" if locked else ""
    assert context["requirements/passed-over"] == said


@pytest.mark.parametrize(
    ("said", "code", "passes"),
    [
        ("No broken requirements found.", 0, True),
        ("plugin 1 requires shop, which is not installed.", 1, True),
        ("plugin 1 requires webshop, which is not installed.", 1, False),
        ("plugin 1 requires shop, which is not installed.\nb 1 has requirement c>2, but you have c 1.", 1, False),
    ],
)
def test_the_recipe_checks_what_pip_installed(tmp_path: Path, said: str, code: int, passes: bool) -> None:
    recipe = (ROOT / "roles/container/templates/serve/Containerfile.j2").read_text()
    options = {"python": {"require_hashes": False}, "checks": {"pip_check": True}, "name": "shop"}
    rendered = Environment().from_string(recipe).render(app=options, container_base_image="x")
    step = re.findall(r"^RUN (?:--mount=\S+ )+\\\n(.*?)\n\n", rendered, re.MULTILINE | re.DOTALL)[0].replace(
        "\\\n", "\n"
    )
    needs = tmp_path / "requirements"
    needs.mkdir()
    (needs / "app.options").write_text("--no-deps\n")
    (needs / "passed-over").write_text(" requires shop, which is not installed.\n")
    (tmp_path / "installer").write_text("")
    script = step.replace("/requirements", str(needs)).replace("/run/secrets/installer", str(tmp_path / "installer"))
    pip = f'pip() {{ echo "$*" >> {tmp_path}/calls; test "$1" = check || return 0; echo "{said}"; return {code}; }}\n'
    done = subprocess.run(["sh", "-c", pip + script], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == passes, done
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == f"install --progress-bar=off --no-deps --requirement {needs}/app.txt"
    assert calls[1] == f"install --progress-bar=off --requirement {needs}/server.txt"


def test_a_build_that_fails_leaves_nothing_behind(host: Host) -> None:
    host.tell(fails={"build": "Error: no"})
    bundle = host.bundle({})
    with pytest.raises(RuntimeBuildError, match="cannot be built from Containerfile"):
        host.builder.build(bundle)
    assert sorted(os.listdir(bundle.staging)) == ["app", "serve"]


def test_there_is_nothing_to_build(host: Host) -> None:
    with pytest.raises(RuntimeBuildError, match="no source was sent"):
        host.builder.build(host.bundle())


@ENGINES
def test_the_first_host_builds_and_pushes(host: Host, engine: str) -> None:
    host.builder.build(host.bundle({"Containerfile": ""}, engine, "registry.example.org/apps"))
    now = host.now()
    assert now["registry"] == {SHARED: "id-built"}
    assert host.names == [f"{MINE}:aaa"]


@ENGINES
def test_every_other_host_fetches_what_was_built(host: Host, engine: str) -> None:
    host.tell(registry={SHARED: "id-shared"})
    bundle = host.bundle({"Containerfile": "", "static/shop.css": ""}, engine, "registry.example.org/apps")
    assert host.builder.build(bundle)["image"] == "id-shared"
    assert (len(host.called("pull")), host.called("build"), host.called("push")) == (1, [], [])
    # With another name it would stay when its release goes.
    assert host.names == [f"{MINE}:aaa"]
    # nginx serves the static files of the source.
    assert (bundle.staging / "app/static/shop.css").is_file()


def test_a_registry_that_takes_nothing_fails_the_release(host: Host) -> None:
    host.tell(fails={"push": "Error: denied"})
    with pytest.raises(RuntimeBuildError, match=f"cannot be pushed to {SHARED}") as caught:
        host.builder.build(host.bundle({"Containerfile": ""}, registry="registry.example.org/apps"))
    assert caught.value.output == "Error: denied"


@ENGINES
def test_an_image_of_a_registry_is_fetched_by_its_digest(host: Host, engine: str) -> None:
    host.tell(registry={DIGEST: "id-given"}, config={"WorkingDir": "/code"}, directories=["/code/web/static"])
    static = [{"url": "/static/", "path": "web/static"}]
    bundle = host.bundle(engine=engine, source={"image": DIGEST}, static=static)
    assert host.builder.build(bundle)["image"] == "id-given"
    assert f"{MINE}:aaa" in host.names
    assert host.called("build") == []
    # What nginx serves is taken out of it, and the container for that is gone.
    assert (bundle.staging / "app/web/static/from").read_text() == "/code/web/static"
    assert host.now()["calls"][-1] == [engine, "rm", "--force", "container-1"]


def test_an_image_without_the_static_files_that_are_asked_for(host: Host) -> None:
    host.tell(registry={DIGEST: "id-given"}, config={"WorkingDir": ""})
    bundle = host.bundle(source={"image": DIGEST}, static=[{"url": "/s/", "path": "static"}])
    with pytest.raises(RuntimeBuildError, match="the image has no directory /static"):
        host.builder.build(bundle)
    assert host.now()["calls"][-1] == ["podman", "rm", "--force", "container-1"]


def test_an_image_that_is_not_there(host: Host) -> None:
    with pytest.raises(RuntimeBuildError, match=f"the image {DIGEST} cannot be pulled") as caught:
        host.builder.build(host.bundle(source={"image": DIGEST}))
    assert caught.value.output == "Error: manifest unknown"


@pytest.mark.parametrize(
    ("config", "command", "directory"),
    [
        ({"Entrypoint": ["python", "-m", "shop"], "Cmd": ["serve", "--fast"]}, "python|-m|shop|serve|--fast", "/"),
        ({"Cmd": ["sh", "-c", "echo \"a  b\" 'c' $HOME `id`"]}, "sh|-c|echo \"a  b\" 'c' $HOME `id`", "/"),
        ({"Entrypoint": "/entry point", "Cmd": None}, "/entry point", "/"),
        ({"Entrypoint": "/entry", "Cmd": "it's"}, "/entry|it's", "/"),
        ({"Cmd": ["x", ""], "WorkingDir": "/my app's; true"}, "x|", "/my app's; true"),
        ({}, "", "/"),
    ],
)
def test_the_shell_that_starts_a_release_reads_what_the_image_says(
    host: Host, config: dict[str, Any], command: str, directory: str
) -> None:
    host.tell(registry={DIGEST: "id-given"}, config=config)
    bundle = host.bundle(source={"image": DIGEST})
    host.builder.build(bundle)
    file = bundle.staging / "serve/image"
    # As serve/run does.
    script = '. "$0"; eval "set -- $command"; IFS="|"; printf "%s\\n" "$*" "$directory" "$image"'
    done = subprocess.run(["/bin/sh", "-c", script, file], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [command, directory, f"{MINE}:aaa"]
    assert file.stat().st_mode & 0o777 == 0o640


@ENGINES
def test_a_host_without_the_engine(host: Host, engine: str) -> None:
    (host.bin / engine).unlink()
    for registry in ("", "registry.example.org"):
        with pytest.raises(RuntimeBuildError, match=f"{engine} is not on this host; the role container installs it"):
            host.builder.build(host.bundle({}, engine, registry, release=f"a{registry[:1]}"))


def test_the_environment_leads_a_gunicorn_of_the_image_to_the_socket(host: Host) -> None:
    assert host.builder.environment(host.bundle({})) == {
        "HOME": str(host.layout.shared),
        "GUNICORN_CMD_ARGS": "--bind=unix:/run/shop/http.sock",
    }
