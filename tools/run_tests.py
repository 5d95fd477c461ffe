#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run what `make test` runs, two at a time, and count.

    tools/run_tests.py lint unit molecule          everything
    tools/run_tests.py molecule --scenario nginx   one scenario (may be given several times)
    tools/run_tests.py molecule --scenario nginx --step converge
                                                   one step of it, its output on the terminal, its hosts left running

Each part writes a log in .cache/logs; the end of it is shown where the part fails, and the others go on. The last line
says how many passed: a linter counts as one, a test as one, and a scenario as one beside the tests that it holds.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from testhosts import CLONE, ROOT, say

LOGS = ROOT / ".cache" / "logs"
WORKERS = 2
#: Molecule finds its shared configuration by itself only in a git clone.
MOLECULE = ("molecule", "--base-config", str(ROOT / ".config" / "molecule" / "config.yml"))
#: The scenario that runs once for each server.
EACH_SERVER = "servers"
#: What takes longest, longest first: started first, so that the lanes end together.
LONGEST = ("container", "servers", "untidy", "interrupted", "mod_wsgi")
#: The host that a server's run of it is limited to: each server's own scenario runs on both, and so does Gunicorn's run.
ONE_HOST = {"container": "debian12", "mod_wsgi": "debian13", "uwsgi": "debian13"}
#: What tools/collection.py checks; the longest first.
COLLECTION_CHECKS = ("sanity", "importer", "docs", "changelog")
#: How long one part may take, in seconds, before it counts as hanging.
TIMEOUT = 40 * 60
TAIL_LINES = 60
CLEANS_UP = "An error occurred during the test sequence action"

ANSI = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;.*?\x1b\\")


@dataclass(frozen=True)
class Part:
    """Something to run, with a log of its own.

    :param junit: where pytest writes its results, for a part whose tests are counted.
    :param counts: whether the part counts as one beside its tests.
    """

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    junit: Path | None = None
    counts: bool = True

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / (self.name.replace(" ", "-") + ".log")


@dataclass(frozen=True)
class Result:
    """What became of a part; `seconds` it took."""

    part: Part
    code: int
    seconds: float
    passed: int
    failed: int


def lint_parts() -> list[Part]:
    """The linters, the fast ones first."""
    commands = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "yamllint": ["yamllint", "--strict", "."],
        "mypy plugins": ["mypy", "-p", "ansible_collections.flaskops.server.plugins"],
        "mypy tools": ["mypy", "tools"],
        "ansible-lint": ["ansible-lint"],
        **{f"collection {check}": [sys.executable, "tools/collection.py", check] for check in COLLECTION_CHECKS},
    }
    return [Part(f"lint {name}", command) for name, command in commands.items()]


def unit_parts() -> list[Part]:
    """The unit and template tests, and the example's own, with just what it requires installed."""
    junit, shop = LOGS / "unit.xml", LOGS / "shop.xml"
    alone = ["uv", "run", "--quiet", "--no-project", "--isolated", "--directory", "examples/shop"]
    needs = ["--with-requirements", "requirements.txt", "--with", "pytest"]
    return [
        Part("unit", ["pytest", f"--junitxml={junit}"], junit=junit, counts=False),
        Part(
            "examples shop",
            [*alone, *needs, "python", "-m", "pytest", f"--junitxml={shop}"],
            env={"UV_SYSTEM_CERTS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            junit=shop,
            counts=False,
        ),
    ]


def scenario_names() -> list[str]:
    """The scenarios that there are."""
    return sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


def servers() -> list[str]:
    """The servers that there are, of which $SERVER chooses one."""
    chosen = os.environ.get("SERVER")
    return [chosen] if chosen else sorted(path.parts[-3] for path in ROOT.glob("roles/*/templates/service.conf.j2"))


def scenario_env(name: str, variant: str = "") -> dict[str, str]:
    """What keeps a scenario apart from others, and from those of another clone."""
    run = f"{name}-{variant}" if variant else name
    return {
        "CLONE": CLONE,
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / "molecule" / run),
        "RUN": run,
        **({"SERVER": variant} if variant else {}),
    }


def one_host(name: str, variant: str) -> list[str]:
    """The options that limit a run to one host; none where it runs on all."""
    host = ONE_HOST.get(variant)
    return ["--platform-name", f"{host}-{CLONE}{variant}-{name}"] if host else []


