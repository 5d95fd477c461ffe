# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Archives of images. Loading one gives its image names: they are removed before it reaches a host."""

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

from ansible_collections.flaskops.server.plugins.plugin_utils.sources.cache import hold_lock
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import prune

# Part of the file name of a copy without names: raise it when copies change.
_FORMAT = 1

#: The files of an archive that list its images and their names: of `docker save` and `podman save` (manifest.json, and
#: formerly repositories), and of the OCI layout.
DOCKER, OCI, LEGACY = "manifest.json", "index.json", "repositories"
#: Largest size of one of them, in bytes.
LARGEST_INDEX = 4 * 2**20

#: The keys of an image's entry that an engine needs. All others are removed: engines ignore the case of keys.
_OF_IMAGE = ("Config", "Layers", "Parent", "LayerSources")
_OF_INDEX = ("schemaVersion", "mediaType", "artifactType")
_OF_MANIFEST = ("mediaType", "artifactType", "digest", "size", "platform", "urls", "data")
#: The registry and the tag of a name without them, as Docker reads it
#: (https://pkg.go.dev/github.com/distribution/reference).
DEFAULT_REGISTRY, DEFAULT_TAG = "docker.io", "latest"
#: Annotations of the OCI layout that name an image.
_REF_NAME, _CONTAINERD = "org.opencontainers.image.ref.name", "io.containerd."


