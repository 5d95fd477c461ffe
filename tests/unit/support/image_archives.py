# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Archives of images, as `docker save` and `podman save` write them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(path: Path, layer: bytes, mode: str = "w", links: Sequence[tuple[str, str]] = (), **indexes: Any) -> Path:
    """Write an archive of one image; return its path.

    :param links: names of symlinks, and what they lead to.
    :param indexes: the files that describe it; two underscores stand for a dot.
    """
    members = {"c.json": b"{}", "abc/layer.tar": layer}
    members |= {name.replace("__", "."): json.dumps(content).encode() for name, content in indexes.items()}
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return path


def manifest(*tags: str, layers: Sequence[str] = ("abc/layer.tar",)) -> list[dict[str, Any]]:
    """Return what manifest.json says of an image with these names."""
    return [{"Config": "c.json", "RepoTags": list(tags), "Layers": list(layers)}]
