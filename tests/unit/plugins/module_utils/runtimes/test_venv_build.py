# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Making the virtualenv of a release. That one is really built is tested with ``virtualenv``."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle, RuntimeBuildError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv_build import VirtualenvBuilder


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An app of the name of the user who runs this, for whom a command can run."""
    return Layout(pwd.getpwuid(os.getuid()).pw_name, tmp_path)


def test_the_environment_leads_to_the_release_and_not_to_where_it_is_made(tmp_path: Path) -> None:
    bundle = Bundle({}, "aaa", tmp_path)
    runtime = VirtualenvBuilder(Layout("shop"))
    home = "/srv/shop/releases/aaa"
    assert runtime.environment(bundle) == {
        "PATH": f"{home}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "VIRTUAL_ENV": f"{home}/venv",
        "PYTHONPATH": f"{home}/app",
        "HOME": "/srv/shop/shared",
    }
    (tmp_path / "app/src").mkdir(parents=True)
    assert runtime.environment(bundle)["PYTHONPATH"] == f"{home}/app:{home}/app/src"


def test_nothing_is_built_without_a_source(layout: Layout, tmp_path: Path) -> None:
    app: dict[str, Any] = {"python": {}, "checks": {}}
    with pytest.raises(RuntimeBuildError, match="no source was sent"):
        VirtualenvBuilder(layout).build(Bundle(app, "aaa", tmp_path))