def scenario_parts(names: list[str]) -> list[Part]:
    """The scenarios of these names; the one that is about every server, once for each."""
    names = sorted(names, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    runs = [(name, variant) for name in names for variant in (servers() if name == EACH_SERVER else [""])]
    return [
        Part(
            f"molecule {name} {variant}".rstrip(),
            [*MOLECULE, "test", "--scenario-name", name, "--no-command-borders", *one_host(name, variant)],
            env=scenario_env(name, variant),
            junit=LOGS / f"{scenario_env(name, variant)['RUN']}.xml",
        )
        for name, variant in runs
    ]


class Runner:
    """Runs parts and remembers which are running, so that an interrupt ends them all."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, part: Part) -> Result:
        """Run one part to its end."""
        if part.junit is not None:
            part.junit.unlink(missing_ok=True)
        started = time.monotonic()
        plain = {"NO_COLOR": "1", "PY_COLORS": "0", "ANSIBLE_NOCOLOR": "1", "COLUMNS": "120"}
        with part.log.open("wb") as log:
            with self._lock:
                if self._stopped:
                    return Result(part, 1, 0, 0, 1)
                process = subprocess.Popen(
                    part.command,
                    cwd=ROOT,
                    env={**os.environ, **plain, **part.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                code = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self._end(process)
                code = process.wait()
                log.write(f"\nEnded after {TIMEOUT} s.\n".encode())
            with self._lock:
                self._running.discard(process)
        passed, failed = counted(part, code)
        return Result(part, code, time.monotonic() - started, passed, failed)

    def stop(self) -> None:
        """End what is running and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def counted(part: Part, code: int) -> tuple[int, int]:
    """How many passed and failed in a part that ended with `code`; a part that failed never counts no failure."""
    passed = failed = 0
    if part.junit is not None and part.junit.exists():
        for suite in ElementTree.parse(part.junit).getroot().iter("testsuite"):
            bad = int(suite.get("errors", 0)) + int(suite.get("failures", 0))
            failed += bad
            passed += int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0))
    if part.counts or (code != 0 and failed == 0):
        passed, failed = (passed + 1, failed) if code == 0 else (passed, failed + 1)
    return passed, failed


def log_lines(part: Part) -> list[str]:
    """The part's output without colours."""
    return ANSI.sub("", part.log.read_text(errors="replace")).splitlines()


def own_words(part: Part) -> list[str]:
    """The lines in which pytest and Molecule sum their results up."""
    found = [line.strip("= ") for line in log_lines(part) if re.fullmatch(r"=+ .*\bin [\d.]+s.* =+", line)]
    recap = [" ".join(line.split()) for line in log_lines(part) if "actions=" in line]
    return found[-1:] + recap[-1:]


def report(result: Result) -> None:
    """Print one line on a part, what it says itself, and the end of its log where it failed."""
    verdict = "ok    " if result.code == 0 else "FAILED"
    minutes, seconds = divmod(round(result.seconds), 60)
    words = "; ".join(own_words(result.part))
    say(f"{verdict} {result.part.name:<24} {minutes:>2}:{seconds:02}  {words}".rstrip())
    if result.code != 0:
        lines = log_lines(result.part)
        # What went wrong is said before Molecule cleans up.
        end = next((number for number, line in enumerate(lines) if CLEANS_UP in line), len(lines))
        say("\n".join(f"    | {line}" for line in lines[max(0, end - TAIL_LINES) : end]))
        say(f"    (all of it: {result.part.log.relative_to(ROOT)})")


def run_parts(parts: list[Part]) -> bool:
    """Run the parts and print the count; True where everything passed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    passed = failed = 0
    runner = Runner()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for future in as_completed([pool.submit(runner.run, part) for part in parts]):
                result = future.result()
                report(result)
                passed += result.passed
                failed += result.failed
        except KeyboardInterrupt:
            runner.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    say(f"\n{len(parts)} parts in {minutes} min {seconds} s; logs in {LOGS.relative_to(ROOT)}")
    say(f"{passed} passed, {failed} failed")
    return failed == 0


def run_step(names: list[str], step: str) -> int:
    """Run one Molecule step of scenarios on the terminal; the exit code of the first that fails."""
    for name in names:
        command = [*MOLECULE, step, "--scenario-name", name, "--no-command-borders"]
        env = {**os.environ, **scenario_env(name, servers()[0] if name == EACH_SERVER else "")}
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        if code != 0:
            return code
    return 0


def main() -> int:
    """Run the kinds of parts that are asked for; 0 where everything passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="+", choices=["lint", "unit", "molecule"])
    parser.add_argument("--scenario", action="append", choices=scenario_names(), help="only this scenario")
    parser.add_argument("--step", help="only this step of Molecule, such as converge or verify")
    given = parser.parse_args()

    scenarios = given.scenario or scenario_names()
    parts = []
    if "lint" in given.kinds:
        parts += lint_parts()
    if "unit" in given.kinds:
        parts += unit_parts()
    if "molecule" in given.kinds:
        LOGS.mkdir(parents=True, exist_ok=True)
        testhosts = [sys.executable, str(ROOT / "tools" / "testhosts.py")]
        images, python = Part("images", [*testhosts, "images"]), Part("base image", [*testhosts, "python"])
        if given.step:
            code = subprocess.run(images.command, check=False).returncode
            return code or run_step(scenarios, given.step)
        # Without hosts the scenarios fail one by one and say so; everything else runs all the same.
        for part in (images, python):
            made = Runner().run(part)
            if made.code != 0:
                report(made)
        parts += scenario_parts(scenarios)
    try:
        return 0 if run_parts(parts) else 1
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
