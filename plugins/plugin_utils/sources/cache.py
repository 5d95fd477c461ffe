# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's cache of packed sources: several processes may use it at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.file_lock import lock
from ansible_collections.flaskops.server.plugins.module_utils.host.files import replace_file
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact

# Part of every cache key: raise it when the bytes of a tarball change for the same tree.
FORMAT = 1

# Part of the key of a cached tarball: raise it when more sources are refused than before.
_REFUSALS = 2


@contextlib.contextmanager
def hold_lock(cache: Path, key: str) -> Iterator[None]:
    """Hold the lock ``key`` of the cache; other processes wait for it."""
    with open(cache / "locks" / key, "wb") as file:
        lock(file.fileno())
        yield


def make_key(*parts: Any) -> str:
    """Return the cache key of a result that depends on these parts and nothing else."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:32]


def find_cached(cache: Path, key: str) -> str | None:
    """Return the SHA-256 of the tarball that was stored under ``key``; None if the cache does not have it any more."""
    try:
        entry = json.loads((cache / "index" / key).read_text(encoding="utf-8"))
        path = cache / "artifacts" / f"{entry['sha256']}.tar"
        if path.stat().st_size != entry["size"]:
            return None
        os.utime(path)
        return str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(cache: Path, key: str, artifact: Artifact) -> Artifact:
    """Record in the cache that ``key`` gives this artifact, and return it."""
    tarball = cache / "artifacts" / f"{artifact.sha256}.tar"
    entry = {"sha256": artifact.sha256, "size": tarball.stat().st_size}
    replace_file(cache / "index" / key, json.dumps(entry).encode(), 0o644, suffix=f"-{os.getpid()}")
    return artifact


def make_tarball_key(source: Mapping[str, Any], *parts: Any) -> str:
    """Return the cache key of the tarball that is packed from a commit or an archive, which ``parts`` identify."""
    return make_key(*parts, _describe_selection(source), _REFUSALS)


def _describe_selection(source: Mapping[str, Any]) -> list[Any]:
    """Return the options of ``source`` that select files of a commit or an archive."""
    return [str(source.get("subdir") or "").strip("/"), sorted(str(item) for item in source.get("exclude") or ())]
