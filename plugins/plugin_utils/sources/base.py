# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all sources share: their error, the artifact they become, and how their credentials are sent."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SourceError(Exception):
    """The source cannot be packed or unpacked.

    The message is for the user: whole sentences without credentials, that say what happened and what to do. Who
    reports the error adds that nothing was deployed.
    """


@dataclass(frozen=True)
class Artifact:
    """A packed source.

    :ivar path: the tarball, ``<cache>/artifacts/<sha256>.tar``, or the archive of an image; None for an image that a
        registry serves.
    :ivar sha256: hex digest of the tarball, or the digest of the image.
    :ivar source: the origin, as release.json records it: ``kind`` and, if they apply, ``path``, ``url`` (without
        credentials), ``version``, ``commit``, ``dirty``, ``requirement``, ``checksum``, ``subdir``.
    :ivar image: the reference that identifies exactly this image on a host; empty for code.
    :ivar names: the names that the archive of an image gives it.
    """

    path: Path | None
    sha256: str
    source: dict[str, Any]
    image: str = ""
    names: Sequence[str] = ()


def is_inside(path: str, root: str) -> bool:
    """Whether the real path ``path`` is the real path ``root`` or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def move_credentials_to_header(url: str) -> tuple[str, str]:
    """Return an http(s) URL without its userinfo, and the header that replaces it.

    Any other URL is returned unchanged, with an empty header.
    """
    parts = urllib.parse.urlsplit(url) if "://" in url else None
    if not parts or parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, ""
    userinfo, _at, host = parts.netloc.rpartition("@")
    user, _colon, password = userinfo.partition(":")
    token = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
    return (
        urllib.parse.urlunsplit(parts._replace(netloc=host)),
        "Authorization: Basic " + base64.b64encode(token.encode()).decode(),
    )
