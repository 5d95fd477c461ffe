#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The servers against each other: the shop under each of them on one host, asked in turn. `make bench` calls this.

README.md says what is measured, and how; docs/servers.md holds the numbers of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / ".cache" / "collections")]

import testhosts  # noqa: E402
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS  # noqa: E402

HOST = "flaskops-bench-servers"
#: The requests: a small answer from Flask alone, and a page with a query and a template.
TARGETS = {"small answer": "/healthz", "page": "/"}
CONNECTIONS = 16

#: Python on the host: restart an app's live instance and print the seconds until its socket answers.
START = """
import http.client, os, socket, subprocess, sys, time
app = sys.argv[1]
unit = f"{app}@{os.path.basename(os.readlink(f'/srv/{app}/live'))}.service"
subprocess.run(["systemctl", "stop", unit], check=True)
began = time.monotonic()
subprocess.run(["systemctl", "start", "--no-block", unit], check=True)
while time.monotonic() < began + 60:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(f"/srv/{app}/live/http.sock")
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        if connection.getresponse().status == 200:
            print(time.monotonic() - began)
            break
    except (OSError, http.client.HTTPException):
        time.sleep(0.01)
    finally:
        connection.close()
"""


class BenchError(Exception):
    """A command failed, or an answer was not a good one; the message holds the output."""


@dataclass
class Measured:
    """The measurements of a server: requests a second by target, seconds to start, memory in MiB, exposure."""

    rates: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TARGETS})
    starts: list[float] = field(default_factory=list)
    memory: int = 0
    exposure: str = ""


def name_app(server: str) -> str:
    """Return the name of a server's app."""
    return f"on-{server.replace('_', '-')}"


def define_app(server: str) -> dict[str, Any]:
    """Return the shop under a server, with the same workers and threads for all."""
    return {
        "name": name_app(server),
        "server": server,
        "source": {"path": str(ROOT / "examples" / "shop")},
        "wsgi": "shop:create_app()",
        "domains": [f"{name_app(server)}.test"],
        "workers": 2,
        "threads": 4,
        "secrets": {"SHOP_SECRET_KEY": "not a secret, a benchmark"},
        "health": {"path": "/healthz"},
        "tls": {"mode": "none"},
        "release_commands": ["python -m alembic upgrade head"],
    }


def run_on_host(*command: str) -> str:
    """Run a command on the test host and return its output.

    :raises BenchError: when it fails.
    """
    done = subprocess.run(
        ["docker", "exec", HOST, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"$ {' '.join(command)}\n{done.stdout[-3000:]}")
    return done.stdout


def play(directory: Path, playbook: str) -> str:
    """Run a playbook of the collection and return its output.

    :raises BenchError: when it fails.
    """
    command = ["ansible-playbook", "--inventory", str(directory / "inventory.json"), f"playbooks/{playbook}.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{done.stdout[-6000:]}{done.stderr[-3000:]}")
    return done.stdout


def prepare(directory: Path, image: str) -> None:
    """Start the host, and put the shop on it under each server."""
    testhosts.ensure_python_image()
    testhosts.remove_host(HOST)
    images = ROOT / ".cache" / "images"
    testhosts.start_host(HOST, image, f"--volume={images}:/srv/images:ro", "--volume=/var/lib/containers")
    run_on_host("sh", "-euc", "apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk runc podman")
    run_on_host("podman", "load", "--quiet", "--input", "/srv/images/python.tar")
    variables = {
        "ansible_connection": "community.docker.docker",
        "ansible_host": HOST,
        "python_ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
        "container_base_image": "localhost/flaskops-test:python",
        "flask_apps": [define_app(server) for server in SERVERS],
    }
    inventory = {"all": {"hosts": {"host": variables}}}
    (directory / "inventory.json").write_text(json.dumps(inventory))
    play(directory, "site")


def measure_rate(server: str, target: str, seconds: int) -> float:
    """Return requests a second through nginx.

    :raises BenchError: when an answer is an error.
    """
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s"]
    output = run_on_host(*command, "--header", f"Host: {name_app(server)}.test", f"http://127.0.0.1{target}")
    if "Non-2xx" in output or "Socket errors" in output:
        raise BenchError(f"{server} {target}:\n{output}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]


def measure(directory: Path, rounds: int, seconds: int) -> dict[str, Measured]:
    """Measure the servers in turn, so that other load on this machine affects all of them."""
    measured = {server: Measured() for server in SERVERS}
    for number in range(1, rounds + 1):
        for server, measurement in measured.items():
            for name, target in TARGETS.items():
                measurement.rates[name].append(measure_rate(server, target, seconds))
            measurement.starts.append(float(run_on_host("python3", "-c", START, name_app(server))))
            rates = ", ".join(f"{name} {many[-1]:.0f}/s" for name, many in measurement.rates.items())
            testhosts.say(f"round {number}, {server}: {rates}, starts in {measurement.starts[-1]:.2f} s")
    time.sleep(2)
    status = play(directory, "status")
    for server, measurement in measured.items():
        about = status[status.index(f"{name_app(server)}: ") :]
        measurement.memory = int(re.search(r"(\d+) MiB", about)[1])  # type: ignore[index]
        release = run_on_host("readlink", f"/srv/{name_app(server)}/live").strip().rpartition("/")[2]
        output = run_on_host("systemd-analyze", "security", "--no-pager", f"{name_app(server)}@{release}.service")
        measurement.exposure = re.search(r"level for .*: ([\d.]+)", output)[1]  # type: ignore[index]
    return measured


def table(measured: dict[str, Measured]) -> str:
    """Render the medians as Markdown, throughput relative to Gunicorn's."""
    heads = ["", *(f"{name}, relative (requests/s)" for name in TARGETS), "memory", "start", "exposure"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for server, measurement in measured.items():
        cells = [f"`{server}`"]
        for name in TARGETS:
            median = statistics.median(measurement.rates[name])
            first = statistics.median(measured["gunicorn"].rates[name])
            cells.append(f"{median / first:.2f} ({median:.0f})")
        cells += [f"{measurement.memory} MiB", f"{statistics.median(measurement.starts):.2f} s", measurement.exposure]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return 1 if something failed or is missing on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="how long each target is measured in a round")
    parser.add_argument("--image", choices=sorted(testhosts.SUITES), default="debian13")
    options = parser.parse_args(arguments)
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    busy = os.getloadavg()[0]
    try:
        testhosts.ensure_engine()
        with tempfile.TemporaryDirectory(prefix="flaskops-bench-") as scratch:
            try:
                prepare(Path(scratch), options.image)
                measured = measure(Path(scratch), options.rounds, options.seconds)
            finally:
                testhosts.remove_host(HOST)
    except (BenchError, testhosts.ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"\n{options.image}, {os.cpu_count()} CPUs, medians of {options.rounds} rounds of {options.seconds} s,", end=" "
    )
    print(f"{CONNECTIONS} connections, 2 workers of 4 threads, load of this machine before: {busy:.1f}\n")
    print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
