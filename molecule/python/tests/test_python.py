# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role leaves behind is used: virtualenvs are built on the host, with uv and with pip, from the index."""

from __future__ import annotations

import json
from typing import Any

import pytest

ENV = "/etc/flaskops/installer.env"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

ENSURE = """
import json, pathlib, sys
sys.path.insert(0, "/root")
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import requirements, virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.interpreter import interpreter
app = pathlib.Path("/root/app")
app.mkdir(exist_ok=True)
(app / "requirements.txt").write_text("itsdangerous==2.2.0\\n")
python = {"interpreter": "/usr/bin/python3"}
built = virtualenv.ensure(
    pathlib.Path("/root/venvs-%(installer)s"),
    app,
    req=requirements.find(app, python),
    interp=interpreter(python["interpreter"]),
    python=python,
    server_packages=["six==1.16.0"],
    tools=pathlib.Path("%(tools)s"),
)
print(json.dumps([str(built.path), built.created, built.installer, built.locked]))
"""


def test_uv_runs_as_pinned(host: Any) -> None:
    assert host.check_output("/opt/flaskops/tools/bin/uv --version").split()[1] == "0.13.9"


def test_the_environment_of_the_installer_is_for_root(host: Any) -> None:
    file = host.file(ENV)
    assert (file.user, file.group, oct(file.mode)) == ("root", "root", "0o600")
    lines = file.content_string.splitlines()
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"):
        assert f"{name}={BUNDLE}" in lines
    assert "INDEX" not in file.content_string
    assert oct(host.file("/etc/flaskops").mode) == "0o755"


def test_packages_that_were_asked_for_and_no_others(host: Any) -> None:
    assert host.package("python3-venv").is_installed
    assert host.package("python3-six").is_installed
    assert not host.package("gcc").is_installed


@pytest.mark.parametrize(("installer", "tools"), [("uv", "/opt/flaskops/tools"), ("pip", "/nowhere")])
def test_a_virtualenv_is_built_from_the_index(host: Any, installer: str, tools: str) -> None:
    command = f"/usr/bin/python3 - <<'EOF'\n{ENSURE % {'installer': installer, 'tools': tools}}\nEOF"
    path, created, used, locked = json.loads(host.check_output(command))
    assert (created, used) == (True, installer)
    assert {"itsdangerous==2.2.0", "six==1.16.0"} <= set(locked)
    assert json.loads(host.check_output(command))[1] is False
    assert host.check_output(f"{path}/bin/python -c 'import sys, itsdangerous; print(sys.prefix)'") == path
    assert host.check_output(f"find {path} -perm /022 ! -type l") == ""
    assert host.check_output(f"grep -rlIF venvs-{installer}/.build- {path} || true") == ""
    host.check_output(f"rm -rf /root/venvs-{installer}")


def test_the_cache_is_for_root(host: Any) -> None:
    assert oct(host.file("/var/cache/flaskops/uv").mode) == "0o700"
