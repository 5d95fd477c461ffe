# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as the runtime of releases: built, pulled or loaded on the host, by Podman or Docker."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import posixpath
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import urls
from ansible_collections.flaskops.server.plugins.module_utils.host.archive import unpack
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import (
    Bundle,
    Runtime,
    RuntimeFault,
    Virtualenv,
)

#: What a project's own recipe is called, in the order of preference.
CONTAINERFILES = ("Containerfile", "Dockerfile")
#: Names and passwords for registries, as both engines read them; written by the role ``container``.
LOGINS = Path("/etc/flaskops/registry")
#: Seconds for one command of the engine: a build can have to compile.
TIMEOUT = 3600

#: Variables of the installer's environment that name a file with certificate authorities.
_AUTHORITIES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
#: Where a build finds the installer's environment and the certificate authorities, and nobody after it.
_IN_BUILD = "/run/secrets"


class Image:
    """Containers, each of an image that belongs to its release."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._pids: dict[str, int] = {}

    # -- of a release ------------------------------------------------------------------------------------------------

    def build(self, bundle: Bundle) -> dict[str, Any]:
        settings = _settings(bundle.staging)
        cli = Cli(settings["engine"])
        if not cli.is_there():
            raise RuntimeFault(f"{cli.name} is not on this host; the role container installs it")
        image = bundle.app["source"].get("image")
        tag = _tag(self.layout.name, bundle.release)
        (bundle.staging / "app").mkdir()
        if image and bundle.artifact:
            cli.load(bundle.artifact, image, tag)
        elif image:
            cli.pull(image, tag)
        else:
            self._build(cli, bundle, settings, tag)
        facts = cli.inspect(tag)
        if image:
            self._static(cli, bundle, tag)
        config = facts.get("Config") or {}
        directory = config.get("WorkingDir") or "/"
        # Read by serve/run, as a shell reads it.
        told = {
            "image": tag,
            "command": shlex.join([*_words(config.get("Entrypoint")), *_words(config.get("Cmd"))]),
            "directory": directory,
        }
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())
        write_file(bundle.staging / "serve" / "image", text, 0o640)
        return {"image": facts["Id"], "digests": facts.get("RepoDigests") or [], "engine": settings["engine"]}

    def environment(self, bundle: Bundle) -> dict[str, str]:
        return {
            "HOME": str(self.layout.shared),
            # Any Gunicorn in the image listens where nginx looks, unless its own command line says otherwise.
            "GUNICORN_CMD_ARGS": f"--bind=unix:/run/{self.layout.name}/http.sock",
        }

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        serve = self.layout.release(release) / "serve"
        # The container is given the release's own variables, by the same way as an instance.
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/root"}
        arguments = ["/bin/sh", str(serve / "run"), self._name(release, "command"), *command]
        return arguments, {"cwd": "/", "env": environment}

    def ended(self, release: str) -> None:
        self._cli(release).remove_container(self._name(release, "command"))

    def main_pid(self, release: str, unit_pid: int) -> int:
        if not unit_pid:
            return 0
        pid = self._pids.get(release, 0)
        if not pid or not Path(f"/proc/{pid}").exists():
            pid = self._pids[release] = self._cli(release).main_pid(self._name(release))
        return pid

    def prune(self, staged: list[str]) -> None:
        for name in ENGINES:
            cli = Cli(name)
            if cli.is_there():
                for tag in cli.tags(_repository(self.layout.name)):
                    if tag.rpartition(":")[2] not in staged:
                        cli.remove_image(tag)

    def _name(self, release: str, suffix: str = "") -> str:
        return "-".join(filter(None, [self.layout.name, release, suffix]))

    def _cli(self, release: str) -> Cli:
        return Cli(_settings(self.layout.release(release))["engine"])

    # -- making it ---------------------------------------------------------------------------------------------------

    def _build(self, cli: Cli, bundle: Bundle, settings: Mapping[str, Any], tag: str) -> None:
        """Build the image of a source, or get it from the registry where another host has put it."""
        code = bundle.staging / "app"
        code.rmdir()
        if bundle.artifact is None:
            raise RuntimeFault("no source was sent")
        unpack(bundle.artifact, code)
        shared = f"{settings['registry']}/{self.layout.name}:{bundle.release}" if settings["registry"] else ""
        if shared and cli.has(shared):
            cli.rename(shared, tag)
            return
        own = next((code / name for name in CONTAINERFILES if (code / name).is_file()), None)
        if own:
            cli.build(code, own, tag, bundle.app)
        else:
            with _context(bundle) as context:
                cli.build(context, bundle.staging / "serve" / "Containerfile", tag, bundle.app)
        if shared:
            cli.push(tag, shared)

    def _static(self, cli: Cli, bundle: Bundle, tag: str) -> None:
        """Take the files that nginx serves out of an image."""
        directory = (cli.inspect(tag).get("Config") or {}).get("WorkingDir") or "/"
        for entry in bundle.app["static"]:
            target = bundle.staging / "app" / entry["path"]
            cli.copy_out(tag, str(Path(directory, entry["path"])), target)


def runtimes_of(layout: Layout) -> dict[str, Runtime]:
    """Return every runtime for an app's releases, by the name that servers give."""
    return {"virtualenv": Virtualenv(layout), "image": Image(layout)}


