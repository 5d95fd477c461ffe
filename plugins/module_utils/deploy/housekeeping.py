# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Removing aborted releases, and releases that are no longer kept for a rollback."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host
from ansible_collections.flaskops.server.plugins.module_utils.host import record


def abort(host: Host, release: str, created: bool) -> None:
    """Kill the units of a release; delete it if this run staged it."""
    host.systemd.kill(*sorted({host.layout.unit(release), *host.systemd.releases(host.layout.name).get(release, [])}))
    if created:
        delete(host, [release])


def prune(host: Host, keep: int) -> None:
    """Delete the releases that are not kept for a rollback.

    :param keep: how many are kept.
    """
    layout = host.layout
    delete(host, to_prune(record.read(layout.record), layout.live_id(), layout.staged_ids(), keep))


def to_prune(entries: Sequence[Mapping[str, Any]], live: str | None, staged: Iterable[str], keep: int) -> list[str]:
    """Return the releases to remove: all but the ``keep`` last good ones, the live one and the one before it."""
    staged = set(staged)
    kept = {release for release in (live, record.previous(entries, live, staged)) if release}
    recent = []
    for entry in reversed(entries):
        release = str(entry.get("release"))
        if entry.get("result") == record.LIVE and release in staged and release not in recent:
            recent.append(release)
    good = [release for release in recent if release not in record.bad(entries)]
    for release in good:
        if len(kept) >= keep:
            break
        kept.add(release)
    return sorted(staged - kept)


def delete(host: Host, releases: list[str]) -> None:
    """Delete releases with their units, and what they alone ran in."""
    layout = host.layout
    for release in releases:
        for path in layout.installed_units(release):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (layout.release(release), layout.staging(release)):
            remove_directory(path)
    # What the live release uses is used, even where its files are damaged.
    used = {*layout.staged_ids(), *filter(None, [layout.live_id()])}
    for runtime in host.runtimes.values():
        runtime.prune(sorted(used))


def remove_directory(path: Path) -> None:
    """Remove a release in one step for everybody who looks; a dead run's rest is taken away by the next one."""
    if path.is_dir():
        gone = path.with_name(f".removing-{path.name.lstrip('.')}")
        path.rename(gone)
        shutil.rmtree(gone)
