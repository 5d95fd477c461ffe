# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an engine is told when it makes an image, and what is told of that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import image_archives
import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import cli, cli_build
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle, RuntimeBuildError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image_archive import copy_without_names
from engine import DIGEST, ENGINES, MINE, PASSWORD, SHARED, Host


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
    assert host.builder.build(host.bundle({}, engine, source={"image": "shop.tar"}))["image"] == "id-loaded"
    assert host.now()["images"][f"{MINE}:aaa"] == "id-loaded"
    assert host.called("load")[0] == [engine, "load", "--input", str(host.root / "aaa.tar")]


LAYER = b"layer" * 1000


def image_archive(host: Host, mode: str = "w", **indexes: Any) -> Bundle:
    """A release of an image archive with these files that describe it, as the controller sends it; two underscores stand
    for a dot."""
    cache = host.root / "cache"
    for directory in ("artifacts", "locks"):
        (cache / directory).mkdir(parents=True)
    links = [("def/layer.tar", "../abc/layer.tar")]
    archive = image_archives.write(host.root / "shop.tar", LAYER, mode, links, **indexes)
    return replace(host.bundle({}, source={"image": "shop.tar"}), artifact=copy_without_names(archive, cache))


def saved(*tags: str) -> list[dict[str, Any]]:
    return image_archives.manifest(*tags, layers=["abc/layer.tar", "def/layer.tar"])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("name", ["docker.io/library/python:3.13-slim", "python:3.13-slim", f"{MINE}:old", "shop:1"])
def test_loading_an_archive_moves_no_name_of_the_host(host: Host, name: str, mode: str) -> None:
    there = {"docker.io/library/python:3.13-slim": "id-base", "python:3.13-slim": "id-base", f"{MINE}:old": "id-old"}
    host.tell(images={**there, "sha256:eee": "id-loaded"}, loaded="Loaded image: sha256:eee")
    assert host.builder.build(image_archive(host, mode, manifest__json=saved(name)))["image"] == "id-loaded"
    assert host.now()["images"] == {**there, "sha256:eee": "id-loaded", f"{MINE}:aaa": "id-loaded"}
    loaded = host.now()["loads"]
    assert json.loads(loaded["manifest.json"]) == [{**saved()[0], "RepoTags": None}]
    assert {name: loaded[name] for name in loaded if name != "manifest.json"} == {
        "c.json": "{}",
        "abc/layer.tar": LAYER.decode(),
        "def/layer.tar": None,
    }


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
    host.builder.build(image_archive(host, manifest__json=docker, index__json=index, repositories=repositories))
    loaded = host.now()["loads"]
    assert json.loads(loaded["manifest.json"]) == [{**saved()[0], "RepoTags": None}]
    del manifest["Annotations"]
    kept = {**manifest, "annotations": {"org.opencontainers.image.created": "2026"}}
    assert json.loads(loaded["index.json"]) == {"schemaVersion": 2, "manifests": [kept]}
    assert "repositories" not in loaded


def test_an_archive_without_an_image(host: Host) -> None:
    host.tell(loaded="nothing to see")
    with pytest.raises(RuntimeBuildError, match=r"the image archive shop\.tar holds no image") as caught:
        host.builder.build(host.bundle({}, source={"image": "shop.tar"}))
    assert caught.value.output.strip() == "nothing to see"


INDEX = f"https://deploy:{PASSWORD}@pypi.example.org/simple"


def test_credentials_reach_a_build_and_nothing_else(host: Host) -> None:
    bundle = host.bundle({}, python={"index_url": INDEX})
    host.builder.build(bundle)
    assert f"PIP_INDEX_URL={INDEX}\n" in host.now()["built"]["secrets"]["installer"]
    assert PASSWORD not in json.dumps(host.now()["calls"]) + json.dumps(host.now()["environment"])
    assert PASSWORD not in json.dumps(host.now()["built"]["context"])
    sources = [word.partition("src=")[2] for word in host.called("build")[0] if "src=" in word]
    assert [path for path in sources if Path(path).exists()] == []


def test_the_apps_index_takes_the_place_of_the_hosts(host: Host) -> None:
    host.installer.write_text(
        "PIP_INDEX_URL=https://host/a\nPIP_EXTRA_INDEX_URL=https://host/b\nUV_INDEX=https://host/c\n"
    )
    host.builder.build(host.bundle({"Containerfile": ""}, python={"index_url": "https://app/simple"}))
    assert host.now()["built"]["secrets"]["installer"] == (
        "PIP_INDEX_URL=https://app/simple\nUV_DEFAULT_INDEX=https://app/simple\n"
    )


