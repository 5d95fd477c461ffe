#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Timings of the shipped playbooks against bench/plain.yml, in one interleaved run over SSH. `make bench` calls this.

Each contender has a fresh container of its own that behaves as a VM. README.md describes the rows and the method.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "load")]

import client  # noqa: E402
import demo  # noqa: E402
import testhosts  # noqa: E402

DOMAIN = "shop.test"
RATE = 50.0
LANES = (
    client.Lane("short", "/", workers=4, expect="Slow Leaf"),
    client.Lane("keep-alive", "/version", workers=4, pause=0.2),
    client.Lane("short", "/static/shop.css", workers=2),
)

Plays = Sequence[Sequence[str]]
"""Command lines of ansible-playbook, one after the other."""


class BenchError(Exception):
    """A contender failed, or did not do what the row says; the message holds Ansible's output."""


@dataclass
class Contender:
    """One way to deploy the shop: its host, the tree that it deploys from, and its playbooks by row."""

    name: str
    source: Path
    plays: dict[str, Plays]
    address: str = ""
    facts: dict[str, list[Measured]] = field(default_factory=dict)


@dataclass
class Measured:
    """One measurement. ``seconds`` and ``served`` (until the new version answered first) count from the start."""

    seconds: float
    tasks: int
    changed: list[str]
    served: float | None = None
    load: client.Summary | None = None


def set_version(source: Path, version: str) -> None:
    """Change one line of one file: the version that the shop serves."""
    (source / "VERSION").write_text(f"{version}\n")


def play(directory: Path, plays: Plays) -> tuple[float, int, list[str]]:
    """Run playbooks; return seconds, how many tasks ran, and the names of those that reported `changed`.

    :raises BenchError: with the output when one fails.
    """
    results = 0
    changed = []
    began = time.monotonic()
    for arguments in plays:
        command = ["ansible-playbook", "--inventory", str(directory / "inventory.json"), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"$ {shlex.join(command)}\n{done.stdout[-6000:]}{done.stderr[-3000:]}")
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        numbers = dict(part.split("=") for part in recap.split() if "=" in part)
        results += int(numbers["ok"])
        for block in re.split(r"^(?:TASK|RUNNING HANDLER) ", done.stdout, flags=re.MULTILINE):
            if "\nchanged: " in block:
                changed.append(block.partition("]")[0].removeprefix("["))
    return time.monotonic() - began, results, changed


def measure(directory: Path, contender: Contender, row: str, version: str | None = None) -> Measured:
    """Run one row, under load if a version is expected to serve afterwards.

    :raises BenchError: when it does not serve.
    """
    if version is None:
        return Measured(*play(directory, contender.plays[row]))
    load = client.Load(client.Target(contender.address, 443, tls=True, name=DOMAIN), LANES, rate=RATE)
    with load:
        if not load.answered.wait(20):
            raise BenchError(f"{contender.name} does not serve before {row}")
        time.sleep(1)
        began = time.time()
        seconds, tasks, changed = play(directory, contender.plays[row])
        time.sleep(3)
    seen = load.summary.versions.get(version)
    if seen is None:
        raise BenchError(f"{contender.name}: {row} did not put version {version} live: {load.summary}")
    served = load.summary.started + seen.first - began
    return Measured(seconds, tasks, changed, served, load.summary)


