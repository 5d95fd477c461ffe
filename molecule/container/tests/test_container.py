# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release in a container, under Podman and under Docker: as systemd, the engine, the journal and the app see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible_collections.flaskops.server.tests.support import deploying, serving
from ansible_collections.flaskops.server.tests.support.serving import Served

HERE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SECRET = "unspoken"


@pytest.fixture(params=["probe", "docked"])
def boxed(request: pytest.FixtureRequest, host: Any) -> Served:
    """The same app under each engine."""
    return Served(host, request.param)


def engine(served: Served) -> str:
    return str(served.facts()["engine"])


def inspect(served: Served) -> dict[str, Any]:
    shown = served.host.check_output(f"{engine(served)} container inspect {served.app}-{served.live}")
    found: dict[str, Any] = json.loads(shown)[0]
    return found


def inside(served: Served, command: str) -> str:
    return str(served.host.check_output(f"{engine(served)} exec {served.app}-{served.live} sh -c %s", command))


def status_of_main(served: Served) -> dict[str, str]:
    """What the kernel says of the container's first process."""
    lines = served.host.file(f"/proc/{inspect(served)['State']['Pid']}/status").content_string.splitlines()
    return {name: value.strip() for name, _unused, value in (line.partition(":") for line in lines)}


# -- the instance ------------------------------------------------------------------------------------------------------


def test_each_engine_runs_its_own(host: Any) -> None:
    assert [engine(Served(host, app)) for app in ("probe", "docked", "shop", "httpbin")] == [
        *("podman", "docker", "podman", "docker")
    ]


def test_exposure(boxed: Served) -> None:
    assert boxed.exposure() <= serving.MOST_EXPOSURE


def test_the_container_can_do_nothing_else(boxed: Served) -> None:
    status = status_of_main(boxed)
    user = boxed.host.user(boxed.app)
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == [str(user.uid)] * 4 and status["Gid"].split() == [str(user.gid)] * 4
    assert not json.loads(boxed.ask("/writable?path=.")[1])["writable"]
    assert not json.loads(boxed.ask("/writable?path=/usr")[1])["writable"]
    assert json.loads(boxed.ask("/writable?path=instance")[1])["writable"]
    assert json.loads(boxed.ask("/writable?path=/tmp")[1])["writable"]


def test_limits_are_the_release_s_slice(boxed: Served) -> None:
    unit = f"{boxed.app}-{boxed.live}.slice"
    shown = boxed.host.check_output(f"systemctl show {unit} --property=MemoryMax,TasksMax,CPUQuotaPerSecUSec")
    assert set(shown.splitlines()) == {f"MemoryMax={2**30}", "TasksMax=99", "CPUQuotaPerSecUSec=1.500000s"}
    cgroup = boxed.host.file(f"/proc/{inspect(boxed)['State']['Pid']}/cgroup").content_string
    assert f"/{unit}/" in cgroup


def test_settings_and_secrets_arrive(boxed: Served) -> None:
    assert json.loads(boxed.ask("/setting/PROBE_COLOUR")[1])["environment"] == "green $HOME"
    assert json.loads(boxed.ask("/setting/PROBE_TOKEN")[1])["environment"] == 'unspoken "0123456789" $HOME'
    assert inside(boxed, "hostname") == "probe-in-a-box"


def test_no_secret_can_be_seen(boxed: Served) -> None:
    assert SECRET not in json.dumps(inspect(boxed))
    name = engine(boxed)
    image = boxed.host.check_output(f"{name} image inspect localhost/flaskops/{boxed.app}:{boxed.live}")
    assert SECRET not in image + boxed.host.check_output(
        f"{name} history --no-trunc localhost/flaskops/{boxed.app}:{boxed.live}"
    )
    assert SECRET not in boxed.host.check_output("ps axww -o args")
    assert SECRET not in boxed.host.check_output("journalctl --no-pager --output=cat")
    # No file in the container holds it, and outside only the one that root alone reads.
    assert inside(boxed, f"grep -rls {SECRET} /run /tmp /app /etc || true") == ""
    holders = boxed.host.run(f"grep -rls {SECRET} /srv/{boxed.app} /run/{boxed.app} /etc").stdout.split()
    assert {Path(path).name for path in holders} == {"secrets.env"}
    assert boxed.host.file(f"{boxed.home}/secrets.env").mode == 0o600


def test_only_the_app_and_nginx_reach_the_socket(boxed: Served) -> None:
    serving.check_socket(boxed)


def test_the_access_log_is_json_in_the_journal(boxed: Served) -> None:
    serving.check_access_log(boxed)