# -- the engines -------------------------------------------------------------------------------------------------------

ENGINES = ("podman", "docker")


class Cli:
    """The command line of an engine: what both understand, and the few words in which they differ.

    :param name: ``podman`` or ``docker``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def is_there(self) -> bool:
        return shutil.which(self.name) is not None

    def build(self, context: Path, recipe: Path, tag: str, app: Mapping[str, Any]) -> None:
        """Build an image; what reaches the package index is there for the build and not in the image."""
        with tempfile.TemporaryDirectory(prefix="flaskops-build-") as scratch:
            installer = _installer(virtualenv.installer_env(), app["python"])
            secrets = _build_secrets(Path(scratch), installer)
            options = [word for name, path in secrets.items() for word in ("--secret", f"id={name},src={path}")]
            if self.name == "podman":
                # Docker's image format is the one that knows HEALTHCHECK.
                options += ["--format", "docker", "--layers"]
            self._run(
                [*("build", "--network", "host", "--file", str(recipe), "--tag", tag), *options, str(context)],
                f"the image cannot be built from {recipe.name}",
                urls.credentials(installer.values()),
            )

    def pull(self, image: str, tag: str) -> None:
        self._run(["pull", "--quiet", *self._logins(), image], f"the image {image} cannot be pulled")
        self._run(["tag", image, tag], f"the image {image} cannot be named")

    def push(self, tag: str, target: str) -> None:
        self._run(["tag", tag, target], f"the image cannot be named {target}")
        self._run(["push", "--quiet", *self._logins(), target], f"the image cannot be pushed to {target}")
        self._run(["image", "rm", target], f"the name {target} cannot be removed")

    def has(self, image: str) -> bool:
        """Say whether a registry has an image, and if so pull it."""
        try:
            self._run(["pull", "--quiet", *self._logins(), image], f"the image {image} cannot be pulled")
        except RuntimeFault:
            return False
        return True

    def rename(self, image: str, tag: str) -> None:
        """Give an image its release's name alone: with another one it would outlive the release."""
        self._run(["tag", image, tag], f"the image {image} cannot be named")
        self._run(["image", "rm", image], f"the name {image} cannot be removed")

    def load(self, archive: Path, image: str, tag: str) -> None:
        """Load an archive and name its image; no other name on this host comes to mean another image.

        :raises RuntimeFault: where it brings names of other apps, or more than one.
        """
        # Beside the archive, where there was room for it.
        with tempfile.TemporaryDirectory(prefix=".flaskops-image-", dir=archive.parent) as scratch:
            nameless = Path(scratch, "image.tar")
            try:
                names = without_names(archive, nameless)
            except ArchiveError as error:
                raise RuntimeFault(f"the image archive {image} {error}") from error
            for name in names:
                if name.startswith(_repository("")) and name.rpartition(":")[0] != tag.rpartition(":")[0]:
                    raise RuntimeFault(
                        f"the image archive {image} names its image {name}, as another app's release is named; save it "
                        "by another name"
                    )
            if len(names) > 1:
                raise RuntimeFault(f"the image archive {image} {several_names(names)}")
            given = nameless if nameless.exists() else archive
            said = self._run(["load", "--input", str(given)], f"the image archive {image} cannot be loaded")
        found = re.findall(r"^Loaded image(?:\(s\)| ID)?: (.+)$", said, re.MULTILINE)
        if not found:
            raise RuntimeFault(f"the image archive {image} holds no image", said)
        self._run(["tag", found[-1].split(",")[0].strip(), tag], f"the image of {image} cannot be named")

    def inspect(self, image: str) -> dict[str, Any]:
        said = self._run(["image", "inspect", image], f"the image {image} is not there")
        facts: dict[str, Any] = json.loads(said)[0]
        return facts

    def _facts(self, image: str) -> dict[str, Any]:
        try:
            return self.inspect(image)
        except RuntimeFault:
            return {}

    def copy_out(self, image: str, path: str, target: Path) -> None:
        """Copy a directory out of an image."""
        # Podman copies into a directory that is there.
        target.mkdir(parents=True, exist_ok=True)
        container = self._run(["create", image, "true"], f"the image {image} cannot be opened").split()[-1]
        try:
            self._run(["cp", f"{container}:{path}/.", f"{target}/"], f"the image has no directory {path}")
        finally:
            self.remove_container(container)

    def main_pid(self, container: str) -> int:
        said = self._call(["container", "inspect", "--format", "{{.State.Pid}}", container]).stdout.strip()
        return int(said) if said.isdigit() else 0

    def tags(self, repository: str) -> list[str]:
        listed = self._call(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]).stdout.split()
        return [tag for tag in listed if tag.startswith(f"{repository}:")]

    def remove_image(self, tag: str) -> None:
        """Remove an image, but for what else is made of it; one that cannot go now does so after a later deploy."""
        image = self._facts(tag).get("Id", "")
        self._call(["image", "rm", "--force", tag])
        # A pull by digest leaves a name that is no tag. With other tags it is another release's or somebody else's.
        left = self._facts(image) if image else {}
        if left and not left.get("RepoTags"):
            self._call(["image", "rm", image])

    def remove_container(self, container: str) -> None:
        self._call(["rm", "--force", container])

    def _logins(self) -> list[str]:
        file = LOGINS / "config.json"
        return ["--authfile", str(file)] if self.name == "podman" and file.is_file() else []

    def _call(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": "/root",
            "LANG": "C.UTF-8",
            # Docker's own builder; the one before it knows no secrets.
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_PROGRESS": "plain",
        }
        if (LOGINS / "config.json").is_file():
            environment["DOCKER_CONFIG"] = str(LOGINS)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            environment |= {key: os.environ[key] for key in (name, name.lower()) if key in os.environ}
        return subprocess.run(
            [self.name, *arguments],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            preexec_fn=virtualenv.die_with_parent,
            check=False,
        )

    def _run(self, arguments: Sequence[str], failed: str, credentials: Sequence[str] = ()) -> str:
        try:
            done = self._call(arguments)
        except subprocess.TimeoutExpired as error:
            raise RuntimeFault(f"{failed}: no end after {TIMEOUT} s") from error
        if done.returncode:
            raise RuntimeFault(failed, virtualenv.tail(of_build(done.stdout), credentials))
        return done.stdout


