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

from ansible_collections.flaskops.server.plugins.module_utils.host.files import lock, replace_file
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact

# Part of every cache key: raise it when the bytes of a tarball change for the same tree.
FORMAT = 1

# Part of the key of a tarball that is remembered: raise it when more sources are refused than before.
_REFUSALS = 2


@contextlib.contextmanager
def locked(cache: Path, key: str) -> Iterator[None]:
    """Hold the lock ``key`` of the cache; other processes wait for it."""
    with open(cache / "locks" / key, "wb") as file:
        lock(file.fileno())
        yield


def key_of(*parts: Any) -> str:
    """Return the name in the cache of what these parts are all that matters of."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:32]


def remembered(cache: Path, key: str) -> str | None:
    """Return the SHA-256 of the tarball that ``key`` gave before, when it is still there."""
    try:
        known = json.loads((cache / "index" / key).read_text(encoding="utf-8"))
        path = cache / "artifacts" / f"{known['sha256']}.tar"
        if path.stat().st_size != known["size"]:
            return None
        os.utime(path)
        return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(cache: Path, key: str, artifact: Artifact) -> Artifact:
    packed = cache / "artifacts" / f"{artifact.sha256}.tar"
    known = {"sha256": artifact.sha256, "size": packed.stat().st_size}
    replace_file(cache / "index" / key, json.dumps(known).encode(), 0o644, suffix=f"-{os.getpid()}")
    return artifact


def key_of_tarball(source: Mapping[str, Any], *parts: Any) -> str:
    """Return the key of what is packed of a commit or an archive, which ``parts`` name."""
    return key_of(*parts, _selection(source), _REFUSALS)


def _selection(source: Mapping[str, Any]) -> list[Any]:
    """What of ``source`` chooses among the files of a commit or an archive."""
    return [str(source.get("subdir") or "").strip("/"), sorted(str(item) for item in source.get("exclude") or ())]
