# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An archive as the source of an app: a file, or fetched and checked."""

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
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import (
    Artifact,
    SourceError,
    credentials_as_header,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import (
    key_of_tarball,
    locked,
    remember,
    remembered,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.tree import everything, subdirectory
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack, unpack_zip


def from_archive(source: Mapping[str, Any], cache: Path) -> Artifact:
    given = str(source["archive"])
    checksum = str(source.get("checksum") or "").strip()
    algorithm, _colon, expected = checksum.lower().partition(":")
    lengths = {"sha256": 64, "sha384": 96, "sha512": 128}
    if checksum and not re.fullmatch(rf"[0-9a-f]{{{lengths.get(algorithm, 0) or 1}}}", expected):
        raise SourceError(
            f"source.checksum {checksum!r} is not 'sha256:' and 64 hexadecimal digits (sha384 and sha512 work too)."
        )
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    facts: dict[str, Any] = {"kind": "archive"}
    with contextlib.ExitStack() as stack:
        if scheme in ("http", "https"):
            if not checksum:
                raise SourceError(
                    f"source.archive {masked(given)} is fetched from elsewhere and has no checksum. Add source.checksum, "
                    "'sha256:' and the digest that its publisher states, so that it always means the same code."
                )
            facts["url"] = masked(given)
            stack.enter_context(locked(cache, f"archive-{expected[:32]}"))
            path = _download(given, algorithm, expected, cache)
        elif scheme in ("", "file"):
            path = Path(
                urllib.request.url2pathname(urllib.parse.urlsplit(given).path) if scheme else os.path.expanduser(given)
            )
            facts["path"] = str(path)
            if not path.is_file():
                raise SourceError(f"source.archive {str(path)!r} is not a file on the controller.")
            if checksum:
                _verify(path, algorithm, expected, str(path))
        else:
            raise SourceError(f"source.archive {masked(given)!r} is not a file, nor a URL of http or https.")
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts["checksum"] = checksum or f"sha256:{digest}"
        facts["version"] = os.path.basename(urllib.parse.urlsplit(given).path if scheme else given)
        key = key_of_tarball(source, "archive", digest)
        if source.get("subdir"):
            facts["subdir"] = str(source["subdir"])
        if sha256 := remembered(cache, key):
            return Artifact(cache / "artifacts" / f"{sha256}.tar", sha256, facts)
        with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
            top = Path(tree, "tree")
            shown = facts.get("url") or facts["path"]
            try:
                if zipfile.is_zipfile(path):
                    unpack_zip(path, top)
                else:
                    unpack(path, top)
            except SourceError as error:
                raise SourceError(f"source.archive {shown}: {error}") from error
            inner = [entry for entry in os.scandir(top) if entry.name not in ("__MACOSX", "pax_global_header")]
            if len(inner) == 1 and inner[0].is_dir(follow_symlinks=False):
                top = Path(inner[0].path)
            root = subdirectory(top, source.get("subdir"), f"source.archive {shown}")
            return remember(cache, key, pack(root, everything(root), source, facts, cache))


def _verify(path: Path, algorithm: str, expected: str, shown: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise SourceError(
            f"source.archive {shown} has not the checksum that was stated: expected {algorithm}:{expected}, found "
            f"{algorithm}:{found}. Somebody changed the file, or the checksum is of another one; nothing was deployed."
        )


def _download(url: str, algorithm: str, expected: str, cache: Path) -> Path:
    """Return the file behind ``url``, fetched once; the environment's proxies and SSL_CERT_FILE are honoured."""
    directory = cache / "downloads"
    directory.mkdir(exist_ok=True)
    path = directory / expected
    if path.exists():
        with contextlib.suppress(SourceError):
            _verify(path, algorithm, expected, str(path))
            return path
    plain, header = credentials_as_header(url)
    request = urllib.request.Request(plain, headers={"User-Agent": "flaskops.server"})
    if header:  # not sent on to wherever the server redirects
        request.add_unredirected_header(*header.split(": ", 1))
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=directory)
    try:
        context = ssl.create_default_context()
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(
                request, timeout=60
            ) as answer,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
        _verify(Path(temporary), algorithm, expected, masked(url))
        os.replace(temporary, path)
    except urllib.error.HTTPError as error:
        raise SourceError(f"source.archive {masked(url)} cannot be fetched: {error.code} {error.reason}.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = masked(str(getattr(error, "reason", error)))
        raise SourceError(
            f"source.archive {masked(url)} cannot be fetched by the controller: {reason}. Check the URL, the proxy "
            "(HTTPS_PROXY, NO_PROXY) and the certificate authorities (SSL_CERT_FILE)."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path