def of_build(said: str) -> str:
    """Return what the steps of a build said, without what the builder says of the steps.

    >>> of_build("STEP 2/9: RUN pip\\nERROR: no such package\\n--> 12ab\\n#8 1.2 ERROR: no such package\\n#8 DONE 1.2s\\n------\\n > [3/9] RUN pip:")
    'ERROR: no such package\\nERROR: no such package'
    """
    lines = []
    for line in said.partition("\n------\n")[0].splitlines():
        step = re.fullmatch(r"#\d+ (?:\d+\.\d+ (.*)|.*)", line)
        if step:
            lines += [step[1]] if step[1] else []
        elif not re.match(r"STEP \d+/\d+: |--> |Error: (?:error )?building at STEP ", line):
            lines.append(line)
    return "\n".join(lines)


def _repository(app: str) -> str:
    return f"localhost/flaskops/{app}"


def _tag(app: str, release: str) -> str:
    return f"{_repository(app)}:{release}"


def _settings(home: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((home / "serve" / "container.json").read_text())
    return settings


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]


# -- archives of images ------------------------------------------------------------------------------------------------

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


def without_names(archive: Path, target: Path) -> list[str]:
    """Copy an archive of an image so that an engine gives the image no name; layers and configuration stay as they are.

    :returns: the names that it had. There is no copy where the archive is none of images.
    :raises ArchiveError: when it cannot be read, or does not hold just one image.
    """
    try:
        with tarfile.open(archive) as tar:
            said = _indexes(tar)
            if not said:
                return []
            names, indexes = _names(said), _nameless(said)
            with tarfile.open(target, "w") as copy:
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
            return names
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


