# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An archive as the source of an app: a file on the controller, or one that is downloaded and verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import (
    Artifact,
    SourceError,
    move_credentials_to_header,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import (
    find_cached,
    hold_lock,
    make_tarball_key,
    store,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import find_subdirectory, list_files
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack, unpack_zip

#: The first bytes of a zip archive: one with files, an empty one, and the first of several volumes.
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


def from_archive(source: Mapping[str, Any], cache: Path) -> Artifact:
    """Pack the files of an archive; a single top directory is left out.

    :raises SourceError: when it cannot be fetched or read, or does not match its checksum.
    """
    location = str(source["archive"])
    checksum = str(source.get("checksum") or "").strip()
    algorithm, _colon, expected = checksum.lower().partition(":")
    lengths = {"sha256": 64, "sha384": 96, "sha512": 128}
    if checksum and not re.fullmatch(rf"[0-9a-f]{{{lengths.get(algorithm, 0) or 1}}}", expected):
        raise SourceError(
            f"Expected source.checksum as 'sha256:' and 64 hexadecimal digits (or sha384:, sha512:), got {checksum!r}."
        )
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    origin: dict[str, Any] = {"kind": "archive"}
    with contextlib.ExitStack() as stack:
        if scheme in ("http", "https"):
            if not checksum:
                raise SourceError(
                    f"source.archive {masked(location)} is a URL and has no checksum, so it could become different "
                    "code at any time. Set source.checksum to 'sha256:' and the digest that the publisher states."
                )
            origin["url"] = masked(location)
            stack.enter_context(hold_lock(cache, f"archive-{expected[:32]}"))
            path = _download(location, algorithm, expected, cache)
        elif scheme in ("", "file"):
            path = Path(
                urllib.request.url2pathname(urllib.parse.urlsplit(location).path)
                if scheme
                else os.path.expanduser(location)
            )
            origin["path"] = str(path)
            if not path.is_file():
                raise SourceError(f"source.archive {str(path)!r} is not a file on the controller. Fix the path.")
            if checksum:
                _verify(path, algorithm, expected, str(path))
        else:
            raise SourceError(
                f"Expected source.archive as a path on the controller or an http or https URL, got {masked(location)!r}."
            )
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        origin["checksum"] = checksum or f"sha256:{digest}"
        origin["version"] = os.path.basename(urllib.parse.urlsplit(location).path if scheme else location)
        key = make_tarball_key(source, "archive", digest)
        if source.get("subdir"):
            origin["subdir"] = str(source["subdir"])
        if sha256 := find_cached(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, origin)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            top = Path(tree, "tree")
            shown = origin.get("url") or origin["path"]
            try:
                if _is_zip(path):
                    unpack_zip(path, top)
                else:
                    unpack(path, top)
            except SourceError as error:
                raise SourceError(f"source.archive {shown}: {error}") from error
            inner = [entry for entry in os.scandir(top) if entry.name not in ("__MACOSX", "pax_global_header")]
            if len(inner) == 1 and inner[0].is_dir(follow_symlinks=False):
                top = Path(inner[0].path)
            root = find_subdirectory(top, source.get("subdir"), f"source.archive {shown}")
            return store(cache, key, pack(root, list_files(root), source, origin, cache))


def _is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive; :func:`zipfile.is_zipfile` takes a tar that ends in one for a zip, too."""
    with open(path, "rb") as file:
        return file.read(4) in _ZIP_MAGIC


def _verify(path: Path, algorithm: str, expected: str, shown: str) -> None:
    """Compare a file with its checksum.

    :raises SourceError: when they differ.
    """
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, algorithm).hexdigest()
    if actual != expected:
        raise SourceError(
            f"Checksum mismatch for source.archive {shown}: expected {algorithm}:{expected}, got {algorithm}:{actual}. "
            "Either the file changed or the checksum belongs to a different file."
        )


def _download(url: str, algorithm: str, expected: str, cache: Path) -> Path:
    """Return the file behind ``url``, downloaded once; the proxies of the environment and SSL_CERT_FILE apply.

    :raises SourceError: when it cannot be downloaded, or does not match its checksum.
    """
    directory = cache / "downloads"
    directory.mkdir(exist_ok=True)
    path = directory / expected
    if path.exists():
        with contextlib.suppress(SourceError):
            _verify(path, algorithm, expected, str(path))
            return path
    bare_url, header = move_credentials_to_header(url)
    request = urllib.request.Request(bare_url, headers={"User-Agent": "flaskops.server"})
    if header:  # never sent to a host that the server redirects to
        request.add_unredirected_header(*header.split(": ", 1))
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=directory)
    try:
        context = ssl.create_default_context()
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(
                request, timeout=60
            ) as response,
        ):
            shutil.copyfileobj(response, file, 1 << 20)
        _verify(Path(temporary), algorithm, expected, masked(url))
        os.replace(temporary, path)
    except urllib.error.HTTPError as error:
        raise SourceError(
            f"Downloading source.archive {masked(url)} failed: the server answers {error.code} {error.reason}. "
            "Check the URL and its credentials."
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = masked(str(getattr(error, "reason", error)))
        raise SourceError(
            f"Downloading source.archive {masked(url)} failed on the controller: {reason}. Check the URL, the proxy "
            "(HTTPS_PROXY, NO_PROXY) and the certificate authorities (SSL_CERT_FILE)."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path
