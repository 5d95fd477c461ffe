# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nothing is unpacked where it must not be."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack


def tarball(path: Path, *entries: tuple[str, str | bytes, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, more in entries:
            info = tarfile.TarInfo(name)
            for key, value in more.items():
                setattr(info, key, value)
            if isinstance(kind, bytes):
                info.size = len(kind)
                tar.addfile(info, io.BytesIO(kind))
            else:
                info.type = {"dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}.get(
                    kind, kind.encode()
                )
                tar.addfile(info)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("/etc/x", b"", {})], "outside of it: '/etc/x'"),
        ([("a/../../x", b"", {})], "outside of it"),
        ([("..", "dir", {})], "outside of it"),
        ([("l", "sym", {"linkname": "/etc/passwd"})], "l -> /etc/passwd"),
        ([("l", "sym", {"linkname": "../x"})], "points outside: l -> ../x"),
        ([("d/l", "sym", {"linkname": "../../x"})], "points outside: d/l"),
        ([("l", "sym", {"linkname": "sub"}), ("l/x", b"", {})], "below 'l', which is a link"),
        ([("l", "sym", {"linkname": "m/../x"}), ("m", "sym", {"linkname": "a/b"}), ("a/b/x", b"", {})], None),
        ([("a/b/up", "sym", {"linkname": "../.."}), ("l", "sym", {"linkname": "a/b/up/../x"})], "points outside: l"),
        ([("h", "hard", {"linkname": "../x"})], "outside of it"),
        ([("h", "hard", {"linkname": "none"})], "hard link"),
        ([("s", "sym", {"linkname": "x"}), ("h", "hard", {"linkname": "s"})], "hard link"),
        ([("f", b"", {}), ("f/x", b"", {})], "below 'f', which is a file"),
        ([("s", "sym", {"linkname": "x"}), ("s", b"", {})], "twice"),
        ([("d", tarfile.CHRTYPE.decode(), {})], "a device, 'd'"),
        ([("d", tarfile.BLKTYPE.decode(), {})], "a device"),
        ([("d", tarfile.FIFOTYPE.decode(), {})], "a FIFO"),
    ],
)
def test_unsafe_archives_are_refused(entries: list[Any], message: str | None, tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", *entries)
    dest = tmp_path / "deep/dest"
    if message is None:
        unpack(path, dest)
        return
    with pytest.raises(SourceError, match=message):
        unpack(path, dest)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "deep/x").exists()


def test_special_bits_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        unpack(
            tarball(
                tmp_path / "x.tar",
                ("d", "dir", {"mode": 0o7777}),
                ("d/run", b"x", {"mode": 0o6777, "uid": 4711, "mtime": 1_000_000_000}),
                ("d/data", b"y", {"mode": 0o600}),
                ("d/again", "hard", {"linkname": "d/run"}),
            ),
            tmp_path / "out",
        )
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {"d": 0o755, "run": 0o755, "data": 0o644, "again": 0o755}
    assert (tmp_path / "out/d/run").stat().st_uid == os.geteuid()
    assert (tmp_path / "out/d/run").stat().st_mtime == 1_000_000_000


def test_unpack_wants_an_empty_directory_and_a_whole_archive(tree: Path, cache: Path, tmp_path: Path) -> None:
    path = build({"path": str(tree)}, cache).path
    with pytest.raises(SourceError, match="not empty"):
        unpack(path, tree)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(path.read_bytes()[:700])
    with pytest.raises(SourceError, match="not a readable archive"):
        unpack(cut, tmp_path / "out")


def test_a_zip_with_links_and_unsafe_names(tmp_path: Path, cache: Path) -> None:
    def zipped(**entries: tuple[str, int]) -> str:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, (text, mode) in entries.items():
                info = zipfile.ZipInfo(name.replace("__", "/"))
                info.external_attr = mode << 16
                archive.writestr(info, text)
        return str(tmp_path / "x.zip")

    made = build({"archive": zipped(a__x=("1", 0o100755), a__l=("x", 0o120777))}, cache)
    with tarfile.open(made.path) as tar:
        assert [(info.name, info.mode, info.linkname) for info in tar] == [("l", 0o777, "x"), ("x", 0o755, "")]
    with pytest.raises(SourceError, match="points outside"):
        build({"archive": zipped(a__l=("../../etc/passwd", 0o120777), a__x=("1", 0))}, cache)


def test_a_damaged_zip_is_said_to_be_one(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "x = 1\n" * 5000)
        archive.writestr("more.py", "y")
    whole = path.read_bytes()
    for at in (45, whole.index(b"more.py")):
        path.write_bytes(whole[:at] + b"\xff" * 7 + whole[at + 7 :])
        with pytest.raises(SourceError, match=r"x\.zip: This is not a readable archive: "):
            build({"archive": str(path)}, cache)