# -- what a build is given ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _context(bundle: Bundle) -> Iterator[Path]:
    """Lay out what the rendered Containerfile copies: the requirements by themselves, and the code."""
    needs = bundle.staging / "requirements"
    needs.mkdir()
    try:
        code = bundle.staging / "app"
        needed = virtualenv.requirements_text(code, bundle.app["python"])
        text = needed.text
        if str(code.resolve()) in text:
            # Packages of the app's own tree are installed from a copy that comes with the requirements.
            shutil.copytree(code, needs / "code", symlinks=True)
            text = text.replace(str(code.resolve()), "/requirements/code")
        names = {virtualenv.distribution_name(line) for line in text.splitlines()}
        missing = [item for item in bundle.server_packages if virtualenv.distribution_name(item) not in names]
        if missing and bundle.app["python"]["require_hashes"]:
            raise RuntimeFault(
                f"python.require_hashes is set, and the app's requirements do not bring {', '.join(missing)}: add it with "
                "its hash"
            )
        (needs / "app.txt").write_text(text)
        (needs / "app.options").write_text("--no-deps\n" if needed.locked else "")
        # What pip check says of the project itself, which is the code and not installed, where a lock's packages need it.
        (needs / "passed-over").write_text(
            f" requires {needed.itself}, which is not installed.\n" if needed.itself else ""
        )
        (needs / "server.txt").write_text("".join(f"{item}\n" for item in missing))
        (bundle.staging / ".dockerignore").write_text("*\n!requirements\n!app\n")
        yield bundle.staging
    finally:
        shutil.rmtree(needs)
        (bundle.staging / ".dockerignore").unlink(missing_ok=True)


def _installer(environment: Mapping[str, str], python: Mapping[str, Any]) -> dict[str, str]:
    """Return how pip reaches the package index: what the host says, and then the app."""
    told = dict(environment)
    if index := str(python.get("index_url") or ""):
        # It takes the place of all others.
        for name in ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
            told.pop(name, None)
        told |= {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index}
    if python.get("offline"):
        told["PIP_NO_INDEX"] = "1"
    if links := python.get("find_links"):
        told["PIP_FIND_LINKS"] = str(links)
    return told


def _build_secrets(scratch: Path, installer: Mapping[str, str]) -> dict[str, Path]:
    """Write what a build may know and an image must not: how pip reaches the package index.

    :returns: the files by the name under which a build finds them below ``/run/secrets``.
    """
    told = dict(installer)
    secrets = {}
    bundle = next((Path(told[name]) for name in _AUTHORITIES if told.get(name)), None)
    if bundle and bundle.is_file():
        secrets["ca"] = bundle
        told |= dict.fromkeys(_AUTHORITIES, f"{_IN_BUILD}/ca")
    secrets["installer"] = scratch / "installer"
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(told.items())]
    write_file(secrets["installer"], "".join(lines), 0o600)
    return secrets
