# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A deploy of one app on this host from the verified release on: docs/architecture.md says the same in words."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy import (
    commands,
    housekeeping,
    switch,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host, Release, Request, Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import (
    DeployError,
    Failure,
    Where,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy.history import History
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts import PARTS
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import cause, hide, indented
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import read_environment
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import OUTPUT_LINES
from ansible_collections.flaskops.server.plugins.module_utils.host.front import leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import Claim


class Deploy:
    """The steps that follow the health check. Each is called with the run's claim on the app held.

    :param parts: what a release has beside its code; they are asked in this order.
    """

    def __init__(self, request: Request, host: Host, parts: Sequence[Part] = PARTS) -> None:
        self.request = request
        self.app = request.app
        self.host = host
        self.layout = host.layout
        self.parts = parts
        #: What a person should know even where all went well, sentences.
        self.notes: list[str] = []
        self.history = History(host, request, self.notes)

    def steps(self) -> dict[Step, Callable[[Claim], dict[str, Any]]]:
        """Return what it can do, by the names that the controller gives."""
        return {Step.RUN_COMMANDS: self.run_commands, Step.ACTIVATE: self.activate, Step.ABORT: self.abort}

    def step(self, step: Step, claim: Claim) -> dict[str, Any]:
        """Do a step; whatever it raises is for :meth:`fail`."""
        return self.steps()[step](claim)

    # -- the steps ---------------------------------------------------------------------------------------------------

    def run_commands(self, claim: Claim) -> dict[str, Any]:
        """Run the release commands in the verified release, and record that they ran: they change what all releases share.

        :raises DeployError: when one fails.
        """
        release = self._release(self._verified(claim))
        ran: list[str] = []
        try:
            for command in self.app["release_commands"]:
                ran += commands.shell(release, "release_commands", [command])
        finally:
            if ran:
                told = [hide(command, self._secrets(release.id)) for command in ran]
                self.history.add_or_note(claim, release.id, record.COMMANDS, commands=told)
        return {"changed": True, "release": release.id, "notes": self.notes, "msg": f"{len(ran)} release commands ran"}

    def activate(self, claim: Claim) -> dict[str, Any]:
        """Move the pointer to the verified release, drain and stop the old one, record, prune.

        :raises DeployError: when the release died meanwhile; then the old one serves.
        """
        verified = self._verified(claim)
        self._use_recorded_settings(verified, claim)
        release = self._release(verified)
        live = self.layout.live_id()
        old = release.other(live) if live and live != verified else None
        started = self.host.clock.now()
        for part in self.parts:
            part.switching(release)
        # Said first: the rename is done even where what follows it in there fails.
        claim.content["live"] = verified
        switch.make(self.host, verified, live)
        try:
            for part in self.parts:
                part.switched(release, old)
        except Exception:
            if old:
                switch.revert(self.host, old.id)
                claim.content["taken_back"] = True
            raise
        for part in self.parts:
            part.settled(release, old)
        seconds = round(self.host.clock.now() - float(claim.content["since"]), 1)
        try:
            self.history.add(claim, verified, record.LIVE, previous=live, seconds=seconds)
        except OSError:
            # The usual reason is a full disk, and old releases take up space.
            self._prune()
            self.history.add_or_note(claim, verified, record.LIVE, previous=live, seconds=seconds)
        self._prune()
        for part in self.parts:
            part.finished(release)
        claim.release_lock()
        return {
            "changed": True,
            "release": verified,
            "previous": live,
            "reachable": leads_to(self.layout),
            "notes": self.notes,
            "msg": f"{verified} is live{f', {old.id} was' if old else ''}",
            "seconds": round(self.host.clock.now() - started, 1),
        }

    def abort(self, claim: Claim) -> dict[str, Any]:
        """Stop what this run started and release the lock; the live release is not touched."""
        release = claim.content.get("release")
        live = self.layout.live_id()
        if release and release != live:
            self._abort(release, claim)
        claim.release_lock()
        return {
            "changed": bool(release and release != live),
            "release": release,
            "live": live,
            "msg": f"{release} was aborted",
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
            claim.release_lock()

    def _fail(self, claim: Claim, error: DeployError) -> str:
        # Without one in the claim nothing was begun, and the one asked for is no more than a word that somebody typed.
        release = claim.content.get("release")
        live = self.layout.live_id()
        # What fails after the switch (after_live) leaves a good release live.
        is_switched = bool(release) and claim.content.get("live") == release == live
        secrets = self._secrets(release, live)
        manifest = self.layout.manifest(release)
        journal, left = [], []
        # None of what follows may hide why the deploy failed; the next one cleans up.
        if release and error.step in (Where.START, Where.VERIFY, Where.LIVE):
            try:
                journal = self._journal(release, float(claim.content["since"]))
            except OSError as fault:
                left.append(f"Its journal could not be read: {fault}")
        try:
            if release and release != live:
                self._abort(release, claim)
            elif release and self.layout.staging(release).is_dir():
                shutil.rmtree(self.layout.staging(release))
        except Exception as fault:  # systemctl, the disk, an engine's client
            left.append(f"It could not be cleaned up: {fault}")
        try:
            if is_switched:
                self.history.complete(claim, live, note="what followed the switch failed")
            elif release:
                result = record.TAKEN_BACK if claim.content.get("taken_back") else record.FAILED
                reason = hide(error.what, secrets)
                self.history.add(claim, release, result, manifest=manifest, step=error.step, reason=reason)
        except OSError as fault:
            left.append(f"It could not be recorded in {self.layout.record}: {fault.strerror or fault}")
        failure = Failure(
            error=error,
            app=self.app["name"],
            host=self.request.host,
            release=release or self.request.release,
            live=live,
            version=record.version(self.layout.manifest(live).get("source", {})),
            is_up=self._is_up(),
            is_switched=is_switched,
            record=str(self.layout.record) if self.layout.record.exists() else "",
            journal=journal,
            notes=self.notes,
        )
        lines = [failure.message(), *left, *(self._report_failure(live) if live else [])]
        return hide("\n".join(lines), secrets)

    def _report_failure(self, live: str) -> list[str]:
        """Tell every part that the deploy failed; return what went wrong while doing so, as lines."""
        lines = []
        for part in reversed(self.parts):
            try:
                part.failed(self._release(live))
            except DeployError as error:
                lines += [f"Then release {live} {error.what}.", indented(error.said)]
            except Exception as fault:  # the message so far must be said all the same
                lines.append(f"Then release {live} could not be told of the failure: {fault}")
        return lines

    # -- a release ---------------------------------------------------------------------------------------------------

    def _release(self, release: str) -> Release:
        return Release(release, self.app, self.request, self.host, self.notes)

    def _units(self, release: Release) -> list[str]:
        return [unit for part in self.parts for unit in part.units(release)]

    def _abort(self, release: str, claim: Claim) -> None:
        housekeeping.abort(self.host, release, created=bool(claim.content.get("created")))
        for part in reversed(self.parts):
            part.aborted(self._release(release))

    def _prune(self) -> None:
        housekeeping.prune(self.host, self.app["keep_releases"])

    def _journal(self, release: str, since: float) -> list[str]:
        lines = self.host.systemd.journal(self.layout.unit(release), 200, since=since)
        return cause([line for line in lines if health.AGENT not in line], OUTPUT_LINES, self.request.noise)

    # -- questions -------------------------------------------------------------------------------------------------------

    def _secrets(self, *releases: str | None) -> set[str]:
        """Return the values that no message may hold: those of the inventory, and those that releases have."""
        values = set(self.request.secrets.values())
        for release in releases:
            # One that is damaged holds nothing that could be told.
            with contextlib.suppress(OSError, ValueError):
                values |= set(read_environment(self.layout.release(release or "-") / "secrets.env").values())
        return values

    def _use_recorded_settings(self, release: str, claim: Claim) -> None:
        """On a rollback take what is verified, and how, from the release: the inventory describes a later one."""
        if claim.content.get("action") == "rollback":
            manifest = self.layout.manifest(release)
            keys = ("wsgi", "server", *(key for part in self.parts for key in part.recorded))
            self.app = {**self.app, **{key: manifest[key] for key in keys if key in manifest}}

    def _verified(self, claim: Claim) -> str:
        release = claim.content.get("verified")
        if not release:
            raise DeployError(Where.LIVE, "was not verified by this run")
        return str(release)

    def _is_up(self) -> bool:
        live = self.layout.live_id()
        return live is not None and self.host.systemd.state(self.layout.unit(live)).active == "active"
