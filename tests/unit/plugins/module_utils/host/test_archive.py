# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the controller packed arrives as it was; what it cannot have packed is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.archive import ArchiveError, unpack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build


def tarball(path: Path, *entries: tuple[str, bytes, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data, more in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return path


def link(name: str, target: str) -> tuple[str, bytes, dict[str, Any]]:
    return name, b"", {"type": tarfile.SYMTYPE, "linkname": target}


def tree(root: Path) -> dict[str, tuple[int, float, str | bytes]]:
    """Return what is below a directory: mode, time and content by path."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode & 0o7777,
            path.lstat().st_mtime,
            os.readlink(path) if path.is_symlink() else path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_round_trip(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "static/deep").mkdir(parents=True)
    (source / "app.py").write_text("app = 1\n")
    (source / "app.py").chmod(0o600)
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o700)
    (source / "static/deep/ü.txt").write_text("x" * 100_000)
    (source / "current").symlink_to("static")
    packed = build({"path": str(source)}, tmp_path / "cache").path
    assert packed
    before = os.umask(0o077)
    try:
        unpack(packed, tmp_path / "new/dest")
    finally:
        os.umask(before)
    found = tree(tmp_path / "new/dest")
    with tarfile.open(packed) as tar:
        assert {name: mtime for name, (_unused, mtime, _unused) in found.items()} == {
            info.name: info.mtime for info in tar
        }
    assert {name: mode for name, (mode, _unused, _unused) in found.items()} == {
        "app.py": 0o644,
        "current": 0o777,
        "run": 0o755,
        "static/deep/ü.txt": 0o644,
    }
    assert found["current"][2] == "static"
    assert found["static/deep/ü.txt"][2] == b"x" * 100_000


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1100])
def test_a_tarball_that_is_cut_off(kept: int, tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("a", b"x" * 1000, {}), ("b", b"y" * 1000, {}))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArchiveError, match="did not arrive whole"):
        unpack(path, tmp_path / "dest")


@pytest.mark.parametrize("change", [b"\0" * 512, b"no tarball at all" * 100])
def test_a_tarball_that_is_damaged(change: bytes, tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("a", b"x" * 1000, {}))
    path.write_bytes(change[:256] + path.read_bytes()[256:])
    with pytest.raises(ArchiveError):
        unpack(path, tmp_path / "dest")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("/etc/x", b"", {})], "'/etc/x', which is no path in it"),
        ([("../x", b"", {})], "'../x', which is no path"),
        ([("a/../../x", b"", {})], "no path in it"),
        ([link("../x", "y")], "no path in it"),
        ([("d", b"", {"type": tarfile.CHRTYPE})], "neither a file nor a link: 'd'"),
        ([("d", b"", {"type": tarfile.FIFOTYPE})], "neither a file nor a link"),
        ([("a", b"", {}), ("h", b"", {"type": tarfile.LNKTYPE, "linkname": "a"})], "neither a file nor a link: 'h'"),
        ([("a", b"1", {}), ("a", b"2", {})], "did not arrive whole"),
    ],
)
def test_what_a_packed_source_cannot_hold(entries: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=message):
        unpack(tarball(tmp_path / "x.tar", *entries), tmp_path / "deep/dest")
    assert not (tmp_path / "deep/x").exists()
    assert not (tmp_path / "x").exists()


def test_links_are_made_last(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tarball(tmp_path / "x.tar", link("a", str(outside)), ("a/x", b"1", {}))
    with pytest.raises((ArchiveError, OSError)):
        unpack(path, tmp_path / "dest")
    assert not list(outside.iterdir())


def test_special_bits_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    unpack(tarball(tmp_path / "x.tar", ("run", b"x", {"mode": 0o6777, "uid": 4711})), tmp_path / "dest")
    status = (tmp_path / "dest/run").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o755, os.geteuid())
