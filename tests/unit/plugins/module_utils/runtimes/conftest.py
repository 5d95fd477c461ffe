# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of what releases run in share."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import cli, installer
from engine import Host
from wheels import INSTALLERS, UV, Site


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with both engines, which nothing has been done with."""
    host = Host(tmp_path)
    host.has("podman", "docker")
    host.tell()
    monkeypatch.setenv("PATH", str(host.bin))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(cli, "LOGINS", tmp_path / "registry")
    monkeypatch.setattr(installer, "installer_env", functools.partial(installer.installer_env, host.installer))
    return host


@pytest.fixture(params=INSTALLERS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(tmp_path, request.param)


@pytest.fixture
def quick(tmp_path: Path) -> Site:
    """The quicker installer of those that are there."""
    return Site(tmp_path, "uv" if UV else "pip")
