# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine on a host: stage a release, prove it, move the pointer, drain the old one, keep the record."""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import health, links, record, shared, sizing
from ansible_collections.flaskops.server.plugins.module_utils.host.archive import ArchiveError
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import cause, hide, indented
from ansible_collections.flaskops.server.plugins.module_utils.host.files import replace_link, write_file
from ansible_collections.flaskops.server.plugins.module_utils.host.front import leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import Claim
from ansible_collections.flaskops.server.plugins.module_utils.host.process import children
from ansible_collections.flaskops.server.plugins.module_utils.host.status import version
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import (
    NOT_LOADED,
    Systemd,
    SystemdError,
    UnitState,
    connections,
    environment_file,
    read_environment,
)
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import requirements, virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.images import runtimes_of
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import Bundle, Runtime, RuntimeFault

#: Healthy answers in a row that prove a release, and seconds between them: one answer can be the last.
PROOF_ANSWERS = 3
PROOF_PAUSE = 0.25
#: A wrong status this often in a row fails the proof; 503 means "not yet" and is waited for.
PROOF_REFUSALS = 3
NOT_YET = 503
#: Seconds between two looks at an instance that does not answer yet.
POLL = 0.05
#: Seconds after the switch in which a request may still be on its way to the old instance, and a new one that dies at
#: once is noticed.
SETTLE = 0.5
#: The errno values of a full disk and of a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Lines of the journal in a message.
JOURNAL_LINES = 12

#: What a person does next; `{again}` is what brings a release live on this host.
MEND = "correct it, then {again}"
FORWARD = "correct what is live and deploy it; there is nothing to go back to"
SPACE = "free some space on that disk, then {again}"
REPORT = "report it with these lines; once it is fixed, {again}"
DEPLOY = "deploy again (playbook flaskops.server.deploy)"
#: The page behind a redirect can need what a migration makes.
BEFORE_COMMANDS = (
    "correct it, then {again}. The release_commands run after this check: if the page needs them, run them in"
    " hooks.after_stage, or have the redirect itself count (health: {{status: 302}})"
)
AFTERWARDS = "run the skipped steps by hand: the release stays live"
#: Before the first release is live, nginx may lead nobody to the app.
FIRST = "run the playbook flaskops.server.site again, which sets up nginx too"

IMPORT_CHECK = """\
import importlib, sys
module, _, name = sys.argv[1].partition(":")
target = importlib.import_module(module)
for part in name.partition("(")[0].split("."):
    target = getattr(target, part)
if not callable(target):
    raise TypeError(f"{sys.argv[1]} is not callable")
"""


class DeployError(Exception):
    """A release was refused.

    :param step: ``stage``, ``check``, ``start``, ``proof``, ``command``, ``live`` or ``host``.
    :param what: what happened, a sentence's end after "release X of app Y".
    :param said: the app's own words, lines.
    :param advice: what a person does next.
    """

    def __init__(self, step: str, what: str, said: list[str] | None = None, advice: str = MEND) -> None:
        super().__init__(what)
        self.step = step
        self.what = what
        self.said = said or []
        self.advice = advice


@dataclass
class Request:
    """What a step of a deploy is given by the controller.

    :param app: the app's checked spec, without secrets.
    :param secrets: names and values.
    :param release: the release's id; None where the host's record decides (``live``, rollback).
    :param parts: the components of the id.
    :param files: rendered files: ``serve/...`` go in the release, ``units/...`` to systemd.
    :param runtime: what the release's code runs in: ``virtualenv`` or ``image``.
    :param server_packages: requirements that the server adds.
    :param noise: what servers say of themselves that only means that something else went wrong.
    :param drain_seconds: how long an instance may take to finish what is in flight.
    :param artifact: the packed source on the host, None where the release is staged already.
    :param held_back: whether the controller has the packed source and did not send it.
    :param source: facts of the source, for the record.
    :param by: who deploys.
    :param host: the host's name in the inventory.
    """

    app: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict)
    release: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    runtime: str = "virtualenv"
    server_packages: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    drain_seconds: int = 30
    artifact: str | None = None
    held_back: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    host: str = ""


