# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release's code runs in: a virtualenv on the host, or an image. The engine knows no more of it than this."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.flaskops.server.plugins.module_utils.host.archive import unpack
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import requirements, virtualenv


@dataclass(frozen=True)
class Bundle:
    """A release in the making.

    :param app: the app's checked spec.
    :param release: its id.
    :param staging: where it is put together; the server's configuration is there already.
    :param artifact: the packed source on the host; None where there is none.
    :param server_packages: requirements that the server adds.
    """

    app: Mapping[str, Any]
    release: str
    staging: Path
    artifact: Path | None = None
    server_packages: list[str] = field(default_factory=list)


class RuntimeFault(Exception):  # noqa: N818
    """What a release's code runs in cannot be made; ``output`` holds the last lines of the tool, without credentials."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Runtime(Protocol):
    """The runtime of the releases of one app on this host."""

    def build(self, bundle: Bundle) -> dict[str, Any]:
        """Unpack the code and make what it runs in; return the facts of it for ``release.json``.

        :raises RuntimeFault: or what the tools it uses raise, where it cannot be made.
        """

    def environment(self, bundle: Bundle) -> dict[str, str]:
        """Return the environment variables that lead to it."""

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        """Return what runs a command as the app runs: arguments, and options of :class:`subprocess.Popen`."""

    def ended(self, release: str) -> None:
        """Make sure that nothing is left of a command that was killed."""

    def main_pid(self, release: str, unit_pid: int) -> int:
        """Return the server's main process, whose children are the workers; 0 where there is none.

        :param unit_pid: the main process that systemd knows.
        """

    def prune(self, staged: list[str]) -> None:
        """Remove what none of these releases uses."""


class Virtualenv:
    """Processes of the host, with a virtualenv that releases of the same requirements share."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def build(self, bundle: Bundle) -> dict[str, Any]:
        app, staging = bundle.app, bundle.staging
        if bundle.artifact is None:
            raise RuntimeFault("no source was sent")
        unpack(bundle.artifact, staging / "app")
        needed = requirements.find(staging / "app", app["python"])
        built = virtualenv.ensure(
            self.layout.venvs,
            staging / "app",
            req=needed,
            interp=virtualenv.interpreter(app["python"]["interpreter"]),
            python=app["python"],
            server_packages=bundle.server_packages,
            env=virtualenv.installer_env(),
            pip_check=app["checks"]["pip_check"],
        )
        os.symlink(os.path.relpath(built.path, self.layout.release("x")), staging / "venv")
        home = str(self.layout.release(bundle.release))
        subprocess.run(
            [str(built.path / "bin" / "python"), "-m", "compileall", "-q", "-s", str(staging), "-p", home, "app"],
            cwd=staging,
            capture_output=True,
            # A file that does not compile matters when it is imported, and then says so itself.
            check=False,
        )
        return {
            "requirements": needed.kind,
            "venv": built.key,
            "installer": built.installer,
            "python": app["python"]["interpreter"],
            "locked": built.locked,
        }

    def environment(self, bundle: Bundle) -> dict[str, str]:
        home = self.layout.release(bundle.release)
        code = [str(home / "app")]
        if (bundle.staging / "app" / "src").is_dir():
            code.append(str(home / "app" / "src"))
        return {
            "PATH": f"{home}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "VIRTUAL_ENV": str(home / "venv"),
            "PYTHONPATH": ":".join(code),
            "HOME": str(self.layout.shared),
        }

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        user = pwd.getpwnam(self.layout.name)
        return command, {
            "cwd": self.layout.release(release) / "app",
            "env": dict(variables),
            "user": user.pw_uid,
            "group": user.pw_gid,
            "extra_groups": [],
            "umask": 0o007,
        }

    def ended(self, release: str) -> None:
        """Its processes are killed by their group."""

    def main_pid(self, release: str, unit_pid: int) -> int:
        return unit_pid

    def prune(self, staged: list[str]) -> None:
        links = [self.layout.release(release) / "venv" for release in staged]
        used = {os.path.basename(os.readlink(link)) for link in links if link.is_symlink()}
        for venv in self.layout.venvs.iterdir() if self.layout.venvs.is_dir() else ():
            if venv.name not in used:
                shutil.rmtree(venv)
