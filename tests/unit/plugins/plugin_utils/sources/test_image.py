# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which image is meant: names taken apart, a registry asked over TLS, archives read."""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import ipaddress
import json
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import image as images
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import (
    Reference,
    is_image_archive,
    parse_archive,
    parse_reference,
    read_image,
    resolve_digest,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DIGEST = f"sha256:{'d' * 64}"
MANIFEST = b'{"schemaVersion": 2}'
LOGIN = {"username": "deploy", "password": "hunter2"}
BASIC = f"Basic {base64.b64encode(b'deploy:hunter2').decode()}"

# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "registry", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", "latest", ""),
        ("python:3.13-slim", "docker.io", "library/python", "3.13-slim", ""),
        ("docker.io/python:3", "docker.io", "library/python", "3", ""),
        ("team/shop", "docker.io", "team/shop", "latest", ""),
        ("docker.io/team/shop", "docker.io", "team/shop", "latest", ""),
        ("localhost/shop:1.4", "localhost", "shop", "1.4", ""),
        ("registry.example.org/shop", "registry.example.org", "shop", "latest", ""),
        ("registry:5000/team/shop:1.4", "registry:5000", "team/shop", "1.4", ""),
        ("[2001:db8::1]:5000/shop:1", "[2001:db8::1]:5000", "shop", "1", ""),
        (f"registry.example.org/a/b/c@{DIGEST}", "registry.example.org", "a/b/c", "", DIGEST),
        (f"registry.example.org/shop:1.4@{DIGEST}", "registry.example.org", "shop", "1.4", DIGEST),
    ],
)
def test_a_name_is_taken_apart(image: str, registry: str, repository: str, tag: str, digest: str) -> None:
    named = parse_reference(image)
    assert named == Reference(registry, repository, tag, digest)
    assert named.name == f"{registry}/{repository}"


@pytest.mark.parametrize(
    "image",
    [
        *(
            "",
            ":",
            "Shop",
            "a//b",
            "a/-b",
            "a..b",
            "shop:1:4",
            "shop:-x",
            "shop:ü",
            f"shop:{'x' * 129}",
            "registry.example.org/",
        ),
        *(
            "registry.example.org/Shop",
            "https://registry.example.org/shop",
            "registry.example.org/shop/",
            "a b",
            "-shop",
        ),
        *("shop@sha256:abc", f"shop@md5:{'d' * 64}", f"shop@{DIGEST}0", "shop;true"),
    ],
)
def test_what_is_no_name(image: str) -> None:
    with pytest.raises(SourceError, match=r"^Expected source\.image as the name of an image, such as") as caught:
        parse_reference(image)
    assert str(caught.value).endswith(f"got {image!r}.")


# -- a registry --------------------------------------------------------------------------------------------------------


class Registry:
    """A registry on this host, over TLS, with an authority that nobody else knows.

    :ivar auth: ``none``, ``basic`` or ``bearer``, or a challenge as it is sent.
    :ivar asked: path and ``Authorization`` of each request.
    """

    def __init__(self, authority: Path) -> None:
        self.auth, self.status, self.digest, self.token = "none", 200, DIGEST, {"token": "t0ken"}
        self.asked: list[tuple[str, str]] = []
        self.accepted: list[str] = []
        self.authority = authority
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                registry.asked.append((self.path, given))
                registry.accepted += self.headers.get_all("Accept", [])
                registry.answer(self, urlsplit(self.path), given)

            def say(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_unused: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def answer(self, request: Any, url: Any, given: str) -> None:
        challenges = {
            "basic": 'Basic realm="registry"',
            "bearer": f'Bearer realm="https://{self.name}/token",service="reg",scope="repository:team/shop:pull"',
        }
        wanted = {"none": "", "basic": BASIC, "bearer": "Bearer t0ken"}.get(self.auth, "nothing will do")
        if url.path == "/token":
            request.say(200 if given in ("", BASIC) else 401, json.dumps(self.token).encode())
        elif wanted and given != wanted:
            request.say(401, b"{}", WWW_Authenticate=challenges.get(self.auth, self.auth))
        else:
            headers = {"Docker_Content_Digest": self.digest} if self.digest else {}
            request.say(self.status, MANIFEST, **headers)

    def resolve(self, image: str = "team/shop:1.4", login: dict[str, str] | None = None) -> str:
        authorities = {self.name: str(self.authority)}
        return resolve_digest(parse_reference(f"{self.name}/{image}"), {self.name: login} if login else {}, authorities)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, which is its own authority, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a registry")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("registry") / "ca.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.fixture
def registry(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    registry = Registry(authority)
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.01,))
    thread.start()
    yield registry
    registry.server.shutdown()
    thread.join()
    registry.server.server_close()


