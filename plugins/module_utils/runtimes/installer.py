# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pip and uv are told: by the host, and by the app."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import urls
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import ToolError
from ansible_collections.flaskops.server.plugins.module_utils.host.process import Finished

INSTALLER_ENV = Path("/etc/flaskops/installer.env")
UV_CACHE = Path("/var/cache/flaskops/uv")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SAID = 40  # lines of the installer that are kept for the message


class VirtualenvError(ToolError):
    """A virtualenv cannot be built.

    :ivar step: ``interpreter``, ``create``, ``install``, ``check`` or ``compile``.
    :ivar output: the last lines of the installer, without credentials; may be empty.
    """

    verb = "installed"

    def __init__(self, message: str, step: str, output: str = "") -> None:
        super().__init__(message, output)
        self.step = step


def installer_env(path: Path = INSTALLER_ENV) -> dict[str, str]:
    """Return what the host's ``installer.env`` gives the installer; nothing when there is no such file.

    One ``NAME=value`` a line, quoted as for a shell, as the role python writes it.
    """
    env: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return env
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            with contextlib.suppress(ValueError):
                env[name] = " ".join(shlex.split(value))
    return env


def environment(python: Mapping[str, Any], env: Mapping[str, str], app: Path) -> dict[str, str]:
    """Return the environment of the installer on this host: nothing of ours, then the host's, then the app's options.

    A package index may hold credentials, so it is given here and never on a command line.
    """
    full = {
        "PATH": PATH,
        "HOME": "/root" if os.geteuid() == 0 else os.path.expanduser("~"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONDONTWRITEBYTECODE": "1",
        "UV_CACHE_DIR": str(UV_CACHE),
        # A link to the code leads to where the release is put together, and that is renamed.
        "UV_NO_EDITABLE": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
    }
    full.update({name: str(value) for name, value in env.items()})
    _choose_index(full, python)
    if links := listed(python.get("find_links")):
        links = [link if "://" in link or os.path.isabs(link) else str(app / link) for link in links]
        full.update(UV_FIND_LINKS=",".join(links), PIP_FIND_LINKS=" ".join(links))
    if python.get("offline"):
        full.update(UV_OFFLINE="1", UV_NO_INDEX="1", PIP_NO_INDEX="1")
    return full


def environment_of_a_build(env: Mapping[str, str], python: Mapping[str, Any]) -> dict[str, str]:
    """Return what reaches into the build of an image: the host's, then the app's options.

    The image has a path, a home and a cache of its own, and pip installs there: without uv's options to install offline.
    """
    told = dict(env)
    _choose_index(told, python)
    if python.get("offline"):
        told["PIP_NO_INDEX"] = "1"
    if links := python.get("find_links"):
        told["PIP_FIND_LINKS"] = str(links)
    return told


def _choose_index(env: dict[str, str], python: Mapping[str, Any]) -> None:
    """Let the app's index take the place of all others."""
    if index := str(python.get("index_url") or ""):
        for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL"):
            env.pop(name, None)
        env.update(UV_DEFAULT_INDEX=index, PIP_INDEX_URL=index)


def tail(text: str, secrets: Sequence[str] = ()) -> str:
    """Return the last lines of an installer's output, without credentials."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return Finished(0, urls.masked(text)).last(_SAID)


def listed(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]
