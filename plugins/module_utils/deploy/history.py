# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lines that a deploy writes into the app's record."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host, Request
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import Claim


class History:
    """The record of an app's deploys, as one run writes it.

    :param notes: where it says that a line could not be written.
    """

    def __init__(self, host: Host, request: Request, notes: list[str]) -> None:
        self._host, self._request, self._notes = host, request, notes
        self._path = host.layout.record

    def add(self, claim: Claim, release: str, result: str, manifest: dict[str, Any] | None = None, **more: Any) -> None:
        """Write a line.

        :param manifest: the release's manifest, where it may be gone by now.
        :raises OSError: when it cannot be written.
        """
        manifest = manifest or self._host.layout.manifest(release)
        entry = {
            "time": self._host.clock.stamp(),
            "app": self._request.app["name"],
            "action": claim.content.get("action", "deploy"),
            "release": release,
            "result": result,
            "source": manifest.get("source") or self._request.source,
            "by": self._request.by,
            **more,
        }
        append(self._path, entry)

    def add_or_note(self, claim: Claim, release: str, result: str, **more: Any) -> None:
        """Write a line; where that fails, say so and go on: without it the live release is what it is."""
        try:
            self.add(claim, release, result, **more)
        except OSError as error:
            self._notes.append(
                f"{self._path} could not be written ({error.strerror or error}), so this deploy is not in it yet: the next run"
                " adds it. Free some space on that disk"
            )

    def complete(self, claim: Claim, live: str | None, note: str = "recorded by a later run") -> None:
        """Write the line that a run owes which ended between the switch and its record."""
        history = record.history(record.read(self._path))
        if live and history[-1:] != [live]:
            # One that was live before was gone back to: what came after it is not where a rollback goes.
            action = "rollback" if live in history else "deploy"
            self.add_or_note(claim, live, record.LIVE, action=action, note=note)


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Write one line, so that it is on disk before the deploy goes on.

    A line that a dead run left half written is ended first, so that it cannot spoil this one.

    :raises OSError: when it cannot be written; then nothing of it is.
    """
    line = json.dumps(dict(entry), sort_keys=True) + "\n"
    # Unbuffered: what a full disk did not take is not written later, when the file is closed.
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        try:
            written = file.write(line.encode())
            if written != len(line.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise
