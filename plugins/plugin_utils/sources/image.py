# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as the source of an app, on the controller: which one is meant, by its digest."""

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
    UNREADABLE,
    ArchiveError,
    nameless,
    names_in,
    several_names,
)

#: Archives by the name of their transport (containers-transports(5)).
ARCHIVES = ("docker-archive", "oci-archive")
#: What a name without a registry means, as Docker reads it (https://pkg.go.dev/github.com/distribution/reference).
DEFAULT_REGISTRY, DEFAULT_API, DEFAULT_TAG = "docker.io", "registry-1.docker.io", "latest"
#: Seconds that a registry may take to answer.
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
    """The name of an image, taken apart.

    :param registry: such as ``registry.example.org:5000``.
    :param repository: such as ``team/shop``.
    :param tag: such as ``1.4``; empty where there is a digest alone.
    :param digest: such as ``sha256:...``; empty where there is none.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"


def from_image(source: Mapping[str, Any], cache: Path, here: str, variables: Mapping[str, Any]) -> Artifact:
    """Say which image is meant, by its digest: nothing is packed, but an archive loses its names.

    :param here: the directory that relative paths start from.
    :param variables: ``container_registry_logins`` and ``container_registry_authorities`` of the role.
    """
    image = str(source["image"])
    archive = archive_of(image)
    if archive:
        path = Path(here, os.path.expanduser(archive))
        digest, names = image_in(path)
        try:
            copy = nameless(path, cache)
        except ArchiveError as error:
            raise SourceError(f"source.image: {path} {error}") from error
        return Artifact(copy, digest, {"kind": "image archive", "path": str(path)}, path.name, names)
    named = reference(image)
    authorities = {
        name: str(Path(here, os.path.expanduser(path)))
        for name, path in variables.get("container_registry_authorities", {}).items()
    }
    digest = resolve(named, variables.get("container_registry_logins", {}), authorities)
    facts = {"kind": "image", "image": image, "version": named.tag or digest[:19], "digest": digest}
    return Artifact(None, digest, facts, f"{named.name}@{digest}")


def reference(image: str) -> Reference:
    """Take the name of an image apart.

    >>> reference("registry.example.org:5000/team/shop:1.4")
    Reference(registry='registry.example.org:5000', repository='team/shop', tag='1.4', digest='')
    >>> reference("python").name
    'docker.io/library/python'

    :raises SourceError: when it is not one.
    """
    name, _, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if slash and (set(".:") & set(first) or first == "localhost"):
        registry = first
    else:
        registry, rest = DEFAULT_REGISTRY, name
    repository, _, tag = rest.partition(":")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if (
        not re.fullmatch(rf"{_COMPONENT}(/{_COMPONENT})*", repository)
        or (tag and not re.fullmatch(r"\w[\w.-]{0,127}", tag, re.ASCII))
        or (digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest))
    ):
        raise SourceError(
            f"source.image: {masked(image)} is not the name of an image, such as registry.example.org/shop:1.4"
        )
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def resolve(named: Reference, logins: Mapping[str, Mapping[str, str]], authorities: Mapping[str, str]) -> str:
    """Return the digest that a registry has for a tag; the one that is given where it is given.

    :param logins: ``username`` and ``password`` by registry.
    :param authorities: files with certificate authorities by registry.
    :raises SourceError: where the registry does not say, with the reason.
    """
    if named.digest:
        return named.digest
    api = DEFAULT_API if named.registry == DEFAULT_REGISTRY else named.registry
    url = f"https://{api}/v2/{named.repository}/manifests/{quote(named.tag)}"
    login, authority = logins.get(named.registry, {}), authorities.get(named.registry)
    try:
        answer = _ask(url, authority)
        if answer.status == 401:
            answer = _ask(url, authority, _authorization(answer.headers.get("WWW-Authenticate", ""), login, authority))
        if answer.status != 200:
            raise SourceError(
                f"source.image: {named.registry} answers {answer.status} for {named.repository}:{named.tag}"
            )
        return str(answer.headers.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(answer.read()).hexdigest()}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(
            f"source.image: {named.registry} cannot be asked for {named.repository}:{named.tag}: {error}"
        ) from error


def _ask(url: str, authority: str | None, authorization: str = "") -> Any:
    headers = {"Accept": _MANIFESTS, **({"Authorization": authorization} if authorization else {})}
    try:
        return open_url(
            url, headers=headers, ca_path=authority, timeout=TIMEOUT, http_agent="flaskops", use_netrc=False
        )
    except urllib.error.HTTPError as error:
        return error


def _authorization(challenge: str, login: Mapping[str, str], authority: str | None) -> str:
    """Answer a registry's challenge (https://distribution.github.io/distribution/spec/auth/token/)."""
    pair = base64.b64encode(f"{login.get('username', '')}:{login.get('password', '')}".encode()).decode()
    basic = f"Basic {pair}" if login else ""
    scheme, _, parameters = challenge.partition(" ")
    if scheme.lower() != "bearer":
        return basic
    asked = dict(re.findall(r'(\w+)="([^"]*)"', parameters))
    query = urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
    realm = asked.get("realm", "")
    answer = _ask(f"{realm}?{query}", authority, basic)
    if answer.status != 200:
        raise ValueError(f"{realm} answers {answer.status}")
    token = json.loads(answer.read())
    return f"Bearer {token.get('token') or token.get('access_token')}"


def archive_of(image: str) -> str | None:
    """Return the path of an image that is an archive (``docker-archive:shop.tar``), None for any other."""
    transport, colon, path = image.partition(":")
    return path if colon and transport in ARCHIVES else None


def refuse_names_of_others(artifact: Artifact, app: str) -> None:
    """Refuse the archive of an image that is called as a release of another app is.

    :raises SourceError: saying so.
    """
    for name in artifact.names:
        if name.startswith(repository("")) and name.rpartition(":")[0] != repository(app):
            raise SourceError(
                f"source.image: {artifact.source['path']} names its image {name}, as another app's release is named; save "
                "it by another name"
            )


def image_in(archive: Path) -> tuple[str, list[str]]:
    """Return the digest of the image in an archive and what it is called there, without an engine.

    :raises SourceError: when it is no image archive, or holds several images, or one with several names.
    """
    digests, names = _images_in(archive)
    if len(names) > 1 and len(set(digests)) == 1:
        raise SourceError(f"source.image: {archive} {several_names(names)}")
    if len(digests) != 1:
        raise SourceError(f"source.image: {archive} holds {len(digests)} images, expected one")
    return digests[0], names


def is_archive(path: Path) -> bool:
    """Say whether a file is an archive of an image, and not one of code."""
    try:
        return bool(_images_in(path)[0])
    except SourceError:
        return False


def _images_in(archive: Path) -> tuple[list[str], list[str]]:
    """Return the digests of the images in an archive, and all names that they would have once loaded."""
    try:
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            if "index.json" in names:
                manifests = json.loads(_member(tar, "index.json"))["manifests"]
                digests = [str(manifest["digest"]) for manifest in manifests]
            elif "manifest.json" in names:
                images = json.loads(_member(tar, "manifest.json"))
                digests = [f"sha256:{hashlib.sha256(_member(tar, image['Config'])).hexdigest()}" for image in images]
            else:
                raise SourceError(f"source.image: {archive} is not an image archive, as podman save writes it")
            return digests, names_in(tar)
    except ArchiveError as error:
        raise SourceError(f"source.image: {archive} cannot be read as an image archive: it {error}") from error
    except (OSError, *UNREADABLE) as error:
        raise SourceError(f"source.image: {archive} cannot be read as an image archive: {error}") from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()