class Engine:
    """The steps of a deploy of one app on this host. Each is called with the run's claim on the app held."""

    def __init__(
        self, request: Request, layout: Layout, systemd: Systemd, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.request = request
        self.app = request.app
        self.layout = layout
        self.systemd = systemd
        self.sleep = sleep
        self.runtimes = runtimes_of(layout)
        #: What a person should know even where all went well, sentences.
        self.notes: list[str] = []

    # -- the steps ---------------------------------------------------------------------------------------------------

    def predict(self) -> dict[str, Any]:
        """Say what :meth:`prove` would do, without doing anything.

        :raises DeployError: where there is nothing to go back to.
        """
        live = self.layout.live_id()
        wanted = self._wanted()
        damage = self.layout.missing(wanted) if wanted == live else []
        changed = wanted != live or bool(damage) or not self._is_up()
        if not changed:
            message = f"{wanted} is live, nothing to do"
        elif damage:
            message = f"would rebuild {wanted}: it is live, but damaged: {', '.join(damage)}"
        elif wanted == live:
            message = f"would start {wanted}: it is live, but is not running"
        else:
            message = f"would deploy {wanted}, {self._why(wanted, live)}"
        return {
            "changed": changed,
            "release": wanted,
            "live": live,
            "differs": self._differs(live) if changed else [],
            "msg": f"{self.app['name']}: {message}{self._damage_of(live) if live != wanted else ''}",
        }

    def build(self, claim: Claim) -> dict[str, Any]:
        """Stage the release and go no further: what it runs in is where all other hosts get it from.

        :raises DeployError: when it cannot be staged; then nothing of it is left.
        """
        release = self._wanted()
        if self._is_whole(release):
            claim.drop()
            return {"changed": False, "release": release, "msg": f"{release} is built already"}
        if self.request.held_back:
            return {"changed": False, "release": release, "source_needed": True}
        self._tidy(keep={item for item in (self.layout.live_id(),) if item})
        claim.content.update(release=release, created=True)
        claim.save()
        self._stage(release)
        return {"changed": True, "release": release, "msg": f"{release} is built"}

    def prove(self, claim: Claim) -> dict[str, Any]:
        """Stage the release where it is not there yet, start it beside the live one, and prove it healthy.

        :raises DeployError: when it is refused; then everything that was started for it is gone.
        """
        live = self.layout.live_id()
        # First: where a rollback goes is read in it.
        self._complete_record(live, claim)
        release = self._wanted()
        self._tidy(keep={item for item in (live, claim.content.get("proved")) if item})
        self._as_it_was(release, claim)
        is_staged = self._is_whole(release)
        if release == live and is_staged and self._is_up():
            self._units(release)
            claim.drop()
            return {
                "changed": False,
                "pending": False,
                "release": release,
                "live": live,
                "reachable": leads_to(self.layout),
                "notes": self.notes,
                "msg": f"{release} is live, nothing to do",
            }
        if not is_staged and self.request.held_back:
            # Its record of contents is there, its files are not: the controller could not see that from outside.
            return {"changed": False, "release": release, "live": live, "source_needed": True}
        why = self._why(release, live)
        built = claim.content.get("release") == release and bool(claim.content.get("created"))
        claim.content.update(release=release, created=built or not is_staged)
        claim.save()
        # In a damaged release no command can run, and this deploy may be the one that replaces it.
        if live and self.app["hooks"]["before_stage"] and self._is_whole(live):
            self._commands("before_stage", live, self.app["hooks"]["before_stage"])
        if not is_staged:
            self._stage(release)
            if release == live:
                # It was damaged: what still runs of it does so in directories that are gone.
                self.systemd.stop(self.layout.unit(release))
        self._units(release)
        self._checks(release)
        deadline = self._start(release)
        # While its server starts: that takes as long.
        self._import(release)
        self._prove(release, deadline)
        claim.content["proved"] = release
        claim.save()
        facts = self.layout.facts(release)
        return {
            "changed": True,
            "pending": True,
            "release": release,
            "live": live,
            "size": facts.get("size", ""),
            "notes": self.notes,
            "msg": f"{release} is proved, {why}",
        }

    def command(self, claim: Claim) -> dict[str, Any]:
        """Run the release commands in the proved release.

        :raises DeployError: when one fails.
        """
        release = self._proved(claim)
        self._commands("release_commands", release, self.app["release_commands"])
        return {"changed": True, "release": release, "msg": f"{len(self.app['release_commands'])} release commands ran"}

    def go_live(self, claim: Claim) -> dict[str, Any]:
        """Move the pointer to the proved release, drain and stop the old one, record, prune.

        :raises DeployError: when the release died meanwhile; then the old one serves.
        """
        release = self._proved(claim)
        self._as_it_was(release, claim)
        old = self.layout.live_id()
        started = time.time()
        self._commands("before_live", release, self.app["hooks"]["before_live"])
        self._ask_once(release)
        if old and old != release:
            replace_link(self.layout.release(release) / "bridge", Path("..") / old)
        # Before the switch: whatever happens from here on, a boot starts what the pointer says.
        self.systemd.enable(self.layout.boot_unit, self.layout.unit_dir)
        # Said first: the rename is done even where what follows it in there fails.
        claim.content["live"] = release
        replace_link(self.layout.live, Path("releases") / release)
        self.systemd.call("start", "--no-block", self.layout.boot_unit)
        if old and old != release:
            self._drain(old, watched=release, fallback=old)
            # Nobody waits for it: it has no connection left, and its server takes its time to end.
            self.systemd.call("stop", "--no-block", self.layout.unit(old), allowed=(NOT_LOADED,))
        seconds = round(time.time() - float(claim.content["since"]), 1)
        try:
            self._remember(release, record.LIVE, claim, previous=old, seconds=seconds)
        except OSError as error:
            # The usual reason is a full disk, and old releases take up space.
            self._prune()
            self._remember_or_say(error, release, record.LIVE, claim, previous=old, seconds=seconds)
        self._prune()
        self._commands("after_live", release, self.app["hooks"]["after_live"])
        claim.drop()
        return {
            "changed": True,
            "release": release,
            "previous": old,
            "reachable": leads_to(self.layout),
            "notes": self.notes,
            "msg": f"{release} is live{f', {old} was' if old and old != release else ''}",
            "seconds": round(time.time() - started, 1),
        }

    def withdraw(self, claim: Claim) -> dict[str, Any]:
        """Stop what this run proved and give the app free; the live release is not touched."""
        release = claim.content.get("release")
        live = self.layout.live_id()
        if release and release != live:
            self._discard(release, created=bool(claim.content.get("created")))
        claim.drop()
        return {
            "changed": bool(release and release != live),
            "release": release,
            "live": live,
            "msg": f"{release} was withdrawn",
        }

    def fail(self, claim: Claim, error: DeployError) -> str:
        """Clean up after a refused release and record it; the claim ends here whatever happens.

        :returns: the message: what happened, in the app's own words, what still serves, what to do.
        """
        try:
            return self._fail(claim, error)
        except Exception as fault:
            message = f"{self.app['name']} on {self.request.host}: {error.what}.\nCleaning up failed too: {fault}"
            return hide(message, self.request.secrets.values())
        finally:
            claim.drop()

    def _fail(self, claim: Claim, error: DeployError) -> str:
        # Without one in the claim nothing was begun, and the one asked for is no more than a word that somebody typed.
        release = claim.content.get("release")
        live = self.layout.live_id()
        # What fails after the switch (after_live) leaves a good release live.
        is_switched = bool(release) and claim.content.get("live") == release == live
        secrets = self._secrets(release, live)
        facts = self.layout.facts(release)
        journal, left = [], []
        # None of what follows may hide why the deploy failed; the next one cleans up.
        if release and error.step in ("start", "proof", "live"):
            try:
                lines = self.systemd.journal(self.layout.unit(release), 200, since=float(claim.content["since"]))
                journal = [line for line in lines if health.AGENT not in line]
            except OSError as fault:
                left.append(f"Its journal could not be read: {fault}")
        try:
            if release and release != live:
                self._discard(release, created=bool(claim.content.get("created")))
            elif release and self.layout.staging(release).is_dir():
                shutil.rmtree(self.layout.staging(release))
        except Exception as fault:  # systemctl, the disk, an engine's client
            left.append(f"It could not be cleaned up: {fault}")
        try:
            if is_switched:
                self._complete_record(live, claim, note="what followed the switch failed")
            elif release:
                reason = hide(error.what, secrets)
                self._remember(release, record.FAILED, claim, facts=facts, step=error.step, reason=reason)
        except OSError as fault:
            left.append(f"It could not be recorded in {self.layout.record}: {fault.strerror or fault}")
        message = self._message(release or self.request.release, live, error, journal, is_switched)
        message = "\n".join([message, *left])
        if live and self.app["hooks"]["on_failure"]:
            try:
                self._commands("on_failure", live, self.app["hooks"]["on_failure"])
            except DeployError as hook_error:
                message += f"\nThe hook on_failure failed too: {hook_error.what}\n{indented(hook_error.said)}"
            except Exception as fault:  # the message so far must be said all the same
                message += f"\nThe hook on_failure could not be run in {live}: {fault}"
        return hide(message, secrets)

    # -- staging -----------------------------------------------------------------------------------------------------

    def _stage(self, release: str) -> None:
        if not self.request.parts:
            raise DeployError("stage", "is not on this host and no source was sent")
        staging = self.layout.staging(release)
        group = self._group()
        with _as_deploy_error("stage", self.layout.home):
            for directory, mode, owner in (
                (self.layout.releases, 0o755, 0),
                (self.layout.venvs, 0o755, 0),
                (staging, 0o750, group),
            ):
                # Said, not left to the umask: the app has to get through.
                directory.mkdir(exist_ok=directory != staging)
                os.chown(directory, 0, owner)
                directory.chmod(mode)
            for name, content in self.request.files.items():
                if name.startswith("serve/"):
                    write_file(staging / name, content, 0o640, group)
            artifact = Path(self.request.artifact) if self.request.artifact else None
            bundle = Bundle(self.app, release, staging, artifact, self.request.server_packages)
            runtime = self.runtimes[self.request.runtime]
            built = runtime.build(bundle)
            self._share(staging / "app")
            _own(staging / "app", group)
            # Or a link of the repository would have nginx hand out whatever the app puts where it leads to.
            links.give_to_app(staging / "app", self.layout.shared, pwd.getpwnam(self.app["name"]).pw_uid)
            _own(staging / "serve", group)
            size = sizing.size(self.app["workers"], self.app["threads"], sizing.capacity(self.app["limits"]))
            variables = {**runtime.environment(bundle), **self._environment(release, size), **self.app["env"]}
            write_file(staging / "env", environment_file(variables), 0o640, group)
            write_file(staging / "secrets.env", environment_file(self.request.secrets), 0o600)
            os.symlink(self.layout.runtime_socket(release), staging / "http.sock")
            facts = {
                "app": self.app["name"],
                "release": release,
                "source": self.request.source,
                "components": self.request.parts,
                **built,
                "wsgi": self.app["wsgi"],
                "health": self.app["health"],
                "server": self.app["server"],
                "runtime": self.request.runtime,
                "drain_seconds": self.request.drain_seconds,
                "size": size.reason,
                "files": self.layout.count(staging),
                "staged": _now(),
                "by": self.request.by,
            }
            write_file(staging / "release.json", json.dumps(facts, indent=2, sort_keys=True) + "\n", 0o640)
            # What the pointer will lead to has to be on disk before it: a power cut must not leave an empty release live.
            subprocess.run(["sync", "--file-system", str(staging)], check=True)
            # What is left of one that was damaged.
            self._remove_directory(self.layout.release(release))
            os.rename(staging, self.layout.release(release))

    def _share(self, app: Path) -> None:
        """Replace the shared directories of the code by links to those that persist."""
        user = pwd.getpwnam(self.app["name"])
        live = self.layout.live_id()
        outermost = shared.outermost(self.app["shared_paths"])
        # One within another is there for the app, and is no link of its own.
        for path in self.app["shared_paths"]:
            if not shared.make(self.layout.shared, path, user.pw_uid, user.pw_gid):
                self.notes.append(
                    f"{self.layout.shared / path} is not a directory, or lies behind a link, and was left as it is: the app"
                    " cannot keep files there. Look at it (ls -l), remove the link and deploy again"
                )
        for path in outermost:
            first = live is None or not shared.is_shared(self.layout.release(live) / "app", path)
            kept = shared.link(app, self.layout.shared, path, user.pw_uid, user.pw_gid, first)
            if kept.names:
                self.notes.append(kept.sentence(self.layout.shared))

    def _environment(self, release: str, size: sizing.Size) -> dict[str, str]:
        return {
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "FLASK_APP": self.app["wsgi"] or "",
            "FLASK_RELEASE": release,
            "WEB_CONCURRENCY": str(size.workers),
            "WEB_THREADS": str(size.threads),
        }

    def _units(self, release: str) -> None:
        """Bring systemd's files for the app and this release up to date, and have systemd check them.

        :raises DeployError: when systemd finds a fault in them.
        """
        changed = False
        for name, content in self.request.files.items():
            if name.startswith("units/"):
                changed |= write_file(self.layout.unit_dir / name.removeprefix("units/"), content, 0o644)
        drop_in, is_new, rewritten = self.layout.drop_in(release), False, False
        for source, target in self.layout.release_units(release).items():
            is_new |= not target.exists()
            rewritten |= write_file(target, source.read_text(), 0o644)
        if not rewritten and not changed:
            return
        # systemd sees a new file of a unit that it has not loaded yet by itself; a reload takes 0.1 to 0.4 s.
        if changed or not is_new or not self.systemd.has_loaded(self.layout.unit(release), drop_in):
            self.systemd.reload()
        wrong = self.systemd.verify(self.layout.unit(release))
        if wrong:
            raise DeployError("start", "has a unit that systemd refuses", wrong[-JOURNAL_LINES:])

    # -- the proof ---------------------------------------------------------------------------------------------------

    def _checks(self, release: str) -> None:
        self._commands("after_stage", release, self.app["hooks"]["after_stage"])
        if self.app["checks"]["tests"]:
            command = self.app["checks"]["tests"]
            self._run("check", release, ["/bin/sh", "-c", command], f"failed its tests ({command})", timeout=None)

    def _import(self, release: str) -> None:
        """Import what the server imports: its own words for what goes wrong there are the clearest."""
        if self.app["checks"]["import"] and self.app["wsgi"]:
            self._run(
                "check",
                release,
                # The first one on the path is the release's own.
                ["/bin/sh", "-c", 'exec python -c "$@"', "sh", IMPORT_CHECK, self.app["wsgi"]],
                f"cannot be imported as {self.app['wsgi']}",
            )

    def _commands(self, kind: str, release: str, commands: list[str]) -> None:
        for command in commands:
            self._run(
                "command", release, ["/bin/sh", "-c", command], f"failed a command of {kind} ({command})", timeout=None
            )

    def _run(self, step: str, release: str, command: list[str], failed: str, timeout: float | None = 0) -> None:
        """Run a command as the app runs: its user, its environment, its code.

        :param timeout: seconds; 0 for the health timeout, None for none.
        """
        home, runtime = self.layout.release(release), self._runtime(release)
        # Its own secrets: a rollback can be to a release that has others than the inventory now.
        variables = {**read_environment(home / "env"), **read_environment(home / "secrets.env")}
        arguments, options = runtime.command(release, command, variables)
        process = subprocess.Popen(
            arguments,
            **options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            # What is begun in the live world (a migration) comes to its end, even when this step is killed.
            preexec_fn=None if step == "command" else virtualenv.die_with_parent,
        )
        limit = self.app["health"]["timeout"] if timeout == 0 else timeout
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            runtime.ended(release)
            raise DeployError(
                step, f"{failed}: no end after {limit} s", cause(output.splitlines(), noise=self.request.noise)
            ) from None
        if process.returncode != 0:
            raise DeployError(step, failed, cause(output.splitlines(), noise=self.request.noise))

    def _start(self, release: str) -> float:
        """Start a release's instance and return by when, on the monotonic clock, it must have proved healthy."""
        try:
            self.systemd.start(self.layout.unit(release))
        except SystemdError as error:
            raise DeployError("start", "could not be started", [str(error)]) from error
        return time.monotonic() + float(self.app["health"]["timeout"])

    def _prove(self, release: str, deadline: float) -> None:
        unit = self.layout.unit(release)
        answers, refusals, last = 0, 0, "nothing listens on its socket"
        proven: frozenset[int] = frozenset()
        while answers < PROOF_ANSWERS:
            workers = self._workers(release, self._alive(unit))
            if time.monotonic() > deadline:
                raise DeployError("proof", f"did not prove healthy within {self.app['health']['timeout']} s: {last}")
            try:
                answer = self._ask(release, max(1.0, deadline - time.monotonic()))
            except health.NoAnswerError as error:
                if answers:
                    times = "once" if answers == 1 else f"{answers} times"
                    raise DeployError("proof", f"answered {times} and then {_short(error)}") from error
                last = str(error)
                self.sleep(POLL)
                continue
            if health.is_healthy(answer.status, self.app["health"]["status"]):
                answers += 1
                refusals = 0
                # Those who were there before it answered: the one who did may be gone already.
                proven |= workers
            else:
                last = f"it answered {answer.status}"
                refusals += answer.status != NOT_YET
                if answers or refusals >= PROOF_REFUSALS:
                    raise self._wrong_status(answer)
            if answers < PROOF_ANSWERS:
                self.sleep(PROOF_PAUSE)
        if proven - self._workers(release, self._alive(unit)):
            raise DeployError("proof", "answered, and then a worker of it died")

    def _alive(self, unit: str) -> UnitState:
        state = self.systemd.state(unit)
        if state.is_dead:
            # systemd says "success" until it knows better, and again when it has begun the next try.
            raise DeployError("proof", f"started and then ended{_how(state.result)}")
        return state

    def _workers(self, release: str, state: UnitState) -> frozenset[int]:
        return children(self._runtime(release).main_pid(release, state.main_pid))

    def _ask(self, release: str, timeout: float) -> health.Answer:
        path, status = self.app["health"]["path"], self.app["health"]["status"]
        socket = self.layout.runtime_socket(release)
        try:
            return health.ask(socket, path, health.headers(self.app), timeout, status, self.app["domains"])
        except health.RedirectError as error:
            # It would not end when asked again either.
            raise DeployError("proof", _short(error)) from error

    def _ask_once(self, release: str) -> None:
        """Make sure that a release proved a while ago still is."""
        self._alive(self.layout.unit(release))
        try:
            answer = self._ask(release, 10)
        except health.NoAnswerError as error:
            raise DeployError("proof", f"was proved, and then {_short(error)}") from error
        if not health.is_healthy(answer.status, self.app["health"]["status"]):
            raise self._wrong_status(answer)

    def _wrong_status(self, answer: health.Answer) -> DeployError:
        wanted = health.expected(self.app["health"]["status"])
        what = f"answered {answer.said(self.app['health']['path'])}, expected {wanted}"
        is_behind = bool(answer.via and self.app["release_commands"]) and self.app["health"]["status"] is None
        return DeployError(
            "proof", what, answer.body.splitlines()[:JOURNAL_LINES], BEFORE_COMMANDS if is_behind else MEND
        )

    def _is_up(self) -> bool:
        live = self.layout.live_id()
        return live is not None and self.systemd.state(self.layout.unit(live)).active == "active"

    def _damage_of(self, live: str | None) -> str:
        damage = self.layout.missing(live) if live else []
        return f" (the live one is damaged: {', '.join(damage)})" if damage else ""

    def _is_whole(self, release: str) -> bool:
        """Say whether a release is on the host with all that it was made of."""
        return release in self.layout.staged_ids() and not self.layout.missing(release)

    # -- the switch --------------------------------------------------------------------------------------------------

    def _drain(self, old: str, watched: str | None = None, fallback: str | None = None) -> None:
        """Wait until nobody uses an instance any more, for as long as its server would wait at the most.

        :param watched: the new live release; where it dies meanwhile, the pointer goes back to ``fallback``.
        :raises DeployError: when it went back.
        """
        path = str(self.layout.runtime_socket(old))
        # Its own: the release that follows can have another server.
        patience = self.layout.facts(old).get("drain_seconds", self.request.drain_seconds)
        deadline = time.monotonic() + SETTLE + float(patience)
        self.sleep(SETTLE)
        while True:
            if watched and fallback and self.systemd.state(self.layout.unit(watched)).is_dead:
                replace_link(self.layout.live, Path("releases") / fallback)
                raise DeployError("live", "died right after it went live, and was taken back")
            if not connections(path, Path("/proc/net/unix").read_text()) or time.monotonic() > deadline:
                return
            self.sleep(POLL * 2)

    # -- keeping house -----------------------------------------------------------------------------------------------

    def _tidy(self, keep: set[str]) -> None:
        """Remove what a dead run left: half-made releases, and instances that nobody should reach."""
        if not self.layout.home.is_dir():
            raise DeployError(
                "stage",
                f"cannot be staged: {self.layout.home} is missing; run the playbook flaskops.server.site (or the role app) first",
            )
        stray = [instance for instance in self.systemd.instances(self.app["name"]) if instance not in keep]
        # Of a run that died between the switch and its end, visitors may be on the old release still.
        visited = {
            entry.get("release") for entry in record.read(self.layout.record) if entry.get("result") == record.LIVE
        }
        for instance in stray:
            if instance in visited:
                self._drain(instance)
                self.systemd.stop(self.layout.unit(instance))
        self.systemd.end(*(self.layout.unit(instance) for instance in stray if instance not in visited))
        complete = set(self.layout.staged_ids())
        for entry in self.layout.releases.iterdir() if self.layout.releases.is_dir() else ():
            if entry.name not in complete | keep:
                shutil.rmtree(entry)
        for entry in self.layout.home.glob(".*.new"):
            entry.unlink()
        virtualenv.tidy(self.layout.venvs)

    def _complete_record(self, live: str | None, claim: Claim, note: str = "recorded by a later run") -> None:
        """Write the line that a run owes which ended between the switch and its record."""
        history = record.history(record.read(self.layout.record))
        if live and history[-1:] != [live]:
            # One that was live before was gone back to: what came after it is not where a rollback goes.
            action = "rollback" if live in history else "deploy"
            try:
                self._remember(live, record.LIVE, claim, action=action, note=note)
            except OSError as error:
                self._remember_or_say(error, live, record.LIVE, claim, action=action, note=note)

    def _discard(self, release: str, created: bool) -> None:
        """Stop an instance; remove the release where this run made it."""
        self.systemd.end(self.layout.unit(release))
        if created:
            self._remove([release])

    def _remove(self, releases: list[str]) -> None:
        for release in releases:
            for path in self.layout.installed_units(release):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in (self.layout.release(release), self.layout.staging(release)):
                self._remove_directory(path)
        # What the live release uses is used, even where its files are damaged.
        used = {*self.layout.staged_ids(), *filter(None, [self.layout.live_id()])}
        for runtime in self.runtimes.values():
            runtime.prune(sorted(used))

    @staticmethod
    def _remove_directory(path: Path) -> None:
        """Remove a release in one step for everybody who looks; a dead run's rest is taken away by the next one."""
        if path.is_dir():
            gone = path.with_name(f".removing-{path.name.lstrip('.')}")
            path.rename(gone)
            shutil.rmtree(gone)

    def _prune(self) -> None:
        entries = record.read(self.layout.record)
        self._remove(
            record.to_prune(entries, self.layout.live_id(), self.layout.staged_ids(), self.app["keep_releases"])
        )

    def _remember_or_say(self, error: OSError, release: str, result: str, claim: Claim, **more: Any) -> None:
        """Try once more to write a line that could not be written; without it the live release is what it is."""
        try:
            self._remember(release, result, claim, **more)
        except OSError:
            self.notes.append(
                f"{self.layout.record} could not be written ({error.strerror or error}), so the record lacks this: the"
                " next run adds it. Free some space on that disk"
            )

    def _remember(
        self, release: str, result: str, claim: Claim, facts: dict[str, Any] | None = None, **more: Any
    ) -> None:
        facts = facts or self.layout.facts(release)
        entry = {
            "time": _now(),
            "app": self.app["name"],
            "action": claim.content.get("action", "deploy"),
            "release": release,
            "result": result,
            "source": facts.get("source") or self.request.source,
            "by": self.request.by,
            **more,
        }
        record.append(self.layout.record, entry)

    # -- knowing -----------------------------------------------------------------------------------------------------

    def _wanted(self) -> str:
        """Return the release to prove: the one given, or the previous one for a rollback.

        :raises DeployError: where there is none.
        """
        staged = self.layout.staged_ids()
        if self.request.release and (self.request.parts or self.request.release in staged):
            damage = [] if self.request.parts else self.layout.missing(self.request.release)
            if damage:
                what = f"is damaged and cannot be rolled back to: {', '.join(damage)}"
                raise DeployError("stage", what, advice="choose another one, or deploy what the inventory says")
            return self.request.release
        entries = record.read(self.layout.record)
        if self.request.release:
            there = ", ".join(staged) or "none"
            raise DeployError("stage", f"is not on this host; releases here: {there}", advice="choose one that is here")
        found = record.previous(entries, self.layout.live_id(), self.layout.usable_ids())
        if found is None:
            raise DeployError("stage", "cannot be rolled back: no earlier good release is on this host", advice=FORWARD)
        return found

    def _secrets(self, *releases: str | None) -> set[str]:
        """Return the values that no message may hold: those of the inventory, and those that releases have."""
        values = set(self.request.secrets.values())
        for release in releases:
            # One that is damaged holds nothing that could be told.
            with contextlib.suppress(OSError, ValueError):
                values |= set(read_environment(self.layout.release(release or "-") / "secrets.env").values())
        return values

    def _as_it_was(self, release: str, claim: Claim) -> None:
        """On a rollback take what is proved, and how, from the release: the inventory describes a later one."""
        if claim.content.get("action") == "rollback":
            facts = self.layout.facts(release)
            self.app = {**self.app, **{key: facts[key] for key in ("wsgi", "health", "server") if key in facts}}

    def _proved(self, claim: Claim) -> str:
        release = claim.content.get("proved")
        if not release:
            raise DeployError("live", "was not proved by this run")
        return str(release)

    def _differs(self, live: str | None) -> list[str]:
        return differences(self.request.parts, self.layout.facts(live).get("components", {}))

    def _why(self, release: str, live: str | None) -> str:
        if release == live:
            damage = self.layout.missing(release)
            return f"it is live, but was damaged: {', '.join(damage)}" if damage else "it is live, but was not running"
        if live is None:
            return "the first release"
        if not self.request.parts:
            return f"instead of {live}"
        return f"because of other {', '.join(self._differs(live)) or 'settings'} than {live}"

    def _runtime(self, release: str) -> Runtime:
        """Return what a staged release runs in: a rollback, or a hook, can be to one of another server."""
        return self.runtimes[self.layout.runtime(release)]

    def _group(self) -> int:
        try:
            return grp.getgrnam(self.app["name"]).gr_gid
        except KeyError:
            raise DeployError(
                "stage",
                f"cannot be staged: the user {self.app['name']} is missing; run the playbook flaskops.server.site first",
            ) from None

    def _message(
        self, release: str | None, live: str | None, error: DeployError, journal: list[str], is_switched: bool
    ) -> str:
        subject = f"{self.app['name']} on {self.request.host}: "
        if is_switched:
            state = "is live and serving" if self._is_up() else "is live, but does not run"
            lines = [f"{subject}release {release} {state}: after the switch it {error.what}."]
        else:
            lines = [f"{subject}{f'release {release} ' if release else ''}{error.what}."]
        if error.said:
            lines += ["It said:", indented(error.said)]
        if journal:
            lines += ["The last of its journal:", indented(cause(journal, JOURNAL_LINES, self.request.noise))]
        lines += [f"Note: {note}." for note in self.notes]
        again = DEPLOY if live else FIRST
        if not live:
            lines.append("Nothing is live yet.")
        elif is_switched:
            again = AFTERWARDS
        elif self._is_up():
            seen = "" if error.step == "live" or release in (live, None) else f" No visitor saw {release}."
            lines.append(f"Still serving: {live} ({version(self.layout.facts(live).get('source', {}))}).{seen}")
        else:
            lines.append(f"{live} is live, but does not run: visitors get an error (502).")
        there = f"; every deploy is in {self.layout.record}" if self.layout.record.exists() else ""
        lines.append(f"Next: {error.advice.format(again=again)}. It failed at the step {error.step}{there}")
        return "\n".join(lines)


def _own(tree: Path, group: int) -> None:
    """Give a tree to root, readable for the app's group, writable for nobody else."""
    for _, directories, names, place in os.fwalk(tree):
        os.chown(".", 0, group, dir_fd=place)
        os.chmod(".", 0o750, dir_fd=place)
        for name in (*directories, *names):
            mode = os.lstat(name, dir_fd=place).st_mode
            if not stat.S_ISDIR(mode):
                os.chown(name, 0, group, dir_fd=place, follow_symlinks=False)
            if stat.S_ISREG(mode):
                os.chmod(name, 0o750 if mode & 0o100 else 0o640, dir_fd=place)


@contextlib.contextmanager
def _as_deploy_error(step: str, home: Path) -> Iterator[None]:
    """Say what went wrong in a step in the words of a deploy.

    :param home: the app's directory, for what there is to say about its disk.
    """
    try:
        yield
    except (ArchiveError, requirements.RequirementsError, shared.SharedError) as error:
        raise DeployError(step, "cannot be staged", str(error).splitlines()) from error
    except RuntimeFault as error:
        raise DeployError(step, f"cannot be staged: {error}", error.output.splitlines()[-JOURNAL_LINES:]) from error
    except virtualenv.VirtualenvError as error:
        advice = SPACE if str(error).startswith("the disk is full") else MEND
        said = error.output.splitlines()[-JOURNAL_LINES:]
        raise DeployError(step, f"cannot be installed: {error}", said, advice) from error
    except OSError as error:
        if error.errno not in FULL:
            raise DeployError(step, f"cannot be staged: {error}") from error
        free = shutil.disk_usage(home).free // 2**20
        what = f"cannot be staged: the disk is full: {free} MB are free where {home} lies"
        raise DeployError(step, what, advice=SPACE) from error


def as_deploy_error(caught: Exception) -> DeployError:
    """Return what a step raised as a refusal, so that everything takes the same way: clean up, record, say so."""
    if isinstance(caught, DeployError):
        return caught
    if isinstance(caught, (SystemdError, OSError, RuntimeFault, subprocess.SubprocessError)):
        advice = SPACE if isinstance(caught, OSError) and caught.errno in FULL else MEND
        return DeployError("host", f"failed because of a problem on the host: {caught}", advice=advice)
    # A fault of ours: where it came from is for whoever reports it.
    said = traceback.format_exception(caught)[-1:] + traceback.format_tb(caught.__traceback__)[-3:]
    lines = [line for block in said for line in block.rstrip().splitlines()]
    return DeployError("host", f"hit a bug in flaskops.server ({type(caught).__name__})", lines, REPORT)


def differences(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Return the words for what differs between the components of two releases, in a fixed order."""
    return [part for part in new if new[part] != old.get(part)]


def _short(error: Exception) -> str:
    return str(error).removeprefix("it ")


def _how(result: str) -> str:
    return f" ({result})" if result not in ("", "success") else ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
