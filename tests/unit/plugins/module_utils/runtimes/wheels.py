# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An app on a host with wheels instead of an index."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import (
    interpreter,
    requirements,
    virtualenv,
)

UV = next((path for path in (Path(sys.prefix, "bin/uv"), Path(shutil.which("uv") or "/none")) if path.exists()), None)

ENSUREPIP = (
    subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0
)

INSTALLERS = [
    pytest.param("uv", marks=pytest.mark.skipif(UV is None, reason="uv is not installed")),
    pytest.param("pip", marks=pytest.mark.skipif(not ENSUREPIP, reason="the system's Python has no ensurepip")),
]


def wheel(directory: Path, name: str, version: str, *requires: str, code: str = "") -> str:
    """Make a wheel with a module and a console script of its name; return its SHA-256."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code or f"version = {version!r}\ndef main():\n    import sys; print(__file__, sys.prefix)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {item}\n" for item in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(
        f"{member},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}\n"
        for member, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(member, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Site:
    """An app on a host, with a directory of wheels instead of an index."""

    def __init__(self, root: Path, installer: str) -> None:
        self.app, self.venvs, self.wheels, self.tools = (
            root / "app",
            root / "shop/venvs",
            root / "wheels",
            root / "tools",
        )
        self.app.mkdir(parents=True)
        self.env = {"UV_CACHE_DIR": str(root / "uv"), "PIP_NO_CACHE_DIR": "1"}
        self.server = ["server==2.0"]
        if installer == "uv":
            assert UV
            (self.tools / "bin").mkdir(parents=True)
            (self.tools / "bin/uv").symlink_to(UV)
        wheel(self.wheels, "flusk", "1.0", "werk>=1")
        wheel(self.wheels, "werk", "1.0")
        wheel(self.wheels, "werk", "2.0")
        wheel(self.wheels, "server", "1.0")
        wheel(self.wheels, "server", "2.0", "werk")

    def put(self, name: str, text: str) -> None:
        (self.app / name).parent.mkdir(parents=True, exist_ok=True)
        (self.app / name).write_text(text)

    def ensure(self, **python: Any) -> virtualenv.Built:
        pip_check = python.pop("pip_check", True)
        options = {"interpreter": "/usr/bin/python3", "offline": True, "find_links": str(self.wheels), **python}
        return virtualenv.ensure(
            self.venvs,
            self.app,
            req=requirements.find(self.app, options),
            interp=interpreter.interpreter(options["interpreter"]),
            python=options,
            server_packages=self.server,
            env=self.env,
            tools=self.tools,
            pip_check=pip_check,
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.venvs.iterdir()) if self.venvs.exists() else []
