# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An image as the source of an app: the controller resolves it to a digest."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import tarfile
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ansible.module_utils.urls import open_url
from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.cli import repository
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image_archive import (
    DEFAULT_REGISTRY,
    DEFAULT_TAG,
    UNREADABLE,
    ArchiveError,
    copy_without_names,
    describe_count,
    describe_damage,
    describe_names,
    read_names,
    split_registry,
)

#: Archives by the name of their transport (containers-transports(5)).
ARCHIVES = ("docker-archive", "oci-archive")
#: The host that serves the API of Docker Hub.
DEFAULT_API = "registry-1.docker.io"
#: Seconds to wait for a registry.
TIMEOUT = 30


_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_MANIFESTS = ", ".join(
    f"application/vnd.{name}+json"
    for name in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


@dataclass(frozen=True)
class Reference:
    """The parts of an image's name.

    :param registry: such as ``registry.example.org:5000``.
    :param repository: such as ``team/shop``.
    :param tag: such as ``1.4``; empty if there is only a digest.
    :param digest: such as ``sha256:...``; empty if there is none.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"


def from_image(source: Mapping[str, Any], cache: Path, base_dir: str, variables: Mapping[str, Any]) -> Artifact:
    """Resolve an image to its digest; an archive is copied without the names that it gives the image.

    :param base_dir: the directory that relative paths start from.
    :param variables: ``container_registry_logins`` and ``container_registry_authorities`` of the role.
    :raises SourceError: when the image cannot be found or read.
    """
    image = str(source["image"])
    archive = parse_archive(image)
    if archive:
        path = Path(base_dir, os.path.expanduser(archive))
        digest, names = read_image(path)
        try:
            copy = copy_without_names(path, cache)
        except ArchiveError as error:
            raise SourceError(f"source.image {path}: {error}") from error
        return Artifact(copy, digest, {"kind": "image archive", "path": str(path)}, path.name, names)
    named = parse_reference(image)
    authorities = {
        name: str(Path(base_dir, os.path.expanduser(path)))
        for name, path in variables.get("container_registry_authorities", {}).items()
    }
    digest = resolve_digest(named, variables.get("container_registry_logins", {}), authorities)
    origin = {"kind": "image", "image": image, "version": named.tag or digest[:19], "digest": digest}
    return Artifact(None, digest, origin, f"{named.name}@{digest}")


def parse_reference(image: str) -> Reference:
    """Parse the name of an image.

    >>> parse_reference("registry.example.org:5000/team/shop:1.4")
    Reference(registry='registry.example.org:5000', repository='team/shop', tag='1.4', digest='')
    >>> parse_reference("python").name
    'docker.io/library/python'

    :raises SourceError: when it is not a name of an image.
    """
    name, _unused, digest = image.partition("@")
    registry, rest = split_registry(name)
    repository, _unused, tag = rest.partition(":")
    if (
        not re.fullmatch(rf"{_COMPONENT}(/{_COMPONENT})*", repository)
        or (tag and not re.fullmatch(r"\w[\w.-]{0,127}", tag, re.ASCII))
        or (digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest))
    ):
        raise SourceError(
            f"Expected source.image as the name of an image, such as registry.example.org/shop:1.4, got {masked(image)!r}."
        )
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def resolve_digest(named: Reference, logins: Mapping[str, Mapping[str, str]], authorities: Mapping[str, str]) -> str:
    """Return the digest that a registry has for a tag; if the name holds a digest, that one.

    :param logins: ``username`` and ``password`` by registry.
    :param authorities: files with certificate authorities by registry.
    :raises SourceError: when the registry does not answer, or does not have it.
    """
    if named.digest:
        return named.digest
    api = DEFAULT_API if named.registry == DEFAULT_REGISTRY else named.registry
    url = f"https://{api}/v2/{named.repository}/manifests/{quote(named.tag)}"
    login, authority = logins.get(named.registry, {}), authorities.get(named.registry)
    try:
        response = _request(url, authority)
        if response.status == 401:
            response = _request(
                url, authority, _answer_challenge(response.headers.get("WWW-Authenticate", ""), login, authority)
            )
        if response.status != 200:
            raise SourceError(
                f"The registry {named.registry} answers {response.status} for {named.repository}:{named.tag} (source.image). "
                f"{_advise(response.status)}"
            )
        return str(
            response.headers.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(response.read()).hexdigest()}"
        )
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(
            f"Asking the registry {named.registry} for {named.repository}:{named.tag} (source.image) failed: {error}. "
            "Check that the controller can reach it, and container_registry_authorities if its certificate comes from your "
            "own authority."
        ) from error


def _advise(status: int) -> str:
    """Return what to do about a registry's answer."""
    if status in (401, 403):
        return "Check the registry's entry in container_registry_logins."
    if status == 404:
        return "Check the name and the tag, and that the image was pushed."
    return "Check the registry, then deploy again."


def _request(url: str, authority: str | None, authorization: str = "") -> Any:
    headers = {"Accept": _MANIFESTS, **({"Authorization": authorization} if authorization else {})}
    try:
        return open_url(
            url, headers=headers, ca_path=authority, timeout=TIMEOUT, http_agent="flaskops", use_netrc=False
        )
    except urllib.error.HTTPError as error:
        return error


def _answer_challenge(challenge: str, login: Mapping[str, str], authority: str | None) -> str:
    """Return the header that answers a registry's challenge (https://distribution.github.io/distribution/spec/auth/token/).

    :raises ValueError: when the token server refuses.
    """
    pair = base64.b64encode(f"{login.get('username', '')}:{login.get('password', '')}".encode()).decode()
    basic = f"Basic {pair}" if login else ""
    scheme, _unused, parameters = challenge.partition(" ")
    if scheme.lower() != "bearer":
        return basic
    fields = dict(re.findall(r'(\w+)="([^"]*)"', parameters))
    query = urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    realm = fields.get("realm", "")
    response = _request(f"{realm}?{query}", authority, basic)
    if response.status != 200:
        raise ValueError(f"{realm} answers {response.status}")
    token = json.loads(response.read())
    return f"Bearer {token.get('token') or token.get('access_token')}"


def parse_archive(image: str) -> str | None:
    """Return the path in the name of an image archive (``docker-archive:shop.tar``); None for any other name."""
    transport, colon, path = image.partition(":")
    return path if colon and transport in ARCHIVES else None


def refuse_foreign_names(artifact: Artifact, app: str) -> None:
    """Refuse an image archive whose name for the image belongs to a release of another app.

    :raises SourceError: with the name.
    """
    for name in artifact.names:
        if name.startswith(repository("")) and name.rpartition(":")[0] != repository(app):
            raise SourceError(
                f"source.image {artifact.source['path']}: The archive names its image {name}, which belongs to a release "
                "of another app. Save the image under another name."
            )


def read_image(archive: Path) -> tuple[str, list[str]]:
    """Return the digest of the image in an archive and the names that it has there; needs no container engine.

    :raises SourceError: when it is not an image archive, holds several images, or one with several names.
    """
    digests, names = _read_images(archive)
    if len(names) > 1 and len(set(digests)) == 1:
        raise SourceError(f"source.image {archive}: {describe_names(names)}")
    if len(digests) != 1:
        raise SourceError(f"source.image {archive}: {describe_count(len(digests))}")
    return digests[0], names


def is_image_archive(path: Path) -> bool:
    """Whether a file is an archive of an image, and not one of code."""
    try:
        return bool(_read_images(path)[0])
    except SourceError:
        return False


def _read_images(archive: Path) -> tuple[list[str], list[str]]:
    """Return the digests of the images in an archive, and all names that they would have after loading it.

    :raises SourceError: when it is not an image archive.
    """
    try:
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            if "index.json" in names:
                manifests = json.loads(_read_member(tar, "index.json"))["manifests"]
                digests = [str(manifest["digest"]) for manifest in manifests]
            elif "manifest.json" in names:
                images = json.loads(_read_member(tar, "manifest.json"))
                digests = [
                    f"sha256:{hashlib.sha256(_read_member(tar, image['Config'])).hexdigest()}" for image in images
                ]
            else:
                raise ArchiveError("The file is not an image archive. Make one with 'podman save' or 'docker save'.")
            return digests, read_names(tar)
    except ArchiveError as error:
        raise SourceError(f"source.image {archive}: {error}") from error
    except (OSError, *UNREADABLE) as error:
        raise SourceError(f"source.image {archive}: {describe_damage(error)}") from error


def _read_member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()
