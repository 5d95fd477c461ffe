# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pip and uv are told."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.runtimes import (
    installer,
)


def test_installer_env(tmp_path: Path) -> None:
    path = tmp_path / "installer.env"
    assert installer.installer_env(path) == {}
    path.write_text(
        '# comment\nPIP_CERT="/x y.pem"\n\nHTTPS_PROXY="http://p:1"\nbad line\nX="open\nPIP_INDEX_URL=https://a:b@h/?x=1\n'
    )
    assert installer.installer_env(path) == {
        "PIP_CERT": "/x y.pem",
        "HTTPS_PROXY": "http://p:1",
        "PIP_INDEX_URL": "https://a:b@h/?x=1",
    }


def test_the_apps_index_replaces_the_hosts(tmp_path: Path) -> None:
    host = {"PIP_INDEX_URL": "https://host/simple", "UV_INDEX": "https://host/extra", "SSL_CERT_FILE": "/ca.pem"}
    env = installer.environment({"index_url": "https://app/simple"}, host, tmp_path)
    assert env["PIP_INDEX_URL"] == env["UV_DEFAULT_INDEX"] == "https://app/simple"
    assert "UV_INDEX" not in env
    assert env["SSL_CERT_FILE"] == "/ca.pem"
    assert "HOME" in env
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "PIP_FIND_LINKS"} & env.keys()
