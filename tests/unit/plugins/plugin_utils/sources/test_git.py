# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A commit as the source: which one is meant, and with which credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from trees import git, names, write


def test_git_versions(repository: Path, cache: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "-b", "feature/x")
    write(repository, {"app.py": "app = 2\n"})
    git(repository, "commit", "--quiet", "-am", "two")
    git(repository, "tag", "-a", "-m", "annotated", "v2.0.0")
    second = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "main")
    versions = {
        None: first,
        "v1.0.0": first,
        "main": first,
        first: first,
        first[:9]: first,
        "v2.0.0": second,
        "feature/x": second,
        "refs/heads/feature/x": second,
        second[:7]: second,
    }
    for version, commit in versions.items():
        made = build({"git": str(repository), "version": version}, cache)
        assert made.source == {"kind": "git", "url": str(repository), "version": version or "HEAD", "commit": commit}
    assert len(list((cache / "artifacts").iterdir())) == 2


def test_a_branch_that_moves_and_a_commit_that_is_known(repository: Path, cache: Path) -> None:
    before = build({"git": str(repository), "version": "main"}, cache)
    write(repository, {"app.py": "app = 2\n"})
    git(repository, "commit", "--quiet", "-am", "two")
    assert build({"git": str(repository), "version": "main"}, cache).sha256 != before.sha256
    repository.rename(repository.with_name("gone"))
    again = build({"git": str(repository), "version": before.source["commit"]}, cache)  # needs nobody's answer
    assert again.sha256 == before.sha256


def test_a_version_that_does_not_exist_names_the_nearest(repository: Path, cache: Path) -> None:
    git(repository, "branch", "develop")
    for version in ("1.0.0", "develp", "0" * 40, "deadbee"):
        with pytest.raises(SourceError) as caught:
            build({"git": str(repository), "version": version}, cache)
        if len(version) < 40:
            assert "tags: v1.0.0" in str(caught.value)
            assert "develop" in str(caught.value)
        else:
            assert "has no commit" in str(caught.value)


def test_a_submodule_is_refused_by_name(repository: Path, tree: Path, cache: Path) -> None:
    git(tree, "init", "--quiet")
    git(tree, "add", "app.py")
    git(tree, "commit", "--quiet", "-m", "one")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tree), "lib")
    git(repository, "commit", "--quiet", "-m", "submodule")
    with pytest.raises(SourceError, match=r"submodules \(lib\)"):
        build({"git": str(repository)}, cache)
    assert "lib" not in names(build({"git": str(repository), "exclude": ["lib"]}, cache).path)


@pytest.fixture
def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that fails and leaves its command lines in ``argv`` and its environment in ``env``, both in tmp_path."""
    write(
        tmp_path,
        {"bin/git": f'#!/bin/sh\necho "$@" >>{tmp_path}/argv\nenv >>{tmp_path}/env\necho "no $*" >&2\nexit 1\n'},
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def test_credentials_of_a_url_reach_git_in_its_environment_only(fake_git: Path, cache: Path) -> None:
    with pytest.raises(SourceError) as caught:
        build({"git": "https://me:hunter2@git.example.org/shop.git", "version": "a" * 40}, cache)
    assert "hunter2" not in str(caught.value) + (fake_git / "argv").read_text()
    assert "Authorization: Basic bWU6aHVudGVyMg==" in (fake_git / "env").read_text()
    assert "GIT_TERMINAL_PROMPT=0" in (fake_git / "env").read_text()


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.org/shop.git?private_token=hunter2",
        "https://me:hunter2@git.example.org/shop.git?private_token=hunter2",
        "ssh://git:hunter2@git.example.org/shop.git",
    ],
)
def test_a_secret_that_git_would_put_on_a_command_line_is_refused(fake_git: Path, cache: Path, url: str) -> None:
    with pytest.raises(SourceError, match="command line") as caught:
        build({"git": url}, cache)
    assert "https://USER:TOKEN@" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not (fake_git / "argv").exists() or "hunter2" not in (fake_git / "argv").read_text()
