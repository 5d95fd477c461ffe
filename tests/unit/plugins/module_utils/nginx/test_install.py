# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A configuration is changed as a whole or not at all, by one run at a time."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx import install as install_module
from ansible_collections.flaskops.server.plugins.module_utils.nginx.certificates import SelfSigned, make_certificate
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import Change, File, NginxError, plan_files
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import (
    candidate_of,
    install,
    locked,
    overlay,
    remove_leftovers,
    try_configuration,
)

Tree = Callable[[Path], dict[str, str]]
Ours = Callable[..., File]


@pytest.fixture
def fake(tmp_path: Path) -> str:
    """An nginx that refuses a configuration with the word `broken` in it."""
    program = tmp_path / "nginx"
    program.write_text('#!/bin/sh\nif grep -rn broken "$(dirname "$3")" >&2; then exit 1; fi\n')
    program.chmod(0o755)
    return str(program)


def test_a_candidate_is_a_copy_that_disappears(root: Path, fake: str, tree: Tree, ours: Ours) -> None:
    before = tree(root)
    with candidate_of(root) as candidate:
        assert candidate.parent == root.parent
        assert stat.S_IMODE(candidate.stat().st_mode) == 0o700
        overlay(candidate, plan_files(root, [ours("sites-enabled/shop.conf", "broken\n")]))
        assert tree(candidate).items() >= before.items()
        accepted, words = try_configuration(fake, candidate / "nginx.conf")
        assert not accepted
        assert f"{candidate}/sites-enabled/shop.conf:2:broken" in words
    assert not candidate.exists()
    assert tree(root) == before


def test_a_candidate_is_removed_when_something_goes_wrong(root: Path) -> None:
    with pytest.raises(RuntimeError), candidate_of(root):
        raise RuntimeError
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


def test_a_candidate_leaves_pipes_and_sockets_out(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with candidate_of(root) as candidate:
        assert not (candidate / "pipe").exists()


def test_what_a_link_leads_to_is_not_written_through_it(root: Path, tmp_path: Path, ours: Ours) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept\n")
    shutil.rmtree(root / "sites-enabled")
    (root / "sites-enabled").symlink_to(elsewhere)
    (elsewhere / "nginx.conf").write_text("linked\n")
    (root / "nginx.conf").unlink()
    (root / "nginx.conf").symlink_to(elsewhere / "nginx.conf")
    changes = plan_files(root, [ours("sites-enabled/shop.conf"), File("nginx.conf", "new\n")])
    with candidate_of(root) as candidate:
        overlay(candidate, changes)
        assert (candidate / "sites-enabled" / "kept").exists()
        assert (candidate / "nginx.conf").read_text() == "new\n"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["kept", "nginx.conf"]
    assert (elsewhere / "nginx.conf").read_text() == "linked\n"


def test_a_result_that_does_not_verify_is_taken_back(root: Path, tree: Tree, ours: Ours) -> None:
    before = tree(root)
    changes = plan_files(
        root,
        [
            File("nginx.conf", "new\n"),
            ours("sites-enabled/shop.conf"),
            File("sites-enabled/default", link="sites-available/default"),
        ],
    )
    with pytest.raises(NginxError, match="no good"):
        install(root, changes, lambda: "no good")
    assert tree(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


def test_a_failure_in_the_middle_is_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch, tree: Tree, ours: Ours
) -> None:
    before = tree(root)
    written = install_module._write

    def full(path: Path, content: bytes, mode: int) -> None:
        if path.name == "shop.conf":
            raise OSError(28, "No space left on device")
        written(path, content, mode)

    monkeypatch.setattr(install_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        install(root, plan_files(root, [File("nginx.conf", "new\n"), ours("sites-enabled/shop.conf")]), lambda: None)
    assert tree(root) == before


def test_what_killed_runs_leave_is_removed(root: Path, tree: Tree) -> None:
    before = tree(root)
    (root.parent / "nginx.candidate-dead").mkdir()
    (root.parent / "nginx.candidate-dead" / "nginx.conf").write_text("x")
    (root / "sites-enabled" / ".shop.conf.candidate-new").write_text("x")
    remove_leftovers(root)
    assert tree(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


def test_the_lock_is_in_a_directory_of_its_own(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    with locked(lock):
        assert stat.S_IMODE(lock.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with (
            pytest.raises(NginxError, match=f"process {os.getpid()} is changing nginx's configuration"),
            locked(lock, 0.2),
        ):
            pass
    with locked(lock, 0):
        pass


def test_a_lock_that_is_let_go_is_taken(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    lock.parent.mkdir(mode=0o700)
    holder = subprocess.Popen(
        ["flock", "--exclusive", lock, "sh", "-c", "echo; sleep 0.5"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "\n"
    with locked(lock, 20):
        assert holder.wait(5) == 0


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    lock.parent.mkdir(mode=0o700)
    (tmp_path / "precious").write_text("precious")
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"), locked(lock):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    openssl = shutil.which("openssl")
    before = os.umask(umask)
    try:
        install(tmp_path, [Change("a/b/c.conf", content=b"x")], lambda: None)
        if openssl:
            make_certificate(SelfSigned("self-signed/a.crt", "self-signed/a.key", ("a.org",), 10), tmp_path, openssl)
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    expected = {"a": 0o755, "a/b": 0o755, "a/b/c.conf": 0o644}
    if openssl:
        expected |= {"self-signed": 0o755, "self-signed/a.crt": 0o644, "self-signed/a.key": 0o600}
    assert modes == expected
