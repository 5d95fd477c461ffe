# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person reads of a deploy that failed: what happened, in the app's own words, what serves, what to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import indented

DEPLOY = "deploy again (playbook flaskops.server.deploy)"
#: Before the first release is live, nginx may lead nobody to the app.
FIRST = "run the playbook flaskops.server.site again, which sets up nginx too"
AFTERWARDS = "run the skipped steps by hand: the release stays live"


@dataclass
class Failure:
    """A deploy that failed, and how the host is now.

    :param app: the app's name.
    :param host: the host's name in the inventory.
    :param release: the release that it was about; None where nothing was begun.
    :param live: the live release; None where there is none.
    :param version: where the live release came from.
    :param is_up: whether the live release runs.
    :param is_switched: whether it failed after visitors had got the release.
    :param journal: the last words of the release's instance.
    :param record: the path of the record; empty where there is none.
    """

    error: DeployError
    app: str
    host: str
    release: str | None
    live: str | None
    version: str
    is_up: bool
    is_switched: bool
    record: str
    journal: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def message(self) -> str:
        """Return the message; secrets are still in it."""
        error, release, live = self.error, self.release, self.live
        if self.is_switched:
            state = "is live and serving" if self.is_up else "is live, but does not run"
            lines = [f"{self.app} on {self.host}: release {release} {state}: after the switch it {error.what}."]
        else:
            lines = [f"{self.app} on {self.host}: {f'release {release} ' if release else ''}{error.what}."]
        if error.said:
            lines += ["It said:", indented(error.said)]
        if self.journal:
            lines += ["The last of its journal:", indented(self.journal)]
        lines += [f"Note: {note}." for note in self.notes]
        again = DEPLOY if live else FIRST
        if not live:
            lines.append("Nothing is live yet.")
        elif self.is_switched:
            again = AFTERWARDS
        elif self.is_up:
            seen = "" if error.step is Where.LIVE or release in (live, None) else f" No visitor saw {release}."
            lines.append(f"Still serving: {live} ({self.version}).{seen}")
        else:
            lines.append(f"{live} is live, but does not run: visitors get an error (502).")
        there = f"; every deploy is in {self.record}" if self.record else ""
        lines.append(f"Next: {error.advice.format(again=again)}. It failed at the step {error.step}{there}")
        return "\n".join(lines)
