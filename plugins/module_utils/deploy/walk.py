# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A deploy of one app on this host, step by step: docs/architecture.md says the same in words."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy import (
    commands,
    housekeeping,
    switch,
    units,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host, Release, Request
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import (
    FORWARD,
    DeployError,
    Failure,
    Where,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy.history import History
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts import PARTS
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.deploy.steps import Step
from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import cause, hide, indented
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import read_environment
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import OUTPUT_LINES
from ansible_collections.flaskops.server.plugins.module_utils.host.front import leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import Claim


class Deploy:
    """The steps of a deploy of one app on this host. Each is called with the run's claim on the app held.

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

    def step(self, step: Step, claim: Claim) -> dict[str, Any]:
        """Do a step; whatever it raises is for :meth:`fail`."""
        steps = {
            Step.STAGE: self.stage,
            Step.VERIFY: self.verify,
            Step.RUN_COMMANDS: self.run_commands,
            Step.ACTIVATE: self.activate,
            Step.ABORT: self.abort,
        }
        return steps[step](claim)

    # -- the steps ---------------------------------------------------------------------------------------------------

    def predict(self) -> dict[str, Any]:
        """Say what :meth:`verify` would do, without doing anything.

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
            message = f"would deploy {wanted}, {self._reason(wanted, live)}"
        return {
            "changed": changed,
            "release": wanted,
            "live": live,
            "differs": self._changed_components(live) if changed else [],
            "msg": f"{self.app['name']}: {message}{self._damage_of(live) if live != wanted else ''}",
        }

    def stage(self, claim: Claim) -> dict[str, Any]:
        """Stage the release and go no further: what it runs in is where all other hosts get it from.

        :raises DeployError: when it cannot be staged; then nothing of it is left.
        """
        wanted = self._wanted()
        if self.layout.is_whole(wanted):
            claim.release_lock()
            return {"changed": False, "release": wanted, "msg": f"{wanted} is staged already"}
        if self.host.stage is None:
            return {"changed": False, "release": wanted, "source_needed": True}
        housekeeping.remove_leftovers(self.host, self._kept(self.layout.live_id()), self.request.drain_seconds)
        claim.content.update(release=wanted, created=True)
        claim.save()
        self.host.stage(self._release(wanted), self.parts)
        return {"changed": True, "release": wanted, "msg": f"{wanted} is staged"}

    def verify(self, claim: Claim) -> dict[str, Any]:
        """Stage the release where it is not there yet, start it beside the live one, and check its health.

        :raises DeployError: when it is refused; then everything that was started for it is gone.
        """
        live = self.layout.live_id()
        # First: where a rollback goes is read in it.
        self.history.complete(claim, live)
        wanted = self._wanted()
        housekeeping.remove_leftovers(
            self.host, self._kept(live, claim.content.get("verified")), self.request.drain_seconds
        )
        self._use_recorded_settings(wanted, claim)
        release = self._release(wanted)
        is_staged = self.layout.is_whole(wanted)
        if wanted == live and is_staged and self._is_up():
            units.install(release, self._units(release))
            claim.release_lock()
            return {
                "changed": False,
                "pending": False,
                "release": wanted,
                "live": live,
                "reachable": leads_to(self.layout),
                "notes": self.notes,
                "msg": f"{wanted} is live, nothing to do",
            }
        stage = self.host.stage
        if not is_staged and stage is None:
            # Its record of contents is there, its files are not: the controller could not see that from outside.
            return {"changed": False, "release": wanted, "live": live, "source_needed": True}
        reason = self._reason(wanted, live)
        was_staged = claim.content.get("release") == wanted and bool(claim.content.get("created"))
        claim.content.update(release=wanted, created=was_staged or not is_staged)
        claim.save()
        if live:
            for part in self.parts:
                part.begins(release.other(live))
        if stage and not is_staged:
            stage(release, self.parts)
            if wanted == live:
                # It was damaged: what still runs of it does so in directories that are gone.
                self.host.systemd.stop(*self._units(release))
        units.install(release, self._units(release))
        for part in self.parts:
            part.check(release)
        started = units.start(release, self._units(release))
        for part in self.parts:
            part.check_started(release)
        for part in self.parts:
            part.verify(release, started)
        claim.content["verified"] = wanted
        claim.save()
        return {
            "changed": True,
            "pending": True,
            "release": wanted,
            "live": live,
            "size": self.layout.manifest(wanted).get("size", ""),
            "notes": self.notes,
            "msg": f"{wanted} is verified, {reason}",
        }

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

    def _wanted(self) -> str:
        """Return the release to verify: the one asked for, or the previous one for a rollback.

        :raises DeployError: where there is none, or where a part forbids to go back there.
        """
        asked, is_rollback = self.request.release, not self.request.components
        staged = self.layout.staged_ids()
        if asked and (not is_rollback or asked in staged):
            if is_rollback and (damage := self.layout.missing(asked)):
                what = f"is damaged and cannot be rolled back to: {', '.join(damage)}"
                raise DeployError(Where.STAGE, what, advice="choose another release, or {again}")
        elif asked:
            what = f"is not on this host; releases here: {', '.join(staged) or 'none'}"
            raise DeployError(Where.STAGE, what, advice="choose a release that is on this host")
        else:
            entries = record.read(self.layout.record)
            asked = record.previous(entries, self.layout.live_id(), self.layout.usable_ids())
            if asked is None:
                what = "cannot be rolled back: no earlier good release is on this host"
                raise DeployError(Where.STAGE, what, advice=FORWARD)
        if is_rollback:
            for reason in filter(None, (part.refuses_rollback(self._release(asked)) for part in self.parts)):
                raise DeployError(Where.STAGE, f"cannot be rolled back to: {reason}", advice=FORWARD)
        return asked

    def _kept(self, *releases: str | None) -> set[str]:
        return {release for release in releases if release}

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

    def _changed_components(self, live: str | None) -> list[str]:
        return differences(self.request.components, self.layout.manifest(live).get("components", {}))

    def _reason(self, release: str, live: str | None) -> str:
        if release == live:
            damage = self.layout.missing(release)
            return f"it is live, but was damaged: {', '.join(damage)}" if damage else "it is live, but was not running"
        if live is None:
            return "the first release"
        if not self.request.components:
            return f"instead of {live}"
        return f"because of other {', '.join(self._changed_components(live)) or 'settings'} than {live}"

    def _is_up(self) -> bool:
        live = self.layout.live_id()
        return live is not None and self.host.systemd.state(self.layout.unit(live)).active == "active"

    def _damage_of(self, live: str | None) -> str:
        damage = self.layout.missing(live) if live else []
        return f" (the live one is damaged: {', '.join(damage)})" if damage else ""


def differences(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Return the words for what differs between the components of two releases, in a fixed order."""
    return [component for component in new if new[component] != old.get(component)]
