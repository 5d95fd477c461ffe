# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory instead of a host, with a systemd, accounts, a clock and a runtime that do what a test says."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Accounts, Clock, Request
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host as Collaborators
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import as_deploy_error
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts import PARTS
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.deploy.staging import stager
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from ansible_collections.flaskops.server.plugins.module_utils.host.archive import unpack
from ansible_collections.flaskops.server.plugins.module_utils.host.health import Answer, NoAnswerError
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import claim
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import SystemdError, UnitState
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import Virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv_build import VirtualenvBuilder
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one

SECRET = "hunter2-hunter2"
ACTIVE = UnitState("active", 0, 100, "success", None, "")
FAILED = UnitState("failed", 0, 0, "exit-code", None, "")
OK = Answer(200, "ok")


def _fail(error: Exception) -> NoReturn:
    """Raise what a test put there."""
    raise error


class FakeSystemd(Systemd):
    """Units start and run; a test may give states to show instead, and a journal."""

    def __init__(self) -> None:
        self.running: dict[str, UnitState] = {}
        self.asked: list[str] = []
        self.log: list[str] = []
        self.wrong: list[str] = []
        self.starts_as = ACTIVE
        self.refuses = ""

    def call(self, *arguments: str, allowed: tuple[int, ...] = ()) -> str:
        words = [word for word in arguments if not word.startswith("-")]
        self.asked.append(" ".join(words))
        if self.refuses and self.refuses in self.asked[-1]:
            raise SystemdError(f"systemctl {self.asked[-1]}: no")
        if words[0] == "start" and "@" in words[1]:
            self.running[words[1]] = self.starts_as
        if words[0] == "stop":
            for unit in words[1:]:
                self.running.pop(unit, None)
        return ""

    def state(self, unit: str) -> UnitState:
        return self.running.get(unit, UnitState("inactive", 0, 0, "", None, ""))

    def releases(self, name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for unit in self.running:
            found.setdefault(unit.partition("@")[2].rpartition(".")[0], []).append(unit)
        return found

    def journal(self, unit: str, lines: int, since: float = 0) -> list[str]:
        return self.log

    def verify(self, unit: str) -> list[str]:
        return self.wrong


class FakeRuntime(Virtualenv, VirtualenvBuilder):
    """A virtualenv that takes no time to make, and commands that need no root."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.refuses: Exception | None = None

    def build(self, bundle: Bundle) -> dict[str, Any]:
        assert bundle.artifact
        unpack(bundle.artifact, bundle.staging / "app")
        if self.refuses:
            _fail(self.refuses)
        venv = self.layout.venvs / "v"
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        for package in ("flask", "gunicorn"):
            (venv / "lib/python3/site-packages" / package).mkdir(parents=True, exist_ok=True)
        (venv / "flaskops.json").write_text('{"entries": 3}')
        (venv / "bin" / "python").unlink(missing_ok=True)
        (venv / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (venv / "bin" / "python").chmod(0o755)
        os.symlink("../../venvs/v", bundle.staging / "venv")
        return {"venv": "v", "locked": ["flask==3"]}

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        return command, {"cwd": self.layout.release(release) / "app", "env": dict(variables), "umask": 0o007}


class FakeAccounts(Accounts):
    """Everybody is who runs the tests."""

    def ids(self, name: str) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def give(self, path: str | Path, uid: int, gid: int, place: int | None = None) -> None:
        pass


class FakeClock(Clock):
    """A clock that does not wait; each look at it may take a while."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.ticks: Iterator[float] | None = None

    def monotonic(self) -> float:
        return next(self.ticks) if self.ticks else super().monotonic()

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.on_sleep()


class Host:
    """A host for one app, ``shop``: what is on it, and the steps of a deploy of it."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout("shop", root)
        self.layout.shared.mkdir(parents=True)
        (root / "run").mkdir()
        self.systemd = FakeSystemd()
        self.artifact = root / "artifact.tar"
        source = root / "source"
        (source / "instance").mkdir(parents=True)
        (source / "instance/from-git").write_text("x")
        (source / "shop.py").write_text("def app(environ, start): ...\n")
        with tarfile.open(self.artifact, "w") as tar:
            tar.add(source, ".")
        self.answers: list[Answer | Exception | str] = []
        self.asked: list[tuple[Any, ...]] = []
        self.workers: Callable[[], set[int]] = lambda: {101, 102}
        self.connections: Callable[[str], int] = lambda _unused: 0
        self.clock = FakeClock()
        self.parts: Sequence[Part] = PARTS
        #: Whether what makes a release was sent along.
        self.has_source = True
        self.runtime = FakeRuntime(self.layout)

    def ask(self, *asked: Any) -> Answer:
        """Give the next answer that a test put there, the last one again and again; a string is none."""
        self.asked.append(asked)
        answer = (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]) if self.answers else OK
        if isinstance(answer, Exception):
            _fail(answer)
        if isinstance(answer, str):
            raise NoAnswerError(answer)
        return answer

    def walk(self, release: str | None, app: dict[str, Any] | None = None, **request: Any) -> FullDeploy:
        given = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app", "secrets": {"KEY": SECRET}, **(app or {})}
        spec = resolve_one(given, "app")
        secrets = spec.pop("secrets")
        request = {
            "components": {"code": f"code of {release}", "env": "same"},
            "files": {
                "serve/service.conf": f"[Service]\nEnvironment=R={release}\n",
                "units/shop@.service": "[Unit]\n",
            },
            "artifact": str(self.artifact),
            "source": {"kind": "git", "version": f"v-{release}"},
            "by": "ann@desk",
            "host": "web1",
            "drain_seconds": 0,
            **request,
        }

        collaborators = Collaborators(
            layout=self.layout,
            systemd=self.systemd,
            runtimes={"virtualenv": self.runtime},
            stage=stager({"virtualenv": self.runtime}) if self.has_source else None,
            accounts=FakeAccounts(),
            clock=self.clock,
            ask=self.ask,
            children=lambda _unused: frozenset(self.workers()),
            connections=lambda path: int(self.connections(path)),
            sync=lambda _unused: None,
        )
        return FullDeploy(Request(app=spec, secrets=secrets, release=release, **request), collaborators, self.parts)

    def step(self, walk: FullDeploy, *names: str, **carried: Any) -> dict[str, Any]:
        """Do steps of one run, each with the claim, as the module does."""
        result: dict[str, Any] = {}
        for name in names:
            with claim(self.layout.lock, {"token": "mine"}) as held:
                held.content.update(carried)
                try:
                    result = getattr(walk, name)(held)
                except Exception as caught:
                    error = as_deploy_error(caught)
                    raise Refused(walk.fail(held, error), error.step) from caught
        return result

    def deploy(self, release: str | None, app: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
        return self.step(self.walk(release, app, **request), "verify", "activate")

    def rollback(self, release: str | None = None, *steps: str) -> dict[str, Any]:
        walk = self.walk(release, components={}, files={}, artifact=None, source={})
        return self.step(walk, *(steps or ("verify", "activate")), action="rollback")

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(line["action"], line["release"], line["result"]) for line in record.read(self.layout.record)]

    @property
    def running(self) -> set[str]:
        return set(self.systemd.releases("shop"))


class Refused(Exception):  # noqa: N818
    """A step was refused, cleaned up after, and this is its message."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step


NO_CHECKS: dict[str, Any] = {"checks": {"import": False}}
