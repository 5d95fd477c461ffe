# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Virtualenvs as what releases run in: making one for a release."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.archive import unpack
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.process import run
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import installer, requirements, virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle, RuntimeBuildError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.interpreter import interpreter


class VirtualenvBuilder:
    """Makes the virtualenv that releases of the same requirements share."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def build(self, bundle: Bundle) -> dict[str, Any]:
        app, staging = bundle.app, bundle.staging
        if bundle.artifact is None:
            raise RuntimeBuildError("no source was sent")
        unpack(bundle.artifact, staging / "app")
        needed = requirements.find(staging / "app", app["python"])
        built = virtualenv.ensure(
            self.layout.venvs,
            staging / "app",
            req=needed,
            interp=interpreter(app["python"]["interpreter"]),
            python=app["python"],
            server_packages=bundle.server_packages,
            env=installer.installer_env(),
            pip_check=app["checks"]["pip_check"],
        )
        os.symlink(os.path.relpath(built.path, self.layout.release("x")), staging / "venv")
        home = str(self.layout.release(bundle.release))
        # A file that does not compile matters when it is imported, and then says so itself.
        run(
            [str(built.path / "bin" / "python"), "-m", "compileall", "-q", "-s", str(staging), "-p", home, "app"],
            timeout=None,
            cwd=staging,
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
