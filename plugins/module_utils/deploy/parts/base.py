# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A part of a release: one thing that a release has beside its code, and when in a deploy it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release


class Part:
    """A part says what it has to do at each moment of a deploy, in the order of these methods. By default that is nothing.

    The walk asks all parts in the order of the list, and backwards where a release is given up. What a method raises
    refuses the release: :class:`DeployError` with words of its own, anything else as a fault.
    """

    #: Keys of the app that the manifest keeps: on a rollback they are the release's and not the inventory's.
    recorded: tuple[str, ...] = ()

    def begins(self, live: Release) -> None:
        """A further release is about to be made; this one is live."""

    def stage(self, release: Release, staging: Path) -> dict[str, Any]:
        """Add to a release that is made; return what its manifest, release.json, says of it.

        :param staging: where the release is put together.
        """
        return {}

    def units(self, release: Release) -> list[str]:
        """Return the units that are verified, started, listed and stopped with a release."""
        return []

    def check(self, release: Release) -> None:
        """Check a staged release, before it starts."""

    def check_started(self, release: Release) -> None:
        """Check a release while it starts: what takes as long as that."""

    def verify(self, release: Release, started: float) -> None:
        """Wait until what was started is healthy.

        :param started: when, on the monotonic clock.
        """

    def switching(self, release: Release) -> None:
        """Visitors are about to get a release that was verified a while ago."""

    def switched(self, new: Release, old: Release | None) -> None:
        """Visitors get the new release, and the old one still runs; what is raised here takes the new one back."""

    def settled(self, new: Release, old: Release | None) -> None:
        """The old release is no longer needed."""

    def finished(self, release: Release) -> None:
        """The release is live and recorded; it stays live whatever is raised here."""

    def aborted(self, release: Release) -> None:
        """A release was given up; its units are stopped."""

    def failed(self, live: Release) -> None:
        """A deploy failed, and this is what serves."""

    def refuses_rollback(self, to: Release) -> str:
        """Return why nobody may go back to a release, as the end of a sentence about it; nothing where one may."""
        return ""

    def status(self, release: Release) -> dict[str, Any]:
        """Return what ``status`` is to say of a release because of this part: it is kept in the manifest.

        How its units are is asked of systemd, whatever part they belong to.
        """
        return {}
