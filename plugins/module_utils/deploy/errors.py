# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a deploy is refused: the error, its step, and the message that people read."""

from __future__ import annotations

import errno
import subprocess
import traceback
from dataclasses import dataclass, field
from enum import StrEnum

from ansible_collections.flaskops.server.plugins.module_utils.host.causes import indented
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import ToolError
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import SystemdError

#: The errno values of a full disk and of a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)

DEPLOY = "run: ansible-playbook -i INVENTORY flaskops.server.deploy"
#: Before the first release is live, nginx may not be set up for the app yet.
SETUP = "run: ansible-playbook -i INVENTORY flaskops.server.site"
AFTERWARDS = "run the skipped steps by hand: the release stays live"

#: What a person does next; `{again}` is the command that deploys again.
FIX = "fix it, then {again}"
FORWARD = "fix the app, then {again}"
SPACE = "free some space on that disk, then {again}"
REPORT = "report it with these lines; once it is fixed, {again}"


class Where(StrEnum):
    """Where in a deploy it went wrong, as messages and the record say it."""

    STAGE = "stage"
    CHECK = "check"
    START = "start"
    VERIFY = "verify"
    COMMAND = "command"
    LIVE = "live"
    HOST = "host"


class DeployError(Exception):
    """A release was refused. Its message is the end of a sentence about the release.

    :param step: where.
    :param what: what happened: the end of a sentence that begins with "release ID".
    :param said: lines of the app's own output.
    :param advice: what a person does next.
    """

    def __init__(self, step: Where, what: str, said: list[str] | None = None, advice: str = FIX) -> None:
        super().__init__(what)
        self.step = step
        self.what = what
        self.said = said or []
        self.advice = advice


def as_deploy_error(caught: Exception) -> DeployError:
    """Return what a step raised as a :class:`DeployError`, so that all failures are cleaned up, recorded and reported alike."""
    if isinstance(caught, DeployError):
        return caught
    if isinstance(caught, (SystemdError, OSError, ToolError, subprocess.SubprocessError)):
        advice = SPACE if isinstance(caught, OSError) and caught.errno in FULL else FIX
        return DeployError(Where.HOST, f"failed because of a problem on the host: {caught}", advice=advice)
    # A bug of ours: the last frames help whoever it is reported to.
    said = traceback.format_exception(caught)[-1:] + traceback.format_tb(caught.__traceback__)[-3:]
    lines = [line for block in said for line in block.rstrip().splitlines()]
    return DeployError(Where.HOST, f"hit a bug in flaskops.server ({type(caught).__name__})", lines, REPORT)


@dataclass
class Failure:
    """A failed deploy and the state of the host after it.

    :param app: the app's name.
    :param host: the host's name in the inventory.
    :param release: the release that it was about; None where nothing was begun.
    :param live: the live release; None where there is none.
    :param version: where the live release came from.
    :param is_up: whether the live release runs.
    :param is_switched: whether it failed after the release went live.
    :param journal: the last lines of the release's journal.
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
            state = "is live and serving" if self.is_up else "is live but not running"
            lines = [f"{self.app} on {self.host}: release {release} {state}: after the switch it {error.what}."]
        else:
            lines = [f"{self.app} on {self.host}: {f'release {release} ' if release else ''}{error.what}."]
        if error.said:
            lines += ["Output:", indented(error.said)]
        if self.journal:
            lines += ["Last lines of its journal:", indented(self.journal)]
        lines += [f"Note: {note}." for note in self.notes]
        again = DEPLOY if live else SETUP
        if not live:
            lines.append("Nothing is live yet.")
        elif self.is_switched:
            again = AFTERWARDS
        elif self.is_up:
            seen = "" if error.step is Where.LIVE or release in (live, None) else f" No visitor saw {release}."
            lines.append(f"Still serving: {live} ({self.version}).{seen}")
        else:
            lines.append(f"{live} is live but not running: visitors get an error (502).")
        log = f"; every deploy is in {self.record}" if self.record else ""
        lines.append(f"Next: {error.advice.format(again=again)}. It failed at the step {error.step}{log}")
        return "\n".join(lines)
