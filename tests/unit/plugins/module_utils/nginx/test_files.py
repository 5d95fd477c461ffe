# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files a change touches, and whose it leaves alone."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import MARK, File, NginxError, plan_files
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import install

Tree = Callable[[Path], dict[str, str]]
Ours = Callable[..., File]


def test_nothing_to_change(root: Path) -> None:
    assert plan_files(root, [File("nginx.conf", "include sites-enabled/*;\n")]) == []


def test_a_new_a_changed_and_an_unwanted_file(root: Path, tree: Tree, ours: Ours) -> None:
    changes = plan_files(
        root,
        [
            File("nginx.conf", "new\n", backup=True),
            ours("sites-enabled/shop.conf"),
            File("sites-enabled/default", link="sites-available/default"),
            File("sites-enabled/missing.conf", owned=True),
        ],
    )
    assert [change.path for change in changes] == [
        "nginx.conf",
        "nginx.conf.orig",
        "sites-enabled/shop.conf",
        "sites-enabled/default",
    ]
    assert changes[0].shown == ("include sites-enabled/*;\n", "new\n")
    install(root, changes, lambda: None)
    assert tree(root) == {
        "nginx.conf": "new\n",
        "nginx.conf.orig": "include sites-enabled/*;\n",
        "sites-available/default": "default\n",
        "sites-enabled/shop.conf": f"# {MARK}\n",
    }


def test_the_first_foreign_version_is_the_one_that_is_kept(root: Path) -> None:
    for text in ("one\n", "two\n"):
        install(root, plan_files(root, [File("nginx.conf", text, backup=True)]), lambda: None)
    assert (root / "nginx.conf.orig").read_text() == "include sites-enabled/*;\n"


def test_somebodys_own_files_are_left_alone(root: Path, ours: Ours) -> None:
    (root / "sites-enabled" / "shop.conf").write_text("mine\n")
    with pytest.raises(NginxError, match=r"shop.conf is there and was not written by this role"):
        plan_files(root, [ours("sites-enabled/shop.conf")])
    assert plan_files(root, [File("sites-enabled/shop.conf", owned=True)]) == []
    (root / "sites-enabled" / "default").unlink()
    (root / "sites-enabled" / "default").write_text("mine\n")
    assert plan_files(root, [File("sites-enabled/default", link="sites-available/default")]) == []


def test_permissions_are_put_right(root: Path) -> None:
    (root / "nginx.conf").chmod(0o600)
    (change,) = plan_files(root, [File("nginx.conf", "include sites-enabled/*;\n")])
    assert change.only_mode
    install(root, [change], lambda: None)
    assert stat.S_IMODE((root / "nginx.conf").stat().st_mode) == 0o644
