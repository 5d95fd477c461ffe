# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Pythons of a host."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass

from ansible_collections.flaskops.server.plugins.module_utils.host.process import run
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import PATH, VirtualenvError, tail

_TIMEOUT = 60  # seconds

_ASK = (
    "import json, sys, sysconfig, platform; print(json.dumps(["
    "sys.executable, platform.python_version(), sys.implementation.name, "
    "sysconfig.get_config_var('SOABI') or '', sysconfig.get_platform()]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python of the host.

    :ivar path: the executable, absolute.
    :ivar version: such as ``3.13.5``.
    :ivar implementation: such as ``cpython``.
    :ivar platform: what compiled extensions are made for, such as ``cpython-313-x86_64-linux-gnu linux-x86_64``.
    """

    path: str
    version: str
    implementation: str
    platform: str

    @property
    def series(self) -> str:
        """The part of the version that installed packages depend on, such as ``3.13``."""
        return ".".join(self.version.split(".")[:2])


def interpreter(name: str | None = None) -> Interpreter:
    """Return the Python that ``name`` means on this host.

    :param name: a path, a command (``python3.12``) or a version (``3.12``); the system's Python when empty.
    :raises VirtualenvError: there is no such Python, or it cannot be run.
    """
    wanted = str(name or "/usr/bin/python3").strip()
    command = f"python{wanted}" if re.fullmatch(r"3(\.\d+)?", wanted) else wanted
    path = shutil.which(os.path.expanduser(command), path=f"{os.environ.get('PATH', '')}:{PATH}")
    if not path:
        there = _pythons()
        raise VirtualenvError(
            f"python.interpreter is {wanted!r}, and this host has no {command!r}. It has: "
            f"{', '.join(there) or 'no Python at all'}. python_packages of the role python installs others.",
            "interpreter",
        )
    path = os.path.abspath(path)
    if _is_running(path):
        return Interpreter(
            path,
            ".".join(str(part) for part in sys.version_info[:3]),
            sys.implementation.name,
            f"{sysconfig.get_config_var('SOABI') or ''} {sysconfig.get_platform()}",
        )
    try:
        done = run([path, "-I", "-c", _ASK], timeout=_TIMEOUT, env={"PATH": PATH})
        # Python itself may have something to say before.
        said = re.search(r"^\[.*\]$", done.output, re.MULTILINE) if done.code == 0 else None
        found = json.loads(said[0]) if said else None
    except (OSError, ValueError) as error:
        raise VirtualenvError(f"The interpreter {path} cannot be run: {error}.", "interpreter") from error
    if not found:
        ended = f"exit code {done.code}" if done.code is not None else f"it did not finish within {_TIMEOUT} s"
        raise VirtualenvError(f"The interpreter {path} cannot be run ({ended}).", "interpreter", tail(done.output))
    return Interpreter(path, found[1], found[2], f"{found[3]} {found[4]}")


def _is_running(path: str) -> bool:
    """Whether ``path`` is the interpreter that runs this, and neither belongs to a virtualenv."""
    return (
        sys.prefix == sys.base_prefix
        and bool(sys.executable)
        and os.path.realpath(path) == os.path.realpath(sys.executable)
        and not os.path.exists(os.path.join(os.path.dirname(os.path.dirname(path)), "pyvenv.cfg"))
    )


def _pythons() -> list[str]:
    """Return the paths of the Pythons on the usual path."""
    found: dict[str, None] = {}
    for directory in PATH.split(":"):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory)):
                if re.fullmatch(r"python3(\.\d+)?|pypy3(\.\d+)?", name):
                    found[os.path.join(directory, name)] = None
    return list(found)
