# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The source of an app, as the controller packs or resolves it."""

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
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import from_image, is_archive
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.package import from_package
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.path import from_path


def build(source: Mapping[str, Any], cache: Path, here: str = "", images: Mapping[str, Any] | None = None) -> Artifact:
    """Pack ``source`` into ``cache`` and return the artifact.

    :param source: exactly one of ``path``, ``git`` (with ``version``), ``archive`` (with ``checksum``), ``package``,
        ``image``; ``subdir`` and ``exclude`` (glob patterns, see ``excluder``) as far as they are given.
    :param cache: a directory of the controller; made when missing. Several processes may use it at once.
    :param here: the directory that relative paths start from; this process's own when empty.
    :param images: the variables of the app's server, where it runs images: an archive may be one of an image then.
    :raises SourceError: the source does not exist, is not allowed, or cannot be read.
    """
    cache = Path(cache)
    source = dict(source)
    for kind in ("path", "archive"):
        if source.get(kind) and "://" not in str(source[kind]):
            source[kind] = str(Path(here, os.path.expanduser(str(source[kind]))))
    if images is not None and source.get("archive") and is_archive(Path(source["archive"])):
        source["image"] = f"docker-archive:{source.pop('archive')}"
    kinds: dict[str, Callable[[Mapping[str, Any], Path], Artifact]] = {
        "path": from_path,
        "git": from_git,
        "archive": from_archive,
        "package": from_package,
        "image": functools.partial(from_image, here=here, variables=images or {}),
    }
    given = [kind for kind in kinds if source.get(kind)]
    if len(given) != 1:
        raise SourceError(
            f"The source of an app is exactly one of {', '.join(kinds)}; "
            f"{'none of them is' if not given else ' and '.join(given) + ' are'} given."
        )
    try:
        for directory in ("artifacts", "index", "locks"):
            (cache / directory).mkdir(parents=True, exist_ok=True)
        return kinds[given[0]](source, cache)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(
                f"There is no space left below {cache}, where the source is packed. Free some and run again."
            ) from error
        where = masked(str(error.filename)) if error.filename else str(cache)
        raise SourceError(f"The source cannot be packed: {where}: {error.strerror or error}.") from error
