# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of an app's deploys, and which release a rollback goes to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: How a deploy ended: an entry's ``result``.
LIVE, FAILED, TAKEN_BACK = "live", "failed", "taken back"
#: An entry on the way: the release commands have run, whatever becomes of the release.
COMMANDS = "commands ran"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; a half-written line is passed over."""
    entries = []
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def history(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the way back from the live release: ids that were live, the live one last.

    A deploy puts its release on top; a rollback takes away what was on top of the one it returns to.
    """
    stack: list[str] = []
    for entry in entries:
        if entry.get("result") != LIVE:
            continue
        release = str(entry["release"])
        if entry.get("action") == "rollback" and release in stack:
            del stack[stack.index(release) + 1 :]
        else:
            stack = [item for item in stack if item != release]
            stack.append(release)
    return stack


def bad(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the ids whose last deploy failed, or was taken back."""
    last: dict[str, str] = {}
    for entry in entries:
        if entry.get("release") and entry.get("result") != COMMANDS:
            last[str(entry["release"])] = str(entry.get("result"))
    return {release for release, result in last.items() if result != LIVE}


def previous(entries: Sequence[Mapping[str, Any]], live: str | None, staged: Iterable[str]) -> str | None:
    """Return the release a rollback goes to: the last good one before the live one that is still there."""
    stack = history(entries)
    below = stack[: stack.index(live)] if live in stack else stack
    usable = set(staged) - bad(entries) - {live}
    return next((release for release in reversed(below) if release in usable), None)


def version(source: Mapping[str, Any]) -> str:
    """Return the shortest words for where a release came from."""
    return str(
        source.get("version")
        or source.get("requirement")
        or source.get("commit")
        or source.get("kind")
        or "unknown source"
    )
