# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as the runtime of releases: built, pulled or loaded on the host, by Podman or Docker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils import virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.artifact import unpack
from ansible_collections.flaskops.server.plugins.module_utils.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import (
    Bundle,
    Runtime,
    RuntimeFault,
    Virtualenv,
)
from ansible_collections.flaskops.server.plugins.module_utils.systemd import write_file

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
                virtualenv.credentials(installer),
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
        said = self._run(["load", "--input", str(archive)], f"the image archive {image} cannot be loaded")
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
