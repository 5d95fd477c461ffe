# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory as the source: what git would track, and no caches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from trees import GOLDEN, TREE, git, names, write


def test_a_plain_directory_leaves_caches_and_virtualenvs_out(tree: Path, cache: Path) -> None:
    junk = {
        ".git": "gitdir: nowhere",
        "__pycache__/app.pyc": "",
        "pkg/old.pyc": "",
        ".venv/bin/python": "",
        "env/pyvenv.cfg": "",
        "env/lib/x.py": "",
        ".tox/x": "",
        ".pytest_cache/x": "",
        ".mypy_cache/x": "",
        ".ruff_cache/x": "",
        "static/node_modules/x.js": "",
        "shop.egg-info/PKG-INFO": "",
    }
    write(tree, junk)
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN


def test_a_work_tree_gives_what_git_tracks_or_would_track(repository: Path, cache: Path) -> None:
    (repository / "run").unlink()
    write(
        repository,
        {
            "debug.log": "",
            "local/settings.py": "",
            "new.py": "",
            "__pycache__/new.pyc": "",
            "env/pyvenv.cfg": "",
            "env/lib/deep/x.py": "",
        },
    )
    made = build({"path": str(repository)}, cache)
    assert names(made.path) == [".gitignore", "app.py", "new.py", "static/site.css", "static/ü.txt"]
    assert made.source == {
        "kind": "path",
        "path": str(repository),
        "commit": git(repository, "rev-parse", "HEAD"),
        "dirty": True,
        "version": "v1.0.0",
    }


def test_a_clean_work_tree_is_not_dirty(repository: Path, cache: Path) -> None:
    assert build({"path": str(repository)}, cache).source["dirty"] is False


def test_a_part_of_a_work_tree(repository: Path, cache: Path) -> None:
    write(repository, {"static/debug.log": ""})
    assert names(build({"path": str(repository / "static")}, cache).path) == ["site.css", "ü.txt"]
    made = build({"path": str(repository), "subdir": "static/"}, cache)
    assert names(made.path) == ["site.css", "ü.txt"]
    assert made.source["subdir"] == "static/"


def test_an_ignored_directory_of_a_work_tree_is_read_as_it_is(repository: Path, cache: Path) -> None:
    write(repository / "local", TREE)
    assert build({"path": str(repository / "local")}, cache).sha256 == GOLDEN


def test_a_submodule_and_a_repository_inside_are_part_of_a_path(repository: Path, cache: Path, tree: Path) -> None:
    git(tree, "init", "--quiet")
    git(tree, "add", "app.py")
    git(tree, "commit", "--quiet", "-m", "one")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tree), "lib")
    git(repository, "clone", "--quiet", str(tree), "other")
    found = names(build({"path": str(repository)}, cache).path)
    assert "lib/app.py" in found
    assert "other/app.py" in found
    assert not any("/.git" in name for name in found)


def test_environment_of_a_git_hook_does_not_mislead(
    repository: Path, tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index")
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN


def test_a_work_tree_of_somebody_else_is_read(repository: Path, cache: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert "app.py" in names(build({"path": str(repository)}, cache).path)


def test_sockets_and_fifos_are_left_out(tree: Path, cache: Path) -> None:
    os.mkfifo(tree / "fifo")
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN
