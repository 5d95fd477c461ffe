# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a walk is given: a step, what the controller says, and what of the host it reaches down to."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import health
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.process import children
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import Runtime

#: States of /proc/net/unix (include/uapi/linux/net.h): SS_CONNECTING, which is a connection that the server has not
#: accepted yet, and SS_CONNECTED.
_IN_USE = ("02", "03")


class Step(Enum):
    """A step that the controller asks for: the ``state`` of the module ``release``, and what the walk calls it."""

    STAGE = "stage"
    VERIFY = "verify"
    RUN_COMMANDS = "run_commands"
    ACTIVATE = "activate"
    ABORT = "abort"

    @property
    def takes_source(self) -> bool:
        """Whether it may need the packed source; nothing of it outlives a run that is gone, so that it may be killed."""
        return self in (Step.STAGE, Step.VERIFY)


@dataclass
class Request:
    """What a step of a deploy is given by the controller.

    :param app: the app's checked spec, without secrets.
    :param secrets: names and values.
    :param release: the release's id; None where the host's record decides (``live``, rollback).
    :param components: what the id is made of, each with its checksum.
    :param files: rendered files: ``serve/...`` go in the release, ``units/...`` to systemd.
    :param runtime: what the release's code runs in: ``virtualenv`` or ``image``.
    :param server_packages: requirements that the server adds.
    :param noise: what servers say of themselves that only means that something else went wrong.
    :param drain_seconds: how long an instance may take to finish open requests.
    :param artifact: the packed source on the host, None where the release is staged already.
    :param source: facts of the source, for the record.
    :param by: who deploys.
    :param host: the host's name in the inventory.
    """

    app: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict)
    release: str | None = None
    components: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    runtime: str = "virtualenv"
    server_packages: list[str] = field(default_factory=list)
    noise: Sequence[str] = ()
    drain_seconds: int = 30
    artifact: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    host: str = ""


class Accounts:
    """The host's accounts, and giving files to them."""

    def ids(self, name: str) -> tuple[int, int]:
        """Return the numbers of a user and of its group.

        :raises KeyError: where there is no such user.
        """
        user = pwd.getpwnam(name)
        return user.pw_uid, user.pw_gid

    def give(self, path: str | Path, uid: int, gid: int, place: int | None = None) -> None:
        """Give a file to a user and a group; no link is followed.

        :param place: a descriptor of the directory that the path starts in.
        """
        os.chown(path, uid, gid, dir_fd=place, follow_symlinks=False)


class Clock:
    """Time: seconds since the epoch, seconds that never go back, and waiting."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def stamp(self) -> str:
        """Return the time as the record has it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now()))


def sync(path: Path) -> None:
    """Have everything of a file system on disk."""
    subprocess.run(["sync", "--file-system", str(path)], check=True)


def connections_of(socket: str, table: Path = Path("/proc/net/unix")) -> int:
    """Return how many connections a listening unix socket has now.

    :param table: see proc_net(5): a connection carries the listener's path, accepted or not.
    """
    count = 0
    for line in table.read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == socket and fields[5] in _IN_USE:
            count += 1
    return count


@dataclass
class Host:
    """What a walk reaches down to. Everything in it can be another thing in a test.

    :param runtimes: by name.
    :param stage: what makes a release, see :func:`staging.stage`; None where it was not sent along.
    :param ask: the health question, see :func:`health.ask`.
    :param children: the processes that a process has started.
    :param connections: how many connections a unix socket has.
    :param sync: has a file system on disk.
    """

    layout: Layout
    systemd: Systemd
    runtimes: Mapping[str, Runtime]
    stage: Callable[[Release, Sequence[Any]], None] | None = None
    accounts: Accounts = field(default_factory=Accounts)
    clock: Clock = field(default_factory=Clock)
    ask: Callable[..., health.Answer] = health.ask
    children: Callable[[int], frozenset[int]] = children
    connections: Callable[[str], int] = connections_of
    sync: Callable[[Path], None] = sync

    def runtime(self, release: str) -> Runtime:
        """Return what a staged release runs in: a rollback, or a hook, can be to one of another server."""
        return self.runtimes[self.layout.runtime(release)]


@dataclass
class Release:
    """A release on its way.

    :param id: its id.
    :param app: its settings: the inventory's, or on a rollback what the release says of itself.
    :param request: what the controller says.
    :param host: what it reaches down to.
    :param notes: what a person should know even where all goes well, sentences.
    """

    id: str
    app: Mapping[str, Any]
    request: Request
    host: Host
    notes: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.host.layout.release(self.id)

    def other(self, release: str) -> Release:
        """Return another release of the app, which hooks run in."""
        return Release(release, self.app, self.request, self.host, self.notes)
