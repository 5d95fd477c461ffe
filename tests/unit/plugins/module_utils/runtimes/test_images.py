# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images of releases, with an engine on the path that keeps names of images and nothing else."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import images, virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.images import Image
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import Bundle, RuntimeFault
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[5]
DIGEST = f"registry.example.org/team/shop@sha256:{'d' * 64}"
PASSWORD = "hunter2-hunter2"
MINE = "localhost/flaskops/shop"

# An image has an id and names; without any name it is gone. Every answer is one that the real engines give.
ENGINE = """\
#!{python} -IS
import json, os, sys, time
path, words, plain, options = {state!r}, sys.argv[1:], [], {{}}
state = json.load(open(path))
there, state["calls"] = state["images"], state["calls"] + [[os.path.basename(sys.argv[0]), *words]]
state["environment"] = dict(os.environ)
rest = iter(words)
for word in rest:
    if word in ("--authfile", "--file", "--tag", "--secret", "--network", "--format", "--input"):
        options.setdefault(word, []).append(next(rest))
    elif not word.startswith("-"):
        plain.append(word)

def end(said="", code=0):
    json.dump(state, open(path, "w"))
    print(said)
    sys.exit(code)

def known(name):
    return there.get(name) or (name if name in there.values() else end("Error: " + name + ": image not known", 1))

verb = " ".join(plain[:2]) if plain[0] in ("image", "container") else plain[0]
last = plain[-1]
if verb in state["fails"]:
    end(state["fails"][verb], 125)
if verb == "build":
    files = [os.path.join(d, f) for d, _, names in os.walk(last) for f in names]
    state["built"] = {{
        "recipe": os.path.relpath(options["--file"][0], last),
        "context": {{os.path.relpath(f, last): open(f).read() for f in files if not os.path.islink(f)}},
        "secrets": {{s.split(",src=")[0][3:]: open(s.split(",src=")[1]).read() for s in options["--secret"]}},
    }}
    there[options["--tag"][0]] = state["config"]["Id"] = "id-built"
elif verb == "pull":
    there[last] = state["registry"].get(last) or end("Error: manifest unknown", 125)
elif verb == "push":
    state["registry"][last] = known(last)
elif verb == "load":
    import tarfile
    there.update(state["archive"])
    with tarfile.open(options["--input"][0]) as tar:
        for name in tar.getnames():
            state["loads"][name] = tar.extractfile(name).read().decode() if tar.getmember(name).isreg() else None
    if "manifest.json" in state["loads"]:
        for tag in json.loads(state["loads"]["manifest.json"])[0].get("RepoTags") or []:
            there[tag] = "id-loaded"
    end(state["loaded"])
elif verb == "tag":
    there[last] = known(plain[-2])
elif verb == "image inspect":
    tags = [name for name, image in there.items() if image == known(last) and "@" not in name]
    end(json.dumps([{{"Id": known(last), "Config": state["config"], "RepoTags": tags, "RepoDigests": ["x@sha256:1"]}}]))
elif verb == "image rm":
    image = known(last)
    if last in state["used"]:
        end("Error: image used by a container", 2)
    for name in [last] if last in there else [name for name in there if there[name] == image]:
        del there[name]
elif verb == "image ls":
    end("\\n".join(sorted(name for name in there if "@" not in name)))
elif verb == "container inspect":
    end(*state["pids"].pop(0))
elif verb == "create":
    end("WARNING: another platform\\ncontainer-1")
elif verb == "cp":
    directory = plain[-2].partition(":")[2].removesuffix("/.")
    directory in state["directories"] or end("Error: no such file or directory", 1)
    os.path.isdir(last) or end("Error: could not be found on the host", 1)
    open(os.path.join(last, "from"), "w").write(directory)
elif verb == "sleep":
    time.sleep(60)
end()
"""


