# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line of Podman and of Docker: how an image is built, fetched, loaded and shared."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import urls
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import cli, installer
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import RuntimeBuildError

#: Variables of the installer's environment that name a file with certificate authorities.
_AUTHORITIES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
#: Where a build finds the installer's environment and the certificate authorities, and nobody after it.
_IN_BUILD = "/run/secrets"


class BuildingCli(cli.Cli):
    """An engine that makes images: each of its commands is to succeed.

    :raises RuntimeBuildError: from all methods here, with the engine's last words.
    """

    def build(self, context: Path, recipe: Path, tag: str, app: Mapping[str, Any]) -> None:
        """Build an image; what reaches the package index is there for the build and not in the image."""
        with tempfile.TemporaryDirectory(prefix="flaskops-build-") as scratch:
            told = installer.environment_of_a_build(installer.installer_env(), app["python"])
            secrets = _build_secrets(Path(scratch), told)
            options = [word for name, path in secrets.items() for word in ("--secret", f"id={name},src={path}")]
            if self.name == "podman":
                # Docker's image format is the one that knows HEALTHCHECK.
                options += ["--format", "docker", "--layers"]
            self._run(
                [*("build", "--network", "host", "--file", str(recipe), "--tag", tag), *options, str(context)],
                f"the image cannot be built from {recipe.name}",
                urls.credentials(told.values()),
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
        except RuntimeBuildError:
            return False
        return True

    def rename(self, image: str, tag: str) -> None:
        """Give an image its release's name alone: with another one it would outlive the release."""
        self._run(["tag", image, tag], f"the image {image} cannot be named")
        self._run(["image", "rm", image], f"the name {image} cannot be removed")

    def load(self, archive: Path, image: str, tag: str) -> None:
        """Load an archive and name its image; the controller has taken all other names out of it."""
        said = self._run(["load", "--input", str(archive)], f"the image archive {image} cannot be loaded")
        found = re.findall(r"^Loaded image(?:\(s\)| ID)?: (.+)$", said, re.MULTILINE)
        if not found:
            raise RuntimeBuildError(f"the image archive {image} holds no image", said)
        self._run(["tag", found[-1].split(",")[0].strip(), tag], f"the image of {image} cannot be named")

    def inspect(self, image: str) -> dict[str, Any]:
        said = self._run(["image", "inspect", image], f"the image {image} is not there")
        facts: dict[str, Any] = json.loads(said)[0]
        return facts

    def copy_out(self, image: str, path: str, target: Path) -> None:
        """Copy a directory out of an image."""
        # Podman copies into a directory that is there.
        target.mkdir(parents=True, exist_ok=True)
        container = self._run(["create", image, "true"], f"the image {image} cannot be opened").split()[-1]
        try:
            self._run(["cp", f"{container}:{path}/.", f"{target}/"], f"the image has no directory {path}")
        finally:
            self.remove_container(container)

    def _logins(self) -> list[str]:
        file = cli.LOGINS / "config.json"
        return ["--authfile", str(file)] if self.name == "podman" and file.is_file() else []

    def _run(self, arguments: Sequence[str], failed: str, credentials: Sequence[str] = ()) -> str:
        done = self.call(arguments)
        if done.code is None:
            raise RuntimeBuildError(f"{failed}: it did not finish within {cli.TIMEOUT} s")
        if done.code:
            raise RuntimeBuildError(failed, installer.tail(of_build(done.output), credentials))
        return done.output


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
