# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pack or resolve the source of an app on the controller."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.archive import from_archive
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.git import from_git
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import from_image, is_image_archive
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.package import from_package
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.path import from_path


def build(
    source: Mapping[str, Any], cache: Path, base_dir: str = "", images: Mapping[str, Any] | None = None
) -> Artifact:
    """Pack ``source`` into ``cache`` and return the artifact.

    :param source: exactly one of ``path``, ``git`` (with ``version``), ``archive`` (with ``checksum``), ``package``,
        ``image``; optionally ``subdir`` and ``exclude`` (glob patterns, see ``compile_excludes``).
    :param cache: a directory on the controller; created if missing. Several processes may use it at once.
    :param base_dir: the directory that relative paths start from; the working directory if empty.
    :param images: the variables of the app's server if that runs images: an archive may then be one of an image.
    :raises SourceError: when the source does not exist, is not allowed, or cannot be read.
    """
    cache = Path(cache)
    source = dict(source)
    for kind in ("path", "archive"):
        if source.get(kind) and "://" not in str(source[kind]):
            source[kind] = str(Path(base_dir, os.path.expanduser(str(source[kind]))))
    if images is not None and source.get("archive") and is_image_archive(Path(source["archive"])):
        source["image"] = f"docker-archive:{source.pop('archive')}"
    kinds: dict[str, Callable[[Mapping[str, Any], Path], Artifact]] = {
        "path": from_path,
        "git": from_git,
        "archive": from_archive,
        "package": from_package,
        "image": functools.partial(from_image, base_dir=base_dir, variables=images or {}),
    }
    requested = [kind for kind in kinds if source.get(kind)]
    if len(requested) != 1:
        raise SourceError(
            f"Expected exactly one of {', '.join(f'source.{kind}' for kind in kinds)}, got "
            f"{' and '.join(f'source.{kind}' for kind in requested) or 'none'}. Set one of them."
        )
    try:
        for directory in ("artifacts", "index", "locks"):
            (cache / directory).mkdir(parents=True, exist_ok=True)
        return kinds[requested[0]](source, cache)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(
                f"No space left on the controller below {cache}, where sources are packed. Free some space and run again."
            ) from error
        where = masked(str(error.filename)) if error.filename else str(cache)
        raise SourceError(
            f"Packing the source failed on the controller: {where}: {error.strerror or error}."
        ) from error