def test_a_stop_finishes_what_is_in_flight(boxed: Served) -> None:
    serving.check_graceful_stop(boxed, most=9, idle=4)
    assert boxed.host.run(f"{engine(boxed)} container inspect {boxed.app}-{boxed.live}").rc == 0


def test_nothing_is_left_of_a_client_that_is_killed(boxed: Served) -> None:
    before = inspect(boxed)["Id"]
    boxed.host.check_output(f"systemctl kill --signal=SIGKILL {boxed.unit}")
    deploying.wait_until(
        "it is up again", lambda: boxed.host.run(f"{engine(boxed)} ps --no-trunc").stdout.count(before) == 0
    )
    serving.start(boxed)
    assert inspect(boxed)["Id"] != before


def test_the_image_has_a_health_check(boxed: Served) -> None:
    facts = images(boxed)
    # Docker has it in the configuration, Podman beside it.
    check = facts["Config"].get("Healthcheck") or facts["Healthcheck"]
    assert f"/run/{boxed.app}/http.sock" in str(check["Test"])


def test_status_counts_the_container_s_memory(boxed: Served) -> None:
    run = deploying.playbook("status", "--limit", boxed.name, apps=[apps()[boxed.app]])
    assert run.code == 0, run.output
    said = re.search(r"health 200, instance active, (\d+) MiB", run.output)
    # Three processes of Gunicorn with Flask; the client alone has 20 to 40.
    assert said and int(said[1]) > 45, run.output


def test_the_shop_serves(host: Any) -> None:
    shop = Served(host, "shop")
    assert shop.ask("/healthz")[0] == 200
    assert "Slow Leaf" in shop.ask("/")[1]
    assert shop.host.file("/srv/shop/live/app/shop/static/shop.css").exists


def test_httpbin_serves(host: Any) -> None:
    status, body = Served(host, "httpbin").ask("/get?a=1")
    assert status == 200 and json.loads(body)["args"] == {"a": "1"}


# -- the ways in which an image comes to a host ------------------------------------------------------------------------


def apps() -> dict[str, dict[str, Any]]:
    """The apps of the inventory, by name."""
    return {one["app"]["name"]: {**one["app"], "server": "container"} for one in deploying.variables()["apps"]}


def registry() -> str:
    return (HERE / "registry").read_text().strip()


def variables(served: Served, **more: Any) -> dict[str, Any]:
    """What a deploy is told of the engine and the registry."""
    return {
        "container_engine": engine(served),
        "container_registry_logins": {registry(): {"username": "deployer", "password": "not-to-be-seen"}},
        "container_registry_authorities": {registry(): str(HERE / "registry.crt")},
        **more,
    }


def deploy(app: dict[str, Any], **told: Any) -> deploying.Run:
    run = deploying.playbook("deploy", apps=[app], **told)
    assert run.code == 0, run.output
    assert "not-to-be-seen" not in run.output
    return run


def images(served: Served) -> dict[str, Any]:
    """What the engine says of the live image."""
    tag = f"localhost/flaskops/{served.app}:{served.found().live}"
    found: dict[str, Any] = json.loads(served.host.check_output(f"{engine(served)} image inspect {tag}"))[0]
    return found