def test_a_registry_is_asked_for_the_digest_of_a_tag(registry: Registry) -> None:
    assert registry.resolve() == DIGEST
    assert registry.asked == [("/v2/team/shop/manifests/1.4", "")]
    # Of an image for several platforms the digest of the whole is meant.
    assert "application/vnd.oci.image.index.v1+json" in registry.accepted[0]


def test_what_has_a_digest_is_not_asked_for(registry: Registry) -> None:
    assert registry.resolve(f"team/shop:1.4@sha256:{'e' * 64}") == f"sha256:{'e' * 64}"
    assert registry.asked == []


def test_a_registry_that_names_no_digest(registry: Registry) -> None:
    registry.digest = ""
    assert registry.resolve() == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


def test_a_name_and_a_password_are_given_when_they_are_asked_for(registry: Registry) -> None:
    assert registry.resolve(login=LOGIN) == DIGEST
    assert {given for _unused, given in registry.asked} == {""}
    registry.auth = "basic"
    assert registry.resolve(login=LOGIN) == DIGEST
    assert registry.asked[-1] == ("/v2/team/shop/manifests/1.4", BASIC)


@pytest.mark.parametrize("token", [{"token": "t0ken"}, {"access_token": "t0ken"}])
@pytest.mark.parametrize(("login", "given"), [(LOGIN, BASIC), (None, "")])
def test_a_token_is_fetched_where_the_registry_says(
    registry: Registry, token: dict[str, str], login: dict[str, str] | None, given: str
) -> None:
    registry.auth, registry.token = "bearer", token
    assert registry.resolve(login=login) == DIGEST
    path, sent = registry.asked[1]
    assert (urlsplit(path).path, sent) == ("/token", given)
    assert parse_qs(urlsplit(path).query) == {"service": ["reg"], "scope": ["repository:team/shop:pull"]}
    assert registry.asked[2] == ("/v2/team/shop/manifests/1.4", "Bearer t0ken")