def test_without_an_index_of_the_app_the_hosts_stays(host: Host) -> None:
    host.installer.write_text("PIP_EXTRA_INDEX_URL='https://host/b c'\n")
    host.builder.build(host.bundle({"Containerfile": ""}, python={"offline": True, "find_links": "https://app/links"}))
    assert host.now()["built"]["secrets"]["installer"] == (
        "PIP_EXTRA_INDEX_URL='https://host/b c'\nPIP_FIND_LINKS=https://app/links\nPIP_NO_INDEX=1\n"
    )


def test_the_hosts_authorities_are_lent_to_a_build(host: Host) -> None:
    authorities = host.root / "ca.pem"
    authorities.write_text("CERTIFICATE")
    host.installer.write_text(f"PIP_CERT={authorities}\n")
    host.builder.build(host.bundle({"Containerfile": ""}))
    secrets = host.now()["built"]["secrets"]
    assert secrets["ca"] == "CERTIFICATE"
    lines = secrets["installer"].splitlines()
    assert {"PIP_CERT=/run/secrets/ca", "SSL_CERT_FILE=/run/secrets/ca"} <= set(lines)
    assert str(authorities) not in secrets["installer"]


def test_without_authorities_none_are_lent(host: Host) -> None:
    host.builder.build(host.bundle({"Containerfile": ""}))
    assert host.now()["built"]["secrets"] == {"installer": ""}


@pytest.mark.parametrize("shape", [INDEX, f"the password {PASSWORD} is wrong", "ftp://me:letmein@mirror/x"])
def test_what_a_failed_build_said_holds_no_credentials(host: Host, shape: str) -> None:
    said = "\n".join([*(f"step {number}" for number in range(60)), shape, "ERROR: no matching distribution"])
    host.tell(fails={"build": said})
    with pytest.raises(RuntimeBuildError, match="cannot be built from Containerfile") as caught:
        host.builder.build(host.bundle({"Containerfile": ""}, python={"index_url": INDEX}))
    lines = caught.value.output.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("step 22", "ERROR: no matching distribution", 40)
    assert not {PASSWORD, "letmein"} & set(caught.value.output.replace("@", " ").replace(":", " ").split())


@pytest.mark.parametrize("verb", ["pull", "tag", "image inspect"])
def test_every_failure_says_what_the_engine_said(host: Host, verb: str) -> None:
    host.tell(registry={DIGEST: "id-given"}, fails={verb: "Error: GET https://me:letmein@registry/v2/: no"})
    with pytest.raises(RuntimeBuildError, match="the image ") as caught:
        host.builder.build(host.bundle(source={"image": DIGEST}))
    assert caught.value.output == "Error: GET https://***@registry/v2/: no"


def test_an_engine_that_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "TIMEOUT", 0.3)
    with pytest.raises(RuntimeBuildError, match=r"it stopped: it did not finish within 0\.3 s"):
        cli_build.BuildingCli("podman")._run(["sleep"], "it stopped")


@ENGINES
@pytest.mark.parametrize("logged_in", [True, False])
def test_each_engine_is_led_to_the_logins(host: Host, engine: str, logged_in: bool) -> None:
    if logged_in:
        cli.LOGINS.mkdir()
        (cli.LOGINS / "config.json").write_text("{}")
    host.tell(registry={SHARED: "x", DIGEST: "id-given"})
    host.builder.build(host.bundle(engine=engine, source={"image": DIGEST}))
    authfile = ["--authfile", str(cli.LOGINS / "config.json")] if logged_in and engine == "podman" else []
    assert host.called("pull") == [[engine, "pull", "--quiet", *authfile, DIGEST]]
    assert host.now()["environment"].get("DOCKER_CONFIG") == (str(cli.LOGINS) if logged_in else None)


def test_the_engine_has_the_hosts_proxy_and_nothing_else_of_ours(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere")
    host.tell(registry={DIGEST: "id-given"})
    host.builder.build(host.bundle(source={"image": DIGEST}))
    environment = host.now()["environment"]
    assert environment["https_proxy"] == "http://proxy:3128"
    assert "DOCKER_HOST" not in environment and "HTTPS_PROXY" not in environment