@pytest.fixture(scope="module")
def hosts() -> list[Any]:
    """Every host of the scenario."""
    names = [f"ansible://{name}" for name in deploying.addresses()]
    return list(testinfra.get_hosts(names, ansible_inventory=deploying.inventory()))


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_new_code_is_one_new_layer(name: str, hosts: list[Any], tmp_path: Path) -> None:
    before = [images(Served(host, name)) for host in hosts]
    source = deploying.probe(tmp_path, "2")
    deploy({**apps()[name], "source": {"path": str(source)}}, **variables(Served(hosts[0], name)))
    for host, old in zip(hosts, before, strict=True):
        served = Served(host, name)
        assert served.ask("/")[1] == "probe 2\n"
        one, two = old["RootFS"]["Layers"], images(served)["RootFS"]["Layers"]
        assert len(one) == len(two) and one != two
        assert [a == b for a, b in zip(one, two, strict=True)].index(False) >= len(one) - 2


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_old_images_go_with_their_releases(name: str, hosts: list[Any], tmp_path: Path) -> None:
    for version in ("3", "4"):
        source = deploying.probe(tmp_path, version)
        deploy(
            {**apps()[name], "source": {"path": str(source)}, "keep_releases": 2}, **variables(Served(hosts[0], name))
        )
    for host in hosts:
        served = Served(host, name)
        listed = served.host.check_output(
            f"{engine(served)} image ls --format '{{{{.Tag}}}}' localhost/flaskops/{name}"
        )
        assert sorted(set(listed.split())) == served.found().releases
        assert len(served.found().releases) == 2


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_an_image_is_built_once_and_fetched_by_every_other_host(name: str, hosts: list[Any], tmp_path: Path) -> None:
    source = deploying.probe(tmp_path, "5")
    told = variables(Served(hosts[0], name), container_registry=f"{registry()}/team")
    deploy({**apps()[name], "source": {"path": str(source)}}, **told)
    found = [Served(host, name) for host in hosts]
    assert {served.ask("/")[1] for served in found} == {"probe 5\n"}
    # Two builds would have two moments of creation, and two ids.
    assert len({images(served)["Id"].removeprefix("sha256:") for served in found}) == 1
    for served in found:
        assert served.host.file("/etc/flaskops/registry/config.json").mode == 0o600


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_an_image_is_a_source(name: str, hosts: list[Any], tmp_path: Path) -> None:
    """By its tag: the digest names the release, so that the same again does nothing, and a tag that moved is new."""
    served = Served(hosts[0], name)
    app = {
        **apps()[name],
        "source": {"image": f"{registry()}/team/{name}:stable"},
        "static": [{"url": "/s/", "path": "static"}],
    }
    del app["wsgi"]
    for version in ("6", "7"):
        publish(served, tmp_path, version, f"{registry()}/team/{name}:stable")
        deploy(app, **variables(served))
        again = deploy(app, **variables(served))
        assert again.output.count("changed=0") == len(hosts), again.output
        for host in hosts:
            here = Served(host, name)
            assert here.ask("/")[1] == f"probe {version}\n"
            assert here.facts()["source"]["digest"].startswith("sha256:")
            # What nginx serves comes out of the image.
            assert here.host.file(f"/srv/{name}/live/app/static/probe.css").exists
    back = deploying.playbook("rollback", apps=[app], **variables(served))
    assert back.code == 0, back.output
    assert {Served(host, name).ask("/")[1] for host in hosts} == {"probe 6\n"}


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_an_image_archive_is_a_source(name: str, hosts: list[Any], tmp_path: Path) -> None:
    served = Served(hosts[0], name)
    tag = f"localhost/flaskops/{name}:{served.live}"
    served.host.check_output(f"rm -f /var/tmp/{name}.tar; {engine(served)} save --output /var/tmp/{name}.tar {tag}")
    archive = tmp_path / f"{name}.tar"
    subprocess.run(["docker", "cp", "--quiet", f"{served.address}:/var/tmp/{name}.tar", str(archive)], check=True)
    app = {**apps()[name], "source": {"image": f"docker-archive:{archive}"}, "env": {"PROBE_VERSION": "archived"}}
    deploy(app, **variables(served))
    assert {Served(host, name).ask("/")[1] for host in hosts} == {"probe archived\n"}


@pytest.mark.parametrize("name", ["probe", "docked"])
def test_a_projects_own_containerfile(name: str, hosts: list[Any], tmp_path: Path) -> None:
    """Its own directory, command and user; Gunicorn listens where it is told to."""
    source = own(tmp_path, "8")
    deploy({**apps()[name], "source": {"path": str(source)}}, **variables(Served(hosts[0], name)))
    for host in hosts:
        served = Served(host, name)
        assert served.ask("/")[1] == "probe 8\n"
        assert json.loads(served.ask("/process")[1])["cwd"] == "/opt/probe"
        assert json.loads(served.ask("/writable?path=instance")[1])["writable"]


def own(directory: Path, version: str) -> Path:
    """A copy of the probe with a Containerfile of its own."""
    source = deploying.probe(directory, version)
    (source / "requirements.txt").open("a").write("gunicorn==27.0.1\n")
    shutil.copyfile(Path(__file__).with_name("Containerfile"), source / "Containerfile")
    return source


def publish(served: Served, directory: Path, version: str, tag: str) -> None:
    """Build an image of a version on a host, and push it to the registry."""
    source = own(directory, version)
    subprocess.run(["docker", "cp", "--quiet", str(source), f"{served.address}:/var/tmp/"], check=True)
    context = f"/var/tmp/{source.name}"
    secrets = (
        "--secret id=installer,src=/etc/flaskops/installer.env --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt"
    )
    login = "--authfile /etc/flaskops/registry/config.json" if engine(served) == "podman" else ""
    extra = "--format docker" if engine(served) == "podman" else ""
    served.host.check_output(
        f"export DOCKER_BUILDKIT=1 DOCKER_CONFIG=/etc/flaskops/registry; {engine(served)} build --network host {secrets} {extra}"
        f" --file {context}/Containerfile --tag {tag} {context} && {engine(served)} push {login} {tag}"
    )
