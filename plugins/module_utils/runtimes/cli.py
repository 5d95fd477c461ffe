# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line of Podman and of Docker: what every step asks of an engine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.process import Finished, run

ENGINES = ("podman", "docker")
#: Names and passwords for registries, as both engines read them; written by the role ``container``.
LOGINS = Path("/etc/flaskops/registry")
#: Seconds for one command of the engine: a build can have to compile.
TIMEOUT = 3600


class Cli:
    """The command line of an engine: what both understand, and the few words in which they differ.

    :param name: ``podman`` or ``docker``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def is_there(self) -> bool:
        return shutil.which(self.name) is not None

    def facts(self, image: str) -> dict[str, Any]:
        """Return what an image says of itself, nothing where it is not there."""
        done = self.call(["image", "inspect", image])
        facts: dict[str, Any] = json.loads(done.output)[0] if done.code == 0 else {}
        return facts

    def tags(self, repository: str) -> list[str]:
        listed = self.call(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]).output.split()
        return [tag for tag in listed if tag.startswith(f"{repository}:")]

    def remove_image(self, tag: str) -> None:
        """Remove an image, but for what else is made of it; one that cannot go now does so after a later deploy."""
        image = self.facts(tag).get("Id", "")
        self.call(["image", "rm", "--force", tag])
        # A pull by digest leaves a name that is no tag. With other tags it is another release's or somebody else's.
        left = self.facts(image) if image else {}
        if left and not left.get("RepoTags"):
            self.call(["image", "rm", image])

    def remove_container(self, container: str) -> None:
        self.call(["rm", "--force", container])

    def call(self, arguments: Sequence[str]) -> Finished:
        """Run a command of the engine, whether it succeeds or not."""
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
        return run([self.name, *arguments], timeout=TIMEOUT, env=environment, cwd="/")


def repository(app: str) -> str:
    """Return what the images of an app's releases are called; their tags are the releases."""
    return f"localhost/flaskops/{app}"