class Host:
    """A host with an engine: what it holds, what it was asked, and a release of the app ``shop`` in the making."""

    def __init__(self, root: Path) -> None:
        self.root, self.state, self.bin = root, root / "state.json", root / "bin"
        self.layout = Layout("shop", root)
        self.image = Image(self.layout)
        self.bin.mkdir()
        self.told: dict[str, Any] = {key: {} for key in ("images", "registry", "archive", "fails", "config")}
        self.told |= {"calls": [], "used": [], "pids": [], "directories": [], "loaded": "", "loads": {}}
        self.installer = root / "installer.env"

    def has(self, *engines: str) -> None:
        for name in engines:
            (self.bin / name).write_text(ENGINE.format(python=sys.executable, state=str(self.state)))
            (self.bin / name).chmod(0o755)

    def tell(self, **told: Any) -> None:
        self.state.write_text(json.dumps({**self.now(), **told}))

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.state.read_text()) if self.state.exists() else self.told
        return found

    @property
    def names(self) -> list[str]:
        return sorted(self.now()["images"])

    def called(self, verb: str) -> list[list[str]]:
        return [call for call in self.now()["calls"] if verb in call]

    def serve(self, home: Path, engine: str, registry: str = "") -> None:
        (home / "serve").mkdir(parents=True)
        (home / "serve/container.json").write_text(json.dumps({"engine": engine, "registry": registry}))
        (home / "serve/Containerfile").write_text("FROM base\n")

    def bundle(
        self,
        files: dict[str, str] | None = None,
        engine: str = "podman",
        registry: str = "",
        release: str = "aaa",
        **app: Any,
    ) -> Bundle:
        """Return a release of these files, or of none."""
        spec = resolve_one(
            {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app", "server": "container", **app}, "a"
        )
        staging = self.layout.staging(release)
        self.serve(staging, engine, registry)
        if files is None:
            return Bundle(spec, release, staging)
        code = self.root / f"code-{release}"
        for name, text in {"shop.py": "", **files}.items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_text(text)
        with tarfile.open(self.root / f"{release}.tar", "w") as tar:
            tar.add(code, ".")
        return Bundle(spec, release, staging, self.root / f"{release}.tar", ["gunicorn==27.0.1"])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with both engines, which nothing has been done with."""
    host = Host(tmp_path)
    host.has("podman", "docker")
    host.tell()
    monkeypatch.setenv("PATH", str(host.bin))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(images, "LOGINS", tmp_path / "registry")
    monkeypatch.setattr(virtualenv, "installer_env", functools.partial(virtualenv.installer_env, host.installer))
    return host


ENGINES = pytest.mark.parametrize("engine", ["podman", "docker"])

# -- built -------------------------------------------------------------------------------------------------------------


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
    facts = host.image.build(host.bundle(files, engine))
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
    host.image.build(bundle)
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
    host.image.build(host.bundle({"requirements.txt": "Gunicorn[gthread]==23.0.0\n"}))
    assert host.now()["built"]["context"]["requirements/server.txt"] == ""


def test_packages_of_the_apps_own_tree_come_with_the_requirements(host: Host) -> None:
    host.image.build(host.bundle({"requirements.txt": "./lib\n", "lib/pyproject.toml": "[project]\n"}))
    context = host.now()["built"]["context"]
    assert "/requirements/code/lib" in context["requirements/app.txt"]
    assert str(host.root) not in context["requirements/app.txt"]
    assert context["requirements/code/lib/pyproject.toml"] == "[project]\n"


@pytest.mark.parametrize("locked", [True, False])
def test_a_lock_is_all_that_pip_installs_of_the_app(host: Host, monkeypatch: pytest.MonkeyPatch, locked: bool) -> None:
    text = virtualenv.Text("plugin==1 --hash=sha256:aa\n", locked, "shop" if locked else "")
    monkeypatch.setattr(virtualenv, "requirements_text", lambda code, python: text)
    host.image.build(host.bundle({}))
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
    with pytest.raises(RuntimeFault, match="cannot be built from Containerfile"):
        host.image.build(bundle)
    assert sorted(os.listdir(bundle.staging)) == ["app", "serve"]


def test_there_is_nothing_to_build(host: Host) -> None:
    with pytest.raises(RuntimeFault, match="no source was sent"):
        host.image.build(host.bundle())


# -- the registry between hosts ----------------------------------------------------------------------------------------

SHARED = "registry.example.org/apps/shop:aaa"


@ENGINES
def test_the_first_host_builds_and_pushes(host: Host, engine: str) -> None:
    host.image.build(host.bundle({"Containerfile": ""}, engine, "registry.example.org/apps"))
    now = host.now()
    assert now["registry"] == {SHARED: "id-built"}
    assert host.names == [f"{MINE}:aaa"]


@ENGINES
def test_every_other_host_fetches_what_was_built(host: Host, engine: str) -> None:
    host.tell(registry={SHARED: "id-shared"})
    bundle = host.bundle({"Containerfile": "", "static/shop.css": ""}, engine, "registry.example.org/apps")
    assert host.image.build(bundle)["image"] == "id-shared"
    assert (len(host.called("pull")), host.called("build"), host.called("push")) == (1, [], [])
    # With another name it would stay when its release goes.
    assert host.names == [f"{MINE}:aaa"]
    # nginx serves the static files of the source.
    assert (bundle.staging / "app/static/shop.css").is_file()


def test_a_registry_that_takes_nothing_fails_the_release(host: Host) -> None:
    host.tell(fails={"push": "Error: denied"})
    with pytest.raises(RuntimeFault, match=f"cannot be pushed to {SHARED}") as caught:
        host.image.build(host.bundle({"Containerfile": ""}, registry="registry.example.org/apps"))
    assert caught.value.output == "Error: denied"


# -- given -------------------------------------------------------------------------------------------------------------


@ENGINES
def test_an_image_of_a_registry_is_fetched_by_its_digest(host: Host, engine: str) -> None:
    host.tell(registry={DIGEST: "id-given"}, config={"WorkingDir": "/code"}, directories=["/code/web/static"])
    static = [{"url": "/static/", "path": "web/static"}]
    bundle = host.bundle(engine=engine, source={"image": DIGEST}, static=static)
    assert host.image.build(bundle)["image"] == "id-given"
    assert f"{MINE}:aaa" in host.names
    assert host.called("build") == []
    # What nginx serves is taken out of it, and the container for that is gone.
    assert (bundle.staging / "app/web/static/from").read_text() == "/code/web/static"
    assert host.now()["calls"][-1] == [engine, "rm", "--force", "container-1"]


def test_an_image_without_the_static_files_that_are_asked_for(host: Host) -> None:
    host.tell(registry={DIGEST: "id-given"}, config={"WorkingDir": ""})
    bundle = host.bundle(source={"image": DIGEST}, static=[{"url": "/s/", "path": "static"}])
    with pytest.raises(RuntimeFault, match="the image has no directory /static"):
        host.image.build(bundle)
    assert host.now()["calls"][-1] == ["podman", "rm", "--force", "container-1"]


def test_an_image_that_is_not_there(host: Host) -> None:
    with pytest.raises(RuntimeFault, match=f"the image {DIGEST} cannot be pulled") as caught:
        host.image.build(host.bundle(source={"image": DIGEST}))
    assert caught.value.output == "Error: manifest unknown"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Getting image source signatures\nLoaded image: localhost/shop:1.4", "localhost/shop:1.4"),
        ("Loaded image(s): localhost/shop:1.4,localhost/shop:latest", "localhost/shop:1.4"),
        (f"Loaded image ID: sha256:{'e' * 64}", f"sha256:{'e' * 64}"),
        (f"Loaded image: sha256:{'e' * 64}", f"sha256:{'e' * 64}"),
    ],
)
@ENGINES
def test_an_archive_is_loaded(host: Host, engine: str, said: str, name: str) -> None:
    host.tell(archive={name: "id-loaded"}, loaded=said)
    assert host.image.build(host.bundle({}, engine, source={"image": "shop.tar"}))["image"] == "id-loaded"
    assert host.now()["images"][f"{MINE}:aaa"] == "id-loaded"
    assert host.called("load")[0] == [engine, "load", "--input", str(host.root / "aaa.tar")]


LAYER = b"layer" * 1000


def image_archive(host: Host, mode: str = "w", **indexes: Any) -> Bundle:
    """A release of an image archive with these files that describe it; two underscores stand for a dot."""
    bundle = host.bundle({}, source={"image": "shop.tar"})
    assert bundle.artifact is not None
    members = {"c.json": b"{}", "abc/layer.tar": LAYER}
    members |= {name.replace("__", "."): json.dumps(content).encode() for name, content in indexes.items()}
    with tarfile.open(bundle.artifact, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("def/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../abc/layer.tar"
        tar.addfile(link)
    return bundle


def saved(*tags: str) -> list[dict[str, Any]]:
    return [{"Config": "c.json", "RepoTags": list(tags), "Layers": ["abc/layer.tar", "def/layer.tar"]}]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("name", ["docker.io/library/python:3.13-slim", "python:3.13-slim", f"{MINE}:old", "shop:1"])
def test_loading_an_archive_moves_no_name_of_the_host(host: Host, name: str, mode: str) -> None:
    there = {"docker.io/library/python:3.13-slim": "id-base", "python:3.13-slim": "id-base", f"{MINE}:old": "id-old"}
    host.tell(images={**there, "sha256:eee": "id-loaded"}, loaded="Loaded image: sha256:eee")
    assert host.image.build(image_archive(host, mode, manifest__json=saved(name)))["image"] == "id-loaded"
    assert host.now()["images"] == {**there, "sha256:eee": "id-loaded", f"{MINE}:aaa": "id-loaded"}
    loaded = host.now()["loads"]
    assert json.loads(loaded["manifest.json"]) == [{**saved()[0], "RepoTags": None}]
    assert {name: loaded[name] for name in loaded if name != "manifest.json"} == {
        "c.json": "{}",
        "abc/layer.tar": LAYER.decode(),
        "def/layer.tar": None,
    }
    # The copy is gone.
    assert not list(host.root.glob(".flaskops-image-*"))


def test_no_file_of_an_archive_keeps_a_name(host: Host) -> None:
    manifest = {"digest": "sha256:d", "size": 5, "platform": {"os": "linux"}, "Annotations": {"x": "y"}}
    annotations = {
        "org.opencontainers.image.ref.name": "1.4",
        "io.containerd.image.name": "docker.io/library/shop:1.4",
        "org.opencontainers.image.created": "2026",
    }
    docker = [{**saved("shop:1.4")[0], "repotags": ["docker.io/library/python:3.13-slim"]}]
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": annotations}], "MANIFESTS": [1]}
    host.tell(images={"sha256:eee": "id-loaded"}, loaded="Loaded image ID: sha256:eee")
    repositories = {"shop": {"1.4": "abc"}}
    host.image.build(image_archive(host, manifest__json=docker, index__json=index, repositories=repositories))
    loaded = host.now()["loads"]
    assert json.loads(loaded["manifest.json"]) == [{**saved()[0], "RepoTags": None}]
    del manifest["Annotations"]
    kept = {**manifest, "annotations": {"org.opencontainers.image.created": "2026"}}
    assert json.loads(loaded["index.json"]) == {"schemaVersion": 2, "manifests": [kept]}
    assert "repositories" not in loaded


@pytest.mark.parametrize(
    ("indexes", "words"),
    [
        (
            {"manifest__json": saved("localhost/flaskops/victim:abc")},
            "names its image localhost/flaskops/victim:abc, as another app's release is named",
        ),
        (
            {"manifest__json": saved("shop:1", f"{MINE}2:abc")},
            f"names its image {MINE}2:abc, as another app's release is named",
        ),
        (
            {"manifest__json": saved("shop:1", "python:3")},
            r"gives its image 2 names \(docker.io/library/python:3, docker.io/library/shop:1\), expected one",
        ),
        ({"manifest__json": [*saved("a"), {**saved()[0], "Config": "d.json"}]}, "holds 2 images, expected one"),
        ({"manifest__json": []}, "holds 0 images, expected one"),
        ({"index__json": {"manifests": [{"digest": "a"}, {"digest": "b"}]}}, "holds 2 images, expected one"),
        ({"repositories": {"shop": {"1": "abc"}}}, "is of a kind that is no more in use"),
        ({"manifest__json": {"name": "Shop"}}, "cannot be read as an image archive"),
        ({"manifest__json": "x" * (5 * 2**20)}, r"has a manifest\.json of more than 4194304 bytes"),
    ],
)
def test_an_archive_that_the_controller_should_have_refused(host: Host, indexes: dict[str, Any], words: str) -> None:
    bundle = image_archive(host, **indexes)
    with pytest.raises(RuntimeFault, match=rf"the image archive shop\.tar {words}"):
        host.image.build(bundle)
    assert host.called("load") == []
    assert not list(host.root.glob(".flaskops-image-*"))


def test_an_archive_that_is_damaged(host: Host) -> None:
    bundle = image_archive(host, "w:gz", manifest__json=saved("shop:1"))
    assert bundle.artifact is not None
    whole = bundle.artifact.read_bytes()
    bundle.artifact.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeFault, match=r"the image archive shop\.tar cannot be read as an image archive"):
        host.image.build(bundle)


def test_an_archive_without_an_image(host: Host) -> None:
    host.tell(loaded="nothing to see")
    with pytest.raises(RuntimeFault, match=r"the image archive shop\.tar holds no image") as caught:
        host.image.build(host.bundle({}, source={"image": "shop.tar"}))
    assert caught.value.output.strip() == "nothing to see"


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
    host.image.build(bundle)
    file = bundle.staging / "serve/image"
    # As serve/run does.
    script = '. "$0"; eval "set -- $command"; IFS="|"; printf "%s\\n" "$*" "$directory" "$image"'
    done = subprocess.run(["/bin/sh", "-c", script, file], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [command, directory, f"{MINE}:aaa"]
    assert file.stat().st_mode & 0o777 == 0o640


# -- what a build may know ---------------------------------------------------------------------------------------------

INDEX = f"https://deploy:{PASSWORD}@pypi.example.org/simple"


def test_credentials_reach_a_build_and_nothing_else(host: Host) -> None:
    bundle = host.bundle({}, python={"index_url": INDEX})
    host.image.build(bundle)
    assert f"PIP_INDEX_URL={INDEX}\n" in host.now()["built"]["secrets"]["installer"]
    assert PASSWORD not in json.dumps(host.now()["calls"]) + json.dumps(host.now()["environment"])
    assert PASSWORD not in json.dumps(host.now()["built"]["context"])
    sources = [word.partition("src=")[2] for word in host.called("build")[0] if "src=" in word]
    assert [path for path in sources if Path(path).exists()] == []


def test_the_apps_index_takes_the_place_of_the_hosts(host: Host) -> None:
    host.installer.write_text(
        "PIP_INDEX_URL=https://host/a\nPIP_EXTRA_INDEX_URL=https://host/b\nUV_INDEX=https://host/c\n"
    )
    host.image.build(host.bundle({"Containerfile": ""}, python={"index_url": "https://app/simple"}))
    assert host.now()["built"]["secrets"]["installer"] == (
        "PIP_INDEX_URL=https://app/simple\nUV_DEFAULT_INDEX=https://app/simple\n"
    )


def test_without_an_index_of_the_app_the_hosts_stays(host: Host) -> None:
    host.installer.write_text("PIP_EXTRA_INDEX_URL='https://host/b c'\n")
    host.image.build(host.bundle({"Containerfile": ""}, python={"offline": True, "find_links": "https://app/links"}))
    assert host.now()["built"]["secrets"]["installer"] == (
        "PIP_EXTRA_INDEX_URL='https://host/b c'\nPIP_FIND_LINKS=https://app/links\nPIP_NO_INDEX=1\n"
    )


def test_the_hosts_authorities_are_lent_to_a_build(host: Host) -> None:
    authorities = host.root / "ca.pem"
    authorities.write_text("CERTIFICATE")
    host.installer.write_text(f"PIP_CERT={authorities}\n")
    host.image.build(host.bundle({"Containerfile": ""}))
    secrets = host.now()["built"]["secrets"]
    assert secrets["ca"] == "CERTIFICATE"
    lines = secrets["installer"].splitlines()
    assert {"PIP_CERT=/run/secrets/ca", "SSL_CERT_FILE=/run/secrets/ca"} <= set(lines)
    assert str(authorities) not in secrets["installer"]


def test_without_authorities_none_are_lent(host: Host) -> None:
    host.image.build(host.bundle({"Containerfile": ""}))
    assert host.now()["built"]["secrets"] == {"installer": ""}


@pytest.mark.parametrize("shape", [INDEX, f"the password {PASSWORD} is wrong", "ftp://me:letmein@mirror/x"])
def test_what_a_failed_build_said_holds_no_credentials(host: Host, shape: str) -> None:
    said = "\n".join([*(f"step {number}" for number in range(60)), shape, "ERROR: no matching distribution"])
    host.tell(fails={"build": said})
    with pytest.raises(RuntimeFault, match="cannot be built from Containerfile") as caught:
        host.image.build(host.bundle({"Containerfile": ""}, python={"index_url": INDEX}))
    lines = caught.value.output.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("step 22", "ERROR: no matching distribution", 40)
    assert not {PASSWORD, "letmein"} & set(caught.value.output.replace("@", " ").replace(":", " ").split())


@pytest.mark.parametrize("verb", ["pull", "tag", "image inspect"])
def test_every_failure_says_what_the_engine_said(host: Host, verb: str) -> None:
    host.tell(registry={DIGEST: "id-given"}, fails={verb: "Error: GET https://me:letmein@registry/v2/: no"})
    with pytest.raises(RuntimeFault, match="the image ") as caught:
        host.image.build(host.bundle(source={"image": DIGEST}))
    assert caught.value.output == "Error: GET https://***@registry/v2/: no"


@ENGINES
def test_a_host_without_the_engine(host: Host, engine: str) -> None:
    (host.bin / engine).unlink()
    for registry in ("", "registry.example.org"):
        with pytest.raises(RuntimeFault, match=f"{engine} is not on this host; the role container installs it"):
            host.image.build(host.bundle({}, engine, registry, release=f"a{registry[:1]}"))


def test_an_engine_that_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "TIMEOUT", 0.3)
    with pytest.raises(RuntimeFault, match=r"it stopped: no end after 0\.3 s"):
        images.Cli("podman")._run(["sleep"], "it stopped")


@ENGINES
@pytest.mark.parametrize("logged_in", [True, False])
def test_each_engine_is_led_to_the_logins(host: Host, engine: str, logged_in: bool) -> None:
    if logged_in:
        images.LOGINS.mkdir()
        (images.LOGINS / "config.json").write_text("{}")
    host.tell(registry={SHARED: "x", DIGEST: "id-given"})
    host.image.build(host.bundle(engine=engine, source={"image": DIGEST}))
    authfile = ["--authfile", str(images.LOGINS / "config.json")] if logged_in and engine == "podman" else []
    assert host.called("pull") == [[engine, "pull", "--quiet", *authfile, DIGEST]]
    assert host.now()["environment"].get("DOCKER_CONFIG") == (str(images.LOGINS) if logged_in else None)


def test_the_engine_has_the_hosts_proxy_and_nothing_else_of_ours(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere")
    host.tell(registry={DIGEST: "id-given"})
    host.image.build(host.bundle(source={"image": DIGEST}))
    environment = host.now()["environment"]
    assert environment["https_proxy"] == "http://proxy:3128"
    assert "DOCKER_HOST" not in environment and "HTTPS_PROXY" not in environment


# -- what is left of it ------------------------------------------------------------------------------------------------


@ENGINES
def test_images_go_with_their_releases(host: Host, engine: str) -> None:
    (host.bin / ("docker" if engine == "podman" else "podman")).unlink()
    others = {
        "localhost/flaskops/shop-admin:old": "5",
        "localhost/flaskops/shopping:old": "6",
        "docker.io/shop:old": "7",
    }
    host.tell(images={f"{MINE}:old": "1", f"{MINE}:older": "2", f"{MINE}:aaa": "3", f"{MINE}:bbb": "4", **others})
    host.image.prune(["aaa", "bbb"])
    assert host.names == sorted([f"{MINE}:aaa", f"{MINE}:bbb", *others])
    assert {call[0] for call in host.now()["calls"]} == {engine}


def test_an_image_goes_from_either_engine(host: Host) -> None:
    host.tell(images={f"{MINE}:old": "1"})
    host.image.prune([])
    assert [call[0] for call in host.called("ls")] == ["podman", "docker"]


@pytest.mark.parametrize(
    "more", [{}, {f"{MINE}:aaa": "1"}, {"localhost/flaskops/blog:ccc": "1"}, {"reg/shop:1.4": "1"}]
)
def test_an_image_that_was_fetched_by_its_digest_goes_when_nobody_else_has_it(host: Host, more: dict[str, str]) -> None:
    host.tell(images={f"{MINE}:old": "1", DIGEST: "1", **more})
    host.image.prune(["aaa"])
    assert host.names == sorted([DIGEST, *more] if more else [])


def test_an_image_that_cannot_go_yet_stops_nothing(host: Host) -> None:
    host.tell(images={f"{MINE}:old": "1", f"{MINE}:older": "2"}, used=[f"{MINE}:old"])
    host.image.prune([])
    assert host.names == [f"{MINE}:old"]


def test_without_an_engine_there_is_nothing_to_remove(host: Host) -> None:
    for engine in ("podman", "docker"):
        (host.bin / engine).unlink()
    host.image.prune([])
    assert host.now()["calls"] == []


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_the_servers_process_is_asked_for_once(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "docker")
    host.tell(pids=[[str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _ in range(3)] == [os.getpid()] * 3
    assert host.now()["calls"] == [["docker", "container", "inspect", "--format", "{{.State.Pid}}", "shop-aaa"]]


def test_a_process_that_is_gone_is_asked_for_again(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "podman")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    host.tell(pids=[[str(ended.pid)], [str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _ in range(2)] == [ended.pid, os.getpid()]


def test_a_container_that_is_not_there_has_no_process(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "podman")
    host.tell(pids=[["Error: no such container shop-aaa", 125], [str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _ in range(2)] == [0, os.getpid()]
    assert host.image.main_pid("aaa", 0) == 0, "without its client it has ended"


def test_a_command_runs_in_a_container_of_its_own_and_nothing_is_left_of_it(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "docker")
    run = str(host.layout.release("aaa") / "serve/run")
    arguments, options = host.image.command("aaa", ["flask", "db upgrade"], {"KEY": PASSWORD})
    assert arguments == ["/bin/sh", run, "shop-aaa-command", "flask", "db upgrade"]
    assert PASSWORD not in json.dumps(options), "the release's own variables are in its files"
    host.image.ended("aaa")
    assert host.now()["calls"] == [["docker", "rm", "--force", "shop-aaa-command"]]


def test_the_environment_leads_a_gunicorn_of_the_image_to_the_socket(host: Host) -> None:
    assert host.image.environment(host.bundle({})) == {
        "HOME": str(host.layout.shared),
        "GUNICORN_CMD_ARGS": "--bind=unix:/run/shop/http.sock",
    }
