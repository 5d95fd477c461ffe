# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A package as the source: pinned, and without credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.package import parse_pinned
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack


def test_a_package_is_a_requirements_file(cache: Path, tmp_path: Path) -> None:
    made = build({"package": "httpbin[mainapp]==0.10.4"}, cache)
    unpack(made.path, tmp_path / "out")
    assert (tmp_path / "out/requirements.txt").read_text() == "httpbin[mainapp]==0.10.4\n"
    assert made.source == {"kind": "package", "requirement": "httpbin[mainapp]==0.10.4", "version": "0.10.4"}


@pytest.mark.parametrize(
    "requirement",
    [
        "a==1",
        "a-b.c [x, y] == 1!2.0rc1+cu12",
        "a===1.0",
        "a @ https://h/a.whl",
        "a==1 --hash=sha256:00aa",
        "a==1 ; python_version>'3'",
    ],
)
def test_pinned(requirement: str) -> None:
    assert parse_pinned(requirement)[0] == requirement


@pytest.mark.parametrize(
    "requirement",
    [
        "a",
        "a>=1",
        "a==1.*",
        "a==1,>2",
        "a==1\n-r /etc/passwd",
        "-r x",
        "a @ https://me:hunter2@h/a.whl",
        "a @ https://h/a.whl?token=hunter2",
        "a @ ./x",
        "",
    ],
)
def test_not_pinned(requirement: str, cache: Path) -> None:
    with pytest.raises(SourceError) as caught:
        parse_pinned(requirement)
    assert "hunter2" not in str(caught.value)
