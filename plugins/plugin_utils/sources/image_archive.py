# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Archives of images, and the names that loading one would give: none reaches a host."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import lzma
import os
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import locked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import tidy

# Part of what a copy without names is called: raise it when they are made differently.
_FORMAT = 1

#: The files of an archive that say which images are in it and what they are called: of `docker save` and `podman save`
#: (manifest.json, and repositories as it was before), and of the OCI's layout.
DOCKER, OCI, LEGACY = "manifest.json", "index.json", "repositories"
#: The most bytes that one of them may have.
LARGEST_INDEX = 4 * 2**20

#: What of an image's entry an engine needs. Only this is kept: engines read keys in any case of letters.
_OF_IMAGE = ("Config", "Layers", "Parent", "LayerSources")
_OF_INDEX = ("schemaVersion", "mediaType", "artifactType")
_OF_MANIFEST = ("mediaType", "artifactType", "digest", "size", "platform", "urls", "data")
#: Names of images among the annotations of the OCI's layout.
_REF_NAME, _CONTAINERD = "org.opencontainers.image.ref.name", "io.containerd."


#: What Python raises for an archive that is damaged, or none.
UNREADABLE = (
    *(EOFError, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
)


class ArchiveError(Exception):
    """A file is no archive of one image; the message is a sentence's end after "the archive X"."""


def names_in(tar: tarfile.TarFile) -> list[str]:
    """Return every name that loading an archive would give to an image, with registry and tag, sorted.

    :raises ArchiveError: when it cannot be read as an archive of images.
    """
    return _names(_indexes(tar))


def nameless(archive: Path, cache: Path) -> Path:
    """Return a copy of an archive of an image, in the cache, by which an engine gives the image no name.

    :raises ArchiveError: when it cannot be read, or does not hold just one image.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        copy = cache / "artifacts" / f"image-{_FORMAT}-{digest}.tar"
        with locked(cache, f"image-{digest[:32]}"):
            if copy.exists():
                os.utime(copy)
                return copy
            handle, aside = tempfile.mkstemp(prefix=".tmp-", suffix=".tar", dir=copy.parent)
            try:
                with os.fdopen(handle, "wb") as out:
                    file.seek(0)
                    without_names(file, out)
                    out.flush()
                    os.fsync(out.fileno())
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ArchiveError("was changed while it was read")
                os.replace(aside, copy)
            finally:
                Path(aside).unlink(missing_ok=True)
    tidy(copy.parent)
    return copy


def without_names(archive: BinaryIO, target: BinaryIO) -> None:
    """Copy an archive of an image so that an engine gives the image no name; layers and configuration stay as they are.

    :raises ArchiveError: when it cannot be read, or does not hold just one image.
    """
    try:
        with contextlib.ExitStack() as stack:
            tar = stack.enter_context(tarfile.open(fileobj=archive))
            indexes = _nameless(_indexes(tar))
            # It is sent: what came compressed goes so.
            mode = "w" if tar.fileobj is archive else "w:gz"
            level = {"compresslevel": 1} if mode == "w:gz" else {}
            copy = stack.enter_context(tarfile.open(fileobj=target, mode=mode, **level))  # type: ignore[call-overload]
            for member in tar:
                name = _plain(member.name)
                if name in indexes:
                    info = tarfile.TarInfo(name)
                    content = json.dumps(indexes[name]).encode()
                    info.size, info.mode = len(content), 0o644
                    copy.addfile(info, io.BytesIO(content))
                elif name != LEGACY:
                    content_of = tar.extractfile(member) if member.isreg() else None
                    if member.issparse():
                        # Its holes are written out.
                        member.type, member.pax_headers = tarfile.REGTYPE, {}
                    copy.addfile(member, content_of)
    except UNREADABLE as error:
        raise ArchiveError(f"cannot be read as an image archive: {error}") from error


def several_names(names: Sequence[str]) -> str:
    """Return what is wrong with an archive that gives its image several names, a sentence's end after "the archive X"."""
    return (
        f"gives its image {len(names)} names ({', '.join(names)}), expected one: on the host each would take the place of "
        "what has that name; save the image by one name"
    )


def _plain(name: str) -> str:
    """Return the name of a member as an engine that unpacks the archive sees it."""
    return posixpath.normpath(name).lstrip("/")


def _indexes(tar: tarfile.TarFile) -> dict[str, Any]:
    """Return what the files say that an archive has of those which describe it; empty for an archive of something else."""
    said: dict[str, Any] = {}
    for member in tar.getmembers():
        name = _plain(member.name)
        if name not in (DOCKER, OCI, LEGACY):
            continue
        if name in said:
            raise ArchiveError(f"has {name} twice")
        file = tar.extractfile(member)
        text = file.read(LARGEST_INDEX + 1) if file else b""
        if len(text) > LARGEST_INDEX:
            raise ArchiveError(f"has a {name} of more than {LARGEST_INDEX} bytes")
        said[name] = json.loads(text)
    return said


def _names(said: Mapping[str, Any]) -> list[str]:
    names = [name for image in said.get(DOCKER, ()) for name in image.get("RepoTags") or ()]
    for repository, tags in said.get(LEGACY, {}).items():
        names += [f"{repository}:{tag}" for tag in tags]
    for manifest in said.get(OCI, {}).get("manifests") or ():
        annotations = manifest.get("annotations") or {}
        full = [text for key, text in annotations.items() if key.startswith(f"{_CONTAINERD}image.name")]
        ref = annotations.get(_REF_NAME)
        # Beside a whole name, Docker says the tag alone here.
        names += full + ([ref] if ref and not any(name.endswith(f":{ref}") for name in full) else [])
    return sorted({_full_name(str(name)) for name in names})


def _full_name(name: str) -> str:
    """Return the name of an image with its registry and tag, as an engine completes it.

    >>> [_full_name(name) for name in ("shop", "team/shop:1", "localhost/shop", "r:5000/shop:1")]
    ['docker.io/library/shop:latest', 'docker.io/team/shop:1', 'localhost/shop:latest', 'r:5000/shop:1']
    """
    first, slash, rest = name.partition("/")
    if not (slash and (set(".:") & set(first) or first == "localhost")):
        first, rest = "docker.io", name
    if first == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return f"{first}/{rest}" if ":" in rest else f"{first}/{rest}:latest"


def _nameless(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files that describe an archive of one image as they are without any name for it.

    :raises ArchiveError: where it holds none, or several.
    """
    kept: dict[str, Any] = {}
    if DOCKER in said:
        images = {image["Config"]: image for image in said[DOCKER]}
        kept[DOCKER] = [{**_only(image, _OF_IMAGE), "RepoTags": None} for image in images.values()]
        count = len(images)
    if OCI in said:
        manifests = {manifest["digest"]: manifest for manifest in said[OCI]["manifests"]}
        entries = [
            {**_only(manifest, _OF_MANIFEST), "annotations": _nameless_annotations(manifest)}
            for manifest in manifests.values()
        ]
        kept[OCI] = {**_only(said[OCI], _OF_INDEX), "manifests": entries}
        count = len(manifests)
    if not kept:
        raise ArchiveError("is of a kind that is no more in use: save the image again")
    if count != 1:
        raise ArchiveError(f"holds {count} images, expected one")
    return kept


def _nameless_annotations(manifest: Mapping[str, Any]) -> dict[str, Any]:
    annotations = manifest.get("annotations") or {}
    return {key: text for key, text in annotations.items() if key != _REF_NAME and not key.startswith(_CONTAINERD)}


def _only(entry: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}