def test_a_netrc_does_not_take_the_place_of_a_token(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1\nlogin me\npassword other\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    registry.auth = "bearer"
    assert registry.resolve(login=LOGIN) == DIGEST


WRONG = {**LOGIN, "password": "wrong-password"}


@pytest.mark.parametrize(
    ("change", "login", "message"),
    [
        ({"status": 404}, None, "answers 404 for team/shop:1.4 (source.image). Check the name and the tag"),
        ({"status": 500}, None, "answers 500 for team/shop:1.4 (source.image). Check the registry, then"),
        ({"auth": "basic"}, None, "answers 401 for team/shop:1.4 (source.image). Check the registry's entry in"),
        ({"auth": "basic"}, WRONG, "answers 401 for team/shop:1.4"),
        ({"auth": "bearer"}, WRONG, "failed: https://{name}/token answers 401"),
        ({"auth": "bearer", "token": {}}, LOGIN, "answers 401 for team/shop:1.4"),
        ({"auth": "bearer", "token": {"token": "other"}}, LOGIN, "answers 401 for team/shop:1.4"),
        ({"auth": 'Bearer service="reg"'}, LOGIN, "failed: "),
        ({"auth": 'Bearer realm="no url"'}, LOGIN, "failed: "),
        ({"auth": "Negotiate"}, LOGIN, "answers 401 for team/shop:1.4"),
        ({"auth": ""}, LOGIN, "answers 401 for team/shop:1.4"),
    ],
)
def test_a_registry_without_an_answer(
    registry: Registry, change: dict[str, Any], login: dict[str, str] | None, message: str
) -> None:
    vars(registry).update(change)
    with pytest.raises(SourceError) as caught:
        registry.resolve(login=login)
    assert registry.name in str(caught.value)
    assert message.format(name=registry.name) in str(caught.value)
    assert not [word for word in ("wrong-password", "hunter2", "Basic") if word in str(caught.value)]


def test_a_registry_of_an_unknown_authority_is_not_believed(registry: Registry) -> None:
    with pytest.raises(SourceError, match=r"for team/shop:1\.4 \(source\.image\) failed: .*CERTIFICATE_VERIFY_FAILED"):
        resolve_digest(parse_reference(f"{registry.name}/team/shop:1.4"), {registry.name: LOGIN}, {})
    assert registry.asked == []


def test_a_registry_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(SourceError, match=r"registry 127\.0\.0\.1:1 for shop:1 \(source\.image\) failed: .*refused"):
        resolve_digest(parse_reference("127.0.0.1:1/shop:1"), {}, {})


def test_something_else_than_a_registry(registry: Registry) -> None:
    registry.answer = lambda request, *_unused: request.wfile.write(b"SSH-2.0\r\n")  # type: ignore[method-assign]
    with pytest.raises(SourceError, match=r"for team/shop:1\.4 \(source\.image\) failed: "):
        registry.resolve()


def test_docker_hub_is_asked_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(url: str, *_unused: Any) -> Any:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr(images, "_request", ask)
    with pytest.raises(
        SourceError, match=r"registry docker\.io for library/python:3 \(source\.image\) failed: no network\. Check"
    ):
        resolve_digest(parse_reference("python:3"), {}, {})
    assert asked == ["https://registry-1.docker.io/v2/library/python/manifests/3"]


# -- archives ----------------------------------------------------------------------------------------------------------


def digest_of(archive: Path) -> str:
    return read_image(archive)[0]


CONFIG = b'{"architecture": "amd64"}'
CONFIG_DIGEST = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"


def packed(path: Path, mode: str = "w", **members: bytes | str) -> Path:
    """Write a tar archive; a double underscore in a name stands for a dot."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def docker_archive(path: Path, *configs: bytes, mode: str = "w") -> Path:
    named = {f"c{number}__json": config for number, config in enumerate(configs)}
    manifest: list[dict[str, Any]] = [
        {"Config": name.replace("__", "."), "RepoTags": None, "Layers": []} for name in named
    ]
    return packed(path, mode, **named, manifest__json=json.dumps(manifest))


def oci_archive(path: Path, *digests: str) -> Path:
    index = {"schemaVersion": 2, "manifests": [{"digest": digest} for digest in digests]}
    return packed(path, oci=b"", index__json=json.dumps(index))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_the_image_of_a_docker_archive_is_its_configuration(tmp_path: Path, mode: str) -> None:
    archive = docker_archive(tmp_path / "a.tar", CONFIG, mode=mode)
    assert digest_of(archive) == CONFIG_DIGEST
    assert is_image_archive(archive)


def test_the_image_of_an_oci_archive_is_its_manifest(tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "a.tar", DIGEST)
    assert digest_of(archive) == DIGEST
    assert is_image_archive(archive)


def test_an_archive_of_both_kinds_as_docker_writes_it(tmp_path: Path) -> None:
    manifest = json.dumps([{"Config": "c.json"}])
    index = json.dumps({"manifests": [{"digest": DIGEST}]})
    archive = packed(tmp_path / "a.tar", c__json=CONFIG, manifest__json=manifest, index__json=index)
    assert digest_of(archive) == DIGEST


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("kind", [docker_archive, oci_archive])
def test_an_archive_holds_one_image(tmp_path: Path, kind: Callable[..., Path], count: int) -> None:
    archive = kind(tmp_path / "a.tar", *([CONFIG, b"{}"] if kind is docker_archive else [DIGEST, DIGEST])[:count])
    with pytest.raises(SourceError, match=f"holds {count} images, expected one"):
        digest_of(archive)


def named(path: Path, tags: list[str] | None, annotations: Sequence[dict[str, str]] = (), legacy: Any = None) -> Path:
    members: dict[str, Any] = {
        "c__json": CONFIG,
        "manifest__json": json.dumps([{"Config": "c.json", "RepoTags": tags}]),
    }
    if annotations:
        entries = [{"digest": DIGEST, "annotations": entry} for entry in annotations]
        members["index__json"] = json.dumps({"manifests": entries})
    if legacy:
        members["repositories"] = json.dumps(legacy)
    return packed(path, **members)


REF, NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


@pytest.mark.parametrize(
    ("tags", "annotations", "legacy"),
    [
        (["shop:1.4"], [], None),
        (["docker.io/library/shop:1.4"], [], {"shop": {"1.4": "abc"}}),
        (["shop:1.4"], [{NAME: "docker.io/library/shop:1.4", REF: "1.4"}], {"shop": {"1.4": "abc"}}),
        (["localhost/shop:latest"], [{REF: "localhost/shop"}], None),
        (None, [{REF: "latest"}], None),
    ],
)
def test_an_archive_with_the_one_name_that_engines_write(
    tmp_path: Path, tags: Any, annotations: Any, legacy: Any
) -> None:
    assert digest_of(named(tmp_path / "a.tar", tags, annotations, legacy))


@pytest.mark.parametrize(
    ("tags", "annotations", "legacy"),
    [
        (["shop:1", "localhost/flaskops/victim:abc"], [], None),
        (["shop:1"], [], {"python": {"3.13-slim": "abc"}}),
        (["shop:1"], [{NAME: "docker.io/library/python:3.13-slim"}], None),
        (["shop:1"], [{NAME: "docker.io/library/shop:1", REF: "docker.io/library/python:3.13-slim"}], None),
        (None, [{REF: "shop:1"}, {REF: "python:3.13-slim"}], None),
        (None, [], {"shop": {"1": "abc", "2": "abc"}}),
    ],
)
def test_an_archive_with_further_names_is_refused(tmp_path: Path, tags: Any, annotations: Any, legacy: Any) -> None:
    archive = named(tmp_path / "a.tar", tags, annotations, legacy)
    words = r"a\.tar: The archive gives its image 2 names \(.*(shop:1|victim).*\), expected one: .*\. Save the image under one name"
    with pytest.raises(SourceError, match=words):
        digest_of(archive)
    assert is_image_archive(archive), "it is no archive of code for all that"


def test_an_archive_that_names_itself_twice_over_is_refused(tmp_path: Path) -> None:
    """Two readers of one archive can take different ones of two members with one name."""
    with tarfile.open(named(tmp_path / "a.tar", ["shop:1"]), "a") as tar:
        info = tarfile.TarInfo("./manifest.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"[]"))
    with pytest.raises(SourceError, match=r"The archive holds manifest\.json twice"):
        digest_of(tmp_path / "a.tar")


def test_an_archive_of_nothing_but_brackets(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read as an image archive"):
        digest_of(packed(tmp_path / "a.tar", manifest__json="[" * 100000))


@pytest.mark.parametrize(
    "members",
    [
        {"shop__py": "x = 1\n"},
        # Of a web app, which is not to be taken for an image.
        {"manifest__json": '{"name": "Shop", "icons": []}'},
        {"manifest__json": '["a", "b"]'},
        {"manifest__json": '[{"Config": "missing.json"}]'},
        {"manifest__json": "null"},
        {"manifest__json": "no JSON"},
        {"manifest__json": b"\xff"},
        {"index__json": '["a"]'},
        {"index__json": '{"manifests": {"a": 1}}'},
        {"index__json": "{}"},
    ],
)
def test_an_archive_of_code_is_none_of_an_image(tmp_path: Path, members: dict[str, Any]) -> None:
    archive = packed(tmp_path / "code.tar", **members)
    assert not is_image_archive(archive)
    with pytest.raises(
        SourceError, match=r"code\.tar: The file (is not an image archive|cannot be read as an image archive)"
    ):
        digest_of(archive)


def test_what_is_no_archive_at_all(tmp_path: Path) -> None:
    whole = docker_archive(tmp_path / "a.tar.gz", CONFIG * 4000, mode="w:gz").read_bytes()
    for content in (b"", b"text", b"PK\x03\x04", whole[: len(whole) // 2]):
        (tmp_path / "x").write_bytes(content)
        assert not is_image_archive(tmp_path / "x")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SourceError, match="cannot be read as an image archive"):
            digest_of(path)


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("docker-archive:shop.tar", "shop.tar"),
        ("oci-archive:/srv/a:b.tar", "/srv/a:b.tar"),
        ("docker-archive:", ""),
        ("docker-archive", None),
        ("registry:5000/shop", None),
        ("shop:1.4", None),
    ],
)
def test_the_path_of_an_archive(image: str, path: str | None) -> None:
    assert parse_archive(image) == path


# -- as a source -------------------------------------------------------------------------------------------------------


def test_an_image_of_a_registry_is_named_by_its_digest(registry: Registry, tmp_path: Path) -> None:
    registry.auth = "basic"
    variables = {
        "container_registry_logins": {registry.name: LOGIN},
        # Relative paths start from the inventory.
        "container_registry_authorities": {registry.name: registry.authority.name},
    }
    image = f"{registry.name}/team/shop:1.4"
    made = build({"image": image}, tmp_path / "cache", str(registry.authority.parent), variables)
    assert (made.path, made.sha256, made.image) == (None, DIGEST, f"{registry.name}/team/shop@{DIGEST}")
    assert made.source == {"kind": "image", "image": image, "version": "1.4", "digest": DIGEST}


def test_an_archive_of_an_image_is_one_where_the_server_runs_images(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "shop.tar", b"{}")
    for source in ({"archive": "shop.tar"}, {"image": "docker-archive:shop.tar"}):
        made = build(source, tmp_path / "cache", str(tmp_path), {})
        assert (made.sha256, made.image) == (digest_of(path), "shop.tar")
        assert made.path and made.path.parent == tmp_path / "cache/artifacts"
        assert made.source == {"kind": "image archive", "path": str(path)}
    code = build({"archive": "shop.tar"}, tmp_path / "cache", str(tmp_path))
    assert (code.source["kind"], code.image) == ("archive", "")
