# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploying to a scenario's hosts as a person would, and looking at what is there afterwards.

For tests that Molecule's testinfra verifier runs: it says in the environment where the scenario's inventory is.

    from ansible_collections.flaskops.server.tests.support import deploying

    source = deploying.probe(tmp_path, version="2")
    run = deploying.playbook("deploy", apps=[deploying.probe_app(source)])
    assert run.code == 0, run.output
    assert all(deploying.on_host(address, "probe").live for address in deploying.addresses().values())
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "tests" / "apps" / "probe"

#: How Ansible reaches the scenario's hosts.
CONNECTION = "community.docker.docker"

#: Seconds that a playbook may take.
TIMEOUT = 300

#: What makes an item of ``flask_apps``: of a version, a variant, and whatever else it is to say.
Make = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A playbook that ended: its exit code, all that it printed, and the seconds it took."""

    code: int
    output: str
    seconds: float

    @property
    def words(self) -> str:
        """The output without the line breaks that the terminal's width makes."""
        return " ".join(self.output.split())


class Playbook:
    """One of the shipped playbooks, running against the scenario's hosts."""

    def __init__(self, name: str, variables: Mapping[str, Any], arguments: Sequence[str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flaskops-test-")
        given = Path(self._directory.name, "variables.json")
        given.write_text(json.dumps(variables))
        self._output = Path(self._directory.name, "output")
        command = [
            *("ansible-playbook", "--inventory", inventory(), str(ROOT / "playbooks" / f"{name}.yml")),
            *("--extra-vars", f"@{given}", *arguments),
        ]
        self._began = time.monotonic()
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own, so that it can be killed with its workers, as when a machine goes away.
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it and all that it started here, so that it can clean nothing up (SIGKILL)."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, timeout: float = TIMEOUT) -> Run:
        """Wait for its end.

        :param timeout: seconds.
        :raises subprocess.TimeoutExpired: where it hangs; then it is killed.
        """
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            output = self._output.read_text(errors="replace")
            self._directory.cleanup()
        return Run(code, output, time.monotonic() - self._began)


def start(name: str, *arguments: str, apps: Sequence[Mapping[str, Any]] | None = None, **variables: Any) -> Playbook:
    """Start one of the shipped playbooks and do not wait for it.

    :param name: such as ``deploy``.
    :param arguments: of ``ansible-playbook``, such as ``--check``.
    :param apps: ``flask_apps``; the scenario's own where it is None.
    :param variables: further variables, as ``-e`` gives them.
    """
    if apps is not None:
        variables["flask_apps"] = list(apps)
    return Playbook(name, variables, arguments)


def playbook(name: str, *arguments: str, apps: Sequence[Mapping[str, Any]] | None = None, **variables: Any) -> Run:
    """Run one of the shipped playbooks to its end; the parameters are those of :func:`start`."""
    return start(name, *arguments, apps=apps, **variables).wait()


def inventory() -> str:
    """Return the path of the scenario's inventory."""
    return os.environ["MOLECULE_INVENTORY_FILE"]


def environment() -> dict[str, str]:
    """Return the environment of somebody who works in a clone: its ansible.cfg, none of Molecule's settings of Ansible."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTEST_"))}
    return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "160"}


@cache
def _variables() -> dict[str, dict[str, Any]]:
    listed = subprocess.run(
        ["ansible-inventory", "--inventory", inventory(), "--list"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    variables: dict[str, dict[str, Any]] = json.loads(listed.stdout)["_meta"]["hostvars"]
    return {name: of for name, of in sorted(variables.items()) if of.get("ansible_connection") == CONNECTION}


def addresses() -> dict[str, str]:
    """Return the scenario's hosts: the name of the container of each, which Molecule's driver names alike."""
    return {name: name for name in _variables()}


def variables() -> dict[str, Any]:
    """Return the inventory's variables, of the first host: a copy."""
    return copy.deepcopy(next(iter(_variables().values())))


def inventory_apps() -> dict[str, dict[str, Any]]:
    """Return the scenario's own ``flask_apps`` by name: a copy, to change and deploy."""
    return {app["name"]: app for app in variables()["flask_apps"]}


def shell(address: str, script: str, check: bool = True, timeout: float = 60) -> str:
    """Run a shell script on a host as root and return its output, both streams.

    :raises AssertionError: when it fails, with its output; not where ``check`` is False.
    """
    done = subprocess.run(
        ["docker", "exec", "--interactive", address, "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, f"{script}\non {address} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout.strip()


def wait_until(what: str, is_so: Callable[[], Any], seconds: float = 30, pause: float = 0.1) -> Any:
    """Wait until a function returns something true, and return that.

    :raises AssertionError: naming ``what``, when the seconds are over.
    """
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)
    return found


# -- the app to deploy -------------------------------------------------------------------------------------------------


def probe(directory: Path, version: str = "1", variant: str | None = None) -> Path:
    """Put a copy of tests/apps/probe below a directory and return its path.

    :param version: what it calls itself.
    :param variant: how it is broken: the name of a file in its ``variants``; None for a good one.
    """
    made = directory / f"probe-{version}-{(variant or 'good').partition('.')[0]}"
    shutil.copytree(PROBE, made, ignore=shutil.ignore_patterns("variants", "__pycache__", "README.md"))
    (made / "VERSION").write_text(f"{version}\n")
    if variant:
        replaced = "requirements.txt" if variant.startswith("requirements_") else "behaviour.py"
        shutil.copyfile(PROBE / "variants" / variant, made / replaced)
    return made


def probe_app(source: Path, **more: Any) -> dict[str, Any]:
    """Return an item of ``flask_apps`` for a copy of the probe; ``more`` wins over what is said here."""
    app: dict[str, Any] = {
        "name": "probe",
        "source": {"path": str(source)},
        "wsgi": "probe:create_app()",
        "workers": 2,
        "health": {"path": "/healthz", "status": 200, "timeout": 20},
        "static": [{"url": "/static/", "path": "static"}],
        "tls": {"mode": "none"},
    }
    return {**app, **more}


# -- what there is of an app on a host ---------------------------------------------------------------------------------

_LOOK = r"""
import glob, json, os, re, subprocess, sys
app = sys.argv[1]
home = "/srv/" + app
def listed(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else []
def lines(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
record = []
if os.path.exists(home + "/deploys.jsonl"):
    for line in open(home + "/deploys.jsonl"):
        record.append(json.loads(line))
units = {}
for line in lines("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", app + "@*.service"):
    name, _, active = line.split()[:3]
    units[name[len(app) + 1:-len(".service")]] = active
print(json.dumps({
    "live": os.path.basename(os.readlink(home + "/live")) if os.path.islink(home + "/live") else None,
    "releases": listed(home + "/releases"),
    "venvs": listed(home + "/venvs"),
    "home": listed(home),
    "instances": units,
    "runtime": listed("/run/" + app),
    "drop_ins": sorted(re.search(r"@(.+)\.service\.d$", path)[1] for path in glob.glob("/etc/systemd/system/" + app + "@*.service.d")),
    "lock": next((open(path).read() for path in glob.glob("/run/flaskops/" + app + ".json")), None),
    "record": record,
}))
"""


@dataclass(frozen=True)
class Found:
    """What there is of an app on a host.

    :param live: the release that ``live`` points to.
    :param releases: the names in ``releases``, hidden ones too.
    :param venvs: the names in ``venvs``, hidden ones too.
    :param home: the names in the app's directory.
    :param instances: the state of each of its systemd instances, by release.
    :param runtime: the releases that have a runtime directory.
    :param drop_ins: the releases that have a drop-in of systemd.
    :param lock: the text of its lock, None where nobody holds it.
    :param record: the lines of its record, oldest first.
    """

    live: str | None
    releases: list[str]
    venvs: list[str]
    home: list[str]
    instances: dict[str, str]
    runtime: list[str]
    drop_ins: list[str]
    lock: str | None
    record: list[dict[str, Any]] = field(default_factory=list)


def on_host(address: str, app: str = "probe") -> Found:
    """Look at what there is of an app on a host."""
    done = subprocess.run(
        ["docker", "exec", "--interactive", address, "python3", "-", app],
        input=_LOOK,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Found(**json.loads(done.stdout))


_FETCH = r"""
import http.client, json, socket, sys
path, port, target, headers = json.loads(sys.argv[1])
if path:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(path)
elif port == 443:
    import ssl
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=ssl._create_unverified_context())
else:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
connection.request("GET", target, headers=headers)
response = connection.getresponse()
sys.stdout.write(json.dumps([response.status, response.read().decode(errors="replace")]))
"""


def fetch(
    address: str, target: str = "/", host: str = "localhost", port: int = 80, socket: str | None = None
) -> tuple[int, str]:
    """Send a GET request on a host and return the status and the body.

    :param target: path and query.
    :param host: the header Host.
    :param port: of nginx; 443 speaks TLS and believes every certificate.
    :param socket: the path of a unix socket to ask instead of nginx.
    :raises AssertionError: where there is no answer.
    """
    asked = json.dumps([socket, port, target, {"Host": host, "Connection": "close"}])
    done = subprocess.run(
        ["docker", "exec", address, "python3", "-c", _FETCH, asked],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{target} on {address}: {done.stderr}"
    status, body = json.loads(done.stdout)
    return status, body


def ask_live(address: str, target: str = "/", app: str = "probe") -> tuple[int, str]:
    """Ask the live release through the socket that ``live`` leads to, past nginx; as :func:`fetch`."""
    return fetch(address, target, socket=f"/srv/{app}/live/http.sock")


_VISIT = r"""
import collections, http.client, json, sys, threading, time
seen, failures, ended = collections.Counter(), [], threading.Event()
def visit():
    while not ended.is_set():
        connection = http.client.HTTPConnection("localhost", 80, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": sys.argv[1]})
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
            if response.status == 200:
                seen[body] += 1
            else:
                failures.append(f"{response.status}: {body}")
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
        finally:
            connection.close()
        if sum(seen.values()) == 1:
            print("visiting", flush=True)
        time.sleep(0.05)
visitor = threading.Thread(target=visit)
visitor.start()
sys.stdin.read()
ended.set()
visitor.join()
print(json.dumps([seen, failures]))
"""


@dataclass
class Visits:
    """What visitors got: how often each body, and what went wrong."""

    bodies: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def visitors(host: str = "localhost") -> Iterator[dict[str, Visits]]:
    """Have somebody visit each host through nginx, twenty times a second, until the block ends.

    :param host: the header Host.
    :returns: by host; filled in at the end.
    """
    found = {name: Visits() for name in addresses()}
    running = {
        name: subprocess.Popen(
            ["docker", "exec", "--interactive", address, "python3", "-c", _VISIT, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, address in addresses().items()
    }
    try:
        for process in running.values():
            assert process.stdout is not None and process.stdout.readline(), "no visitor got an answer"
        yield found
    finally:
        for name, process in running.items():
            said, _unused = process.communicate(timeout=30)
            if said:
                found[name].bodies, found[name].failures = json.loads(said.splitlines()[-1])


# -- what was printed --------------------------------------------------------------------------------------------------


def message(run: Run, host: str) -> str:
    """Return the message with which a task failed on a host.

    :raises AssertionError: where there is none, or more than one.
    """
    block = re.compile(rf"^(?:failed|fatal): \[{re.escape(host)}\].*\n((?:    .*\n|\n)+)", re.MULTILINE)
    found = [str(yaml.safe_load(result)["msg"]) for result in block.findall(run.output)]
    # Of a loop Ansible says in the end that an item failed, which is no message.
    found = [text for text in found if not text.startswith("One or more items failed")]
    assert len(found) == 1, f"{len(found)} messages of {host} in:\n{run.output}"
    return found[0]
