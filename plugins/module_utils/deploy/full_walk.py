# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A deploy from its beginning: staging and verifying a release. A host receives it only for these steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy import units
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import FORWARD, DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.deploy.leftovers import remove_leftovers
from ansible_collections.flaskops.server.plugins.module_utils.deploy.walk import Deploy
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from ansible_collections.flaskops.server.plugins.module_utils.host.front import leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import Claim


class FullDeploy(Deploy):
    """All steps of a deploy."""

    def steps(self) -> dict[Step, Callable[[Claim], dict[str, Any]]]:
        return {Step.STAGE: self.stage, Step.VERIFY: self.verify, **super().steps()}

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
        remove_leftovers(self.host, self._kept(self.layout.live_id()), self.request.drain_seconds)
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
        remove_leftovers(self.host, self._kept(live, claim.content.get("verified")), self.request.drain_seconds)
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

    def _changed_components(self, live: str | None) -> list[str]:
        return changed(self.request.components, self.layout.manifest(live).get("components", {}))

    def _reason(self, release: str, live: str | None) -> str:
        if release == live:
            damage = self.layout.missing(release)
            return f"it is live, but was damaged: {', '.join(damage)}" if damage else "it is live, but was not running"
        if live is None:
            return "the first release"
        if not self.request.components:
            return f"instead of {live}"
        return f"because of other {', '.join(self._changed_components(live)) or 'settings'} than {live}"

    def _damage_of(self, live: str | None) -> str:
        damage = self.layout.missing(live) if live else []
        return f" (the live one is damaged: {', '.join(damage)})" if damage else ""


def changed(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Return the words for what differs between the components of two releases, in a fixed order."""
    return [component for component in new if new[component] != old.get(component)]
