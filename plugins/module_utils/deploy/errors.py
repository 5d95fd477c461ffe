# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a deploy is refused: where, in which words, and what a person does next."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import traceback
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.errors import StagingError, ToolError
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import SystemdError

#: The errno values of a full disk and of a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)

#: What a person does next; `{again}` is what brings a release live on this host.
MEND = "correct it, then {again}"
FORWARD = "correct what is live and deploy it; there is nothing to go back to"
SPACE = "free some space on that disk, then {again}"
REPORT = "report it with these lines; once it is fixed, {again}"


class Where(StrEnum):
    """Where in a deploy it went wrong, as messages and the record say it."""

    STAGE = "stage"
    CHECK = "check"
    START = "start"
    PROOF = "proof"
    COMMAND = "command"
    LIVE = "live"
    HOST = "host"


class DeployError(Exception):
    """A release was refused.

    :param step: where.
    :param what: what happened, a sentence's end after "release X of app Y".
    :param said: the app's own words, lines.
    :param advice: what a person does next.
    """

    def __init__(self, step: Where, what: str, said: list[str] | None = None, advice: str = MEND) -> None:
        super().__init__(what)
        self.step = step
        self.what = what
        self.said = said or []
        self.advice = advice


@contextlib.contextmanager
def as_staging_error(home: Path) -> Iterator[None]:
    """Say what went wrong while a release is staged in the words of a deploy.

    :param home: the app's directory, for what there is to say about its disk.
    """
    try:
        yield
    except StagingError as error:
        advice = SPACE if str(error).startswith("the disk is full") else MEND
        raise DeployError(Where.STAGE, error.what, error.lines, advice) from error
    except OSError as error:
        if error.errno not in FULL:
            raise DeployError(Where.STAGE, f"cannot be staged: {error}") from error
        free = shutil.disk_usage(home).free // 2**20
        what = f"cannot be staged: the disk is full: {free} MB are free where {home} lies"
        raise DeployError(Where.STAGE, what, advice=SPACE) from error


def as_deploy_error(caught: Exception) -> DeployError:
    """Return what a step raised as a refusal, so that everything takes the same way: clean up, record, say so."""
    if isinstance(caught, DeployError):
        return caught
    if isinstance(caught, (SystemdError, OSError, ToolError, subprocess.SubprocessError)):
        advice = SPACE if isinstance(caught, OSError) and caught.errno in FULL else MEND
        return DeployError(Where.HOST, f"failed because of a problem on the host: {caught}", advice=advice)
    # A fault of ours: where it came from is for whoever reports it.
    said = traceback.format_exception(caught)[-1:] + traceback.format_tb(caught.__traceback__)[-3:]
    lines = [line for block in said for line in block.rstrip().splitlines()]
    return DeployError(Where.HOST, f"hit a bug in flaskops.server ({type(caught).__name__})", lines, REPORT)
