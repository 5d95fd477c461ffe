# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which symlinks of a release lead into what the app can write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.links import give_to_app


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The code of a release with a shared path, ``instance``, and links of the repository."""
    home = tmp_path / "srv/shop"
    app = home / "releases/1/app"
    (app / "static/real").mkdir(parents=True)
    (home / "shared/instance").mkdir(parents=True)
    for link, target in {
        "instance": str(home / "shared/instance"),
        "static/uploads": "../instance/uploads",
        "static/chain": "uploads",
        "static/around": "./real/../../instance/./x/",
        "public": "static",
        "media": "public/uploads/media",
        "static/same": "real",
        "static/loop": "loop",
        "static/missing": "nowhere/at/all",
        "static/alike": str(home / "shared2"),
        "static/beside": "../../venv",
    }.items():
        (app / link).symlink_to(target)
    return app


def given(app: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the links that were given away, after seeing that nothing else was."""
    owners: dict[str, int] = {}

    def chown(path: str, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert (gid, follow_symlinks) == (-1, False)
        owners[os.path.relpath(path, app)] = uid

    monkeypatch.setattr(os, "chown", chown)
    found = give_to_app(app, app.parents[2] / "shared", 990)
    assert set(owners.values()) <= {990}
    assert {str(path.relative_to(app)) for path in found} == set(owners)
    return set(owners)


INTO = {"instance", "static/uploads", "static/chain", "static/around", "media"}


def test_those_that_lead_into_shared(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(app, monkeypatch) == INTO


def test_what_the_app_has_put_there_decides_nothing(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = app.parents[2] / "shared"
    (shared / "instance").rmdir()
    (shared / "instance").symlink_to("/etc")
    assert given(app, monkeypatch) == INTO


def test_a_data_disk_that_srv_is_a_link_to(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = app.parents[4]
    (root / "srv").rename(root / "disk")
    (root / "srv").symlink_to("disk")
    assert given(app, monkeypatch) == INTO