#: What Python raises for a file that is a damaged archive, or not an archive.
UNREADABLE = (
    *(EOFError, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
)


class ArchiveError(Exception):
    """A file is not an archive of one image; the message is whole sentences, without the name of the file."""


def read_names(tar: tarfile.TarFile) -> list[str]:
    """Return every name that loading an archive would give to an image, with registry and tag, sorted.

    :raises ArchiveError: when it is not a readable image archive.
    """
    return _collect_names(_read_indexes(tar))


def copy_without_names(archive: Path, cache: Path) -> Path:
    """Copy an image archive to the cache, so that loading the copy gives the image no name; return the copy.

    :raises ArchiveError: when it cannot be read, or does not hold exactly one image.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        copy = cache / "artifacts" / f"image-{_FORMAT}-{digest}.tar"
        with hold_lock(cache, f"image-{digest[:32]}"):
            if copy.exists():
                os.utime(copy)
                return copy
            handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix=".tar", dir=copy.parent)
            try:
                with os.fdopen(handle, "wb") as output:
                    file.seek(0)
                    strip_names(file, output)
                    output.flush()
                    os.fsync(output.fileno())
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ArchiveError("The file changed while it was read. Deploy again when nothing writes to it.")
                os.replace(temporary, copy)
            finally:
                Path(temporary).unlink(missing_ok=True)
    prune(copy.parent)
    return copy


def strip_names(archive: BinaryIO, target: BinaryIO) -> None:
    """Write an image archive without the names of its image; layers and configuration stay unchanged.

    :raises ArchiveError: when it cannot be read, or does not hold exactly one image.
    """
    try:
        with contextlib.ExitStack() as stack:
            tar = stack.enter_context(tarfile.open(fileobj=archive))
            anonymous = _without_names(_read_indexes(tar))
            # It travels to the hosts: a compressed archive stays compressed.
            mode = "w" if tar.fileobj is archive else "w:gz"
            level = {"compresslevel": 1} if mode == "w:gz" else {}
            copy = stack.enter_context(tarfile.open(fileobj=target, mode=mode, **level))  # type: ignore[call-overload]
            for member in tar:
                name = _normalize(member.name)
                if name in anonymous:
                    info = tarfile.TarInfo(name)
                    content = json.dumps(anonymous[name]).encode()
                    info.size, info.mode = len(content), 0o644
                    copy.addfile(info, io.BytesIO(content))
                elif name != LEGACY:
                    content_of = tar.extractfile(member) if member.isreg() else None
                    if member.issparse():
                        # The copy has its holes filled with zeros.
                        member.type, member.pax_headers = tarfile.REGTYPE, {}
                    copy.addfile(member, content_of)
    except UNREADABLE as error:
        raise ArchiveError(describe_damage(error)) from error


def describe_names(names: Sequence[str]) -> str:
    """Return what is wrong with an archive that gives its image several names."""
    return (
        f"The archive gives its image {len(names)} names ({', '.join(names)}), expected one: on a host, each of them would "
        "replace the image that has this name now. Save the image under one name."
    )


def describe_count(count: int) -> str:
    """Return what is wrong with an archive of no image or several."""
    return f"The archive holds {count} images, expected one. Save each image to an archive of its own."


def describe_damage(error: Exception) -> str:
    """Return what is wrong with a file that cannot be read."""
    return f"The file cannot be read as an image archive: {error}. Make it again with 'podman save' or 'docker save'."


def _normalize(name: str) -> str:
    """Return the path of a member after unpacking."""
    return posixpath.normpath(name).lstrip("/")


def _read_indexes(tar: tarfile.TarFile) -> dict[str, Any]:
    """Return the content of the files that list the images; empty for an archive of something else.

    :raises ArchiveError: when it has one of them twice, or one is too large.
    """
    indexes: dict[str, Any] = {}
    for member in tar.getmembers():
        name = _normalize(member.name)
        if name not in (DOCKER, OCI, LEGACY):
            continue
        if name in indexes:
            raise ArchiveError(f"The archive holds {name} twice. Make it again with 'podman save' or 'docker save'.")
        file = tar.extractfile(member)
        text = file.read(LARGEST_INDEX + 1) if file else b""
        if len(text) > LARGEST_INDEX:
            raise ArchiveError(
                f"The archive holds a {name} of more than {LARGEST_INDEX} bytes. Make it again with 'podman save' or "
                "'docker save'."
            )
        indexes[name] = json.loads(text)
    return indexes


def _collect_names(indexes: Mapping[str, Any]) -> list[str]:
    names = [name for image in indexes.get(DOCKER, ()) for name in image.get("RepoTags") or ()]
    for repository, tags in indexes.get(LEGACY, {}).items():
        names += [f"{repository}:{tag}" for tag in tags]
    for manifest in indexes.get(OCI, {}).get("manifests") or ():
        annotations = manifest.get("annotations") or {}
        full = [text for key, text in annotations.items() if key.startswith(f"{_CONTAINERD}image.name")]
        ref = annotations.get(_REF_NAME)
        # If there is a full name too, Docker puts only the tag here.
        names += full + ([ref] if ref and not any(name.endswith(f":{ref}") for name in full) else [])
    return sorted({_full_name(str(name)) for name in names})


def split_registry(name: str) -> tuple[str, str]:
    """Return the registry of an image's name, completed as an engine does, and the rest.

    >>> split_registry("python"), split_registry("localhost/shop:1")
    (('docker.io', 'library/python'), ('localhost', 'shop:1'))
    """
    first, slash, rest = name.partition("/")
    if not (slash and (set(".:") & set(first) or first == "localhost")):
        first, rest = DEFAULT_REGISTRY, name
    return first, f"library/{rest}" if first == DEFAULT_REGISTRY and "/" not in rest else rest


def _full_name(name: str) -> str:
    """Return the name of an image with its registry and tag, as an engine completes it.

    >>> [_full_name(name) for name in ("shop", "team/shop:1", "localhost/shop", "r:5000/shop:1")]
    ['docker.io/library/shop:latest', 'docker.io/team/shop:1', 'localhost/shop:latest', 'r:5000/shop:1']
    """
    registry, rest = split_registry(name)
    return f"{registry}/{rest}" if ":" in rest else f"{registry}/{rest}:{DEFAULT_TAG}"


def _without_names(indexes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files that list the images without any names.

    :raises ArchiveError: when they list no image or several.
    """
    anonymous: dict[str, Any] = {}
    if DOCKER in indexes:
        images = {image["Config"]: image for image in indexes[DOCKER]}
        anonymous[DOCKER] = [{**_pick(image, _OF_IMAGE), "RepoTags": None} for image in images.values()]
        count = len(images)
    if OCI in indexes:
        manifests = {manifest["digest"]: manifest for manifest in indexes[OCI]["manifests"]}
        entries = [
            {**_pick(manifest, _OF_MANIFEST), "annotations": _without_name_annotations(manifest)}
            for manifest in manifests.values()
        ]
        anonymous[OCI] = {**_pick(indexes[OCI], _OF_INDEX), "manifests": entries}
        count = len(manifests)
    if not anonymous:
        raise ArchiveError("The archive has an obsolete format. Make it again with 'podman save' or 'docker save'.")
    if count != 1:
        raise ArchiveError(describe_count(count))
    return anonymous


def _without_name_annotations(manifest: Mapping[str, Any]) -> dict[str, Any]:
    annotations = manifest.get("annotations") or {}
    return {key: text for key, text in annotations.items() if key != _REF_NAME and not key.startswith(_CONTAINERD)}


def _pick(entry: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}