@contextmanager
def host(name: str, image: str, directory: Path, key: Path) -> Iterator[str]:
    """Start a fresh container with a login like that of a cloud VM; yield its address, remove it at the end."""
    testhosts.remove_host(name)
    try:
        testhosts.start_host(name, image)
        # The image's package lists are empty but new, and the apt module checks their age; on a VM they are old.
        login = ["docker", "exec", "--interactive", name, "sh", "-euc"]
        login.append(f"touch -d @0 /var/lib/apt/lists\n{demo.PREPARE_LOGIN}")
        subprocess.run(login, input=key.with_suffix(".pub").read_bytes(), check=True)
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = testhosts.output("docker", "inspect", "--format", template, name)
        host_key = testhosts.output("docker", "exec", name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
        with (directory / "known_hosts").open("a") as known:
            known.write(f"{address} {host_key}\n")
        yield address
    finally:
        testhosts.remove_host(name)


def write_inventory(directory: Path, contenders: Sequence[Contender], key: Path) -> None:
    """Write the inventory: the same login for all, the shop for each."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    ours, plain = contenders
    app = {
        "name": "shop",
        "source": {"path": str(ours.source)},
        "wsgi": "shop:create_app()",
        "domains": [DOMAIN],
        "secrets": {"SHOP_SECRET_KEY": "not a secret, a benchmark"},
        "health": {"path": "/healthz"},
        "static": [{"url": "/static", "path": "shop/static"}],
        "release_commands": ["python -m alembic upgrade head"],
    }
    known = f"-o UserKnownHostsFile={directory / 'known_hosts'} -o StrictHostKeyChecking=yes"
    inventory = {
        "all": {
            "vars": {
                "ansible_user": demo.USER,
                "ansible_ssh_private_key_file": str(key),
                "ansible_ssh_common_args": f"{known} -o IdentitiesOnly=yes",
            },
            "hosts": {
                "ours": {"ansible_host": ours.address, "python_ca_bundle": bundle, "flask_apps": [app]},
                "plain": {
                    "ansible_host": plain.address,
                    "plain_ca_bundle": bundle,
                    "plain_source": str(plain.source),
                    "plain_domain": DOMAIN,
                    "plain_secret_key": "not a secret, a benchmark",
                },
            },
        }
    }
    (directory / "inventory.json").write_text(json.dumps(inventory, indent=2))


def shop_tree(destination: Path) -> Path:
    """Copy the shop as git has it, without files from running it."""
    leftovers = shutil.ignore_patterns("__pycache__", "instance", ".*_cache", ".venv")
    shutil.copytree(ROOT / "examples" / "shop", destination, ignore=leftovers)
    return destination


ROWS = ("first provision", "nothing changed, site", "nothing changed, deploy", "code-only redeploy", "rollback")


def contenders(directory: Path, only: Sequence[str]) -> list[Contender]:
    """Return both contenders; the plain one has one playbook for everything."""
    limit = ("--limit", "ours")
    ours: dict[str, Plays] = {
        "first provision": [("playbooks/site.yml", *limit)],
        "nothing changed, site": [("playbooks/site.yml", *limit)],
        "nothing changed, deploy": [("playbooks/deploy.yml", *limit)],
        "code-only redeploy": [("playbooks/deploy.yml", *limit)],
        "rollback": [("playbooks/rollback.yml", *limit)],
    }
    plain: dict[str, Plays] = {row: [("bench/plain.yml",)] for row in ROWS}
    return [
        Contender("ours", shop_tree(directory / "ours"), ours if "ours" in only else {}),
        Contender("plain", shop_tree(directory / "plain"), plain if "plain" in only else {}),
    ]


def rounds(directory: Path, running: Sequence[Contender], count: int, say: Callable[[str], None]) -> None:
    """Measure every row ``count`` times, the contenders in turn; the first provision once.

    A round redeploys, runs twice with nothing to do, and rolls back; the plain way to roll back is to deploy the old code.
    """

    def measure_all(row: str, version: str | None = None, *, back: bool = False) -> None:
        for contender in running:
            if version is not None and (not back or contender.name == "plain"):
                set_version(contender.source, version)
            measured = measure(directory, contender, row, version)
            if row.startswith("nothing") and measured.changed:
                raise BenchError(
                    f"{contender.name}: {row}, but {measured.changed} tasks said that they changed something"
                )
            contender.facts.setdefault(row, []).append(measured)
            loaded = f"; served after {measured.served:.1f} s; {measured.load}" if measured.load else ""
            say(f"{row}, {contender.name}: {measured.seconds:.1f} s, {measured.tasks} tasks{loaded}")

    measure_all("first provision")
    version = "1.0.0"
    for number in range(1, count + 1):
        before, version = version, f"1.0.{number}"
        measure_all("code-only redeploy", version)
        measure_all("nothing changed, deploy")
        measure_all("nothing changed, site")
        measure_all("rollback", before, back=True)
        version = before


def table(running: Sequence[Contender]) -> str:
    """Render the medians, their ratio, and the counts of the load client as Markdown."""

    def median(contender: Contender, row: str) -> float:
        return statistics.median(measured.seconds for measured in contender.facts[row])

    def failed(contender: Contender, row: str) -> str:
        loads = [measured.load for measured in contender.facts[row] if measured.load]
        if not loads:
            return "-"
        sent = sum(load.requests for load in loads)
        return f"{sum(load.failed for load in loads)} of {sent}, {max(load.longest_wait for load in loads):.1f} s"

    def served(contender: Contender, row: str) -> str:
        times = [measured.served for measured in contender.facts[row] if measured.served is not None]
        return f"{statistics.median(times):.1f}" if times else "-"

    names = [contender.name for contender in running]
    heads = ["", *(f"{name}, s" for name in names), "ratio"]
    heads += [f"{name}: {what}" for what in ("tasks", "new version after, s", "failed, longest wait") for name in names]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for row in ROWS:
        seconds = [median(contender, row) for contender in running]
        ratio = f"1/{seconds[1] / seconds[0]:.1f}" if len(seconds) > 1 else "-"
        tasks = [str(contender.facts[row][-1].tasks) for contender in running]
        cells = [row, *(f"{value:.1f}" for value in seconds), ratio, *tasks]
        cells += [served(contender, row) for contender in running] + [failed(contender, row) for contender in running]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a contender failed or something is missing on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", choices=sorted(testhosts.SUITES), default="debian13")
    parser.add_argument("--only", choices=["ours", "plain"], action="append", help="leave the other one out")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "bench.json", help="where the raw numbers go")
    options = parser.parse_args(arguments)
    only = options.only or ["ours", "plain"]
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    busy = os.getloadavg()[0]
    try:
        testhosts.ensure_engine()
        testhosts.ensure_image(options.image)
        with tempfile.TemporaryDirectory(prefix="flaskops-bench-") as scratch:
            directory = Path(scratch)
            key = directory / "key"
            testhosts.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), what="ssh-keygen")
            both = contenders(directory, only)
            with (
                host("flaskops-bench-ours", options.image, directory, key) as both[0].address,
                host("flaskops-bench-plain", options.image, directory, key) as both[1].address,
            ):
                write_inventory(directory, both, key)
                running = [contender for contender in both if contender.name in only]
                rounds(directory, running, options.rounds, testhosts.say)
    except (BenchError, testhosts.ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    raw = {one.name: {row: [asdict(each) for each in many] for row, many in one.facts.items()} for one in running}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(raw, indent=1))
    print(
        f"\n{options.image}, {os.cpu_count()} CPUs, medians of {options.rounds} rounds, {RATE:.0f} requests/s,", end=" "
    )
    print(f"load of this machine before: {busy:.1f}\n")
    print(table(running))
    return 0


if __name__ == "__main__":
    sys.exit(main())
