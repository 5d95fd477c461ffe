# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The packed source: the same bytes everywhere, and nothing in it that must not be."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build, pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import cache as kept
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack
from trees import GOLDEN, POINTER, git, names, write


def test_times_follow_the_content_and_lie_in_the_past(tree: Path, cache: Path) -> None:
    def times() -> dict[str, float]:
        with tarfile.open(build({"path": str(tree)}, cache).path) as tar:
            return {info.name: info.mtime for info in tar}

    before = times()
    assert all(315_532_800 <= at < 1_577_836_800 for at in before.values())
    (tree / "static/site.css").write_text("Body {}\n")
    after = times()
    assert after.pop("static/site.css") != before.pop("static/site.css")
    assert after == before


def test_a_large_file_is_streamed_to_the_same_bytes(tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_LARGE", 3)
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN


def test_links_that_stay_inside_are_kept(tree: Path, cache: Path, tmp_path: Path) -> None:
    (tree / "current").symlink_to("static")
    (tree / "static/main.css").symlink_to("../static/site.css")
    unpack(build({"path": str(tree)}, cache).path, tmp_path / "out")
    assert os.readlink(tmp_path / "out/current") == "static"
    assert (tmp_path / "out/static/main.css").read_text() == "body {}\n"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "static/../../x"])
def test_links_that_lead_out_are_refused(tree: Path, cache: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    with pytest.raises(SourceError, match=r"link -> .*source\.exclude"):
        build({"path": str(tree)}, cache)
    assert build({"path": str(tree), "exclude": ["link"]}, cache).sha256 == GOLDEN


def test_a_link_that_leads_out_through_another_link_is_refused(tree: Path, cache: Path) -> None:
    write(tree, {"a/b/file": ""})
    (tree / "a/b/up").symlink_to("../..")
    (tree / "link").symlink_to("a/b/up/../x")
    with pytest.raises(SourceError, match="link -> a/b/up"):
        build({"path": str(tree)}, cache)


def packed(kind: str, tree: Path, tmp_path: Path) -> dict[str, Any]:
    """Return a source of a kind with the files of a tree."""
    if kind == "git":
        git(tree, "init", "--quiet")
        git(tree, "add", "-A")
        git(tree, "commit", "--quiet", "-m", "one")
    if kind == "archive":
        with tarfile.open(tmp_path / "shop.tar", "w") as tar:
            tar.add(tree, "shop")
        return {"archive": str(tmp_path / "shop.tar")}
    return {kind: str(tree)}


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (
            "git",
            "source.git does not download them: run 'git lfs pull' in a checkout .* source.path, or .* source.exclude",
        ),
        ("path", "Run 'git lfs pull' in that directory and deploy again, or .* source.exclude"),
        ("archive", "Run 'git lfs pull' in a checkout and make the archive from that, or .* source.exclude"),
    ],
)
def test_pointers_of_git_lfs_are_refused(kind: str, advice: str, tree: Path, cache: Path, tmp_path: Path) -> None:
    write(tree, {"static/logo.png": POINTER, **{f"media/{number}.mp4": POINTER for number in range(1, 7)}})
    source = packed(kind, tree, tmp_path)
    for _attempt in range(2):
        with pytest.raises(SourceError, match=advice) as caught:
            build(source, cache)
        assert "7 files of the source are in Git LFS and not downloaded" in str(caught.value)
        assert "(media/1.mp4, media/2.mp4, media/3.mp4, media/4.mp4, media/5.mp4 and 2 more)" in str(caught.value)
    assert not list((cache / "artifacts").iterdir())
    assert build({**source, "exclude": ["/static/logo.png", "media"]}, cache).sha256 == GOLDEN
    with pytest.raises(SourceError, match=r"1 file of the source is in Git LFS and not downloaded \(logo\.png\)"):
        build({**source, "subdir": "static"}, cache)
    assert build({**source, "subdir": "static", "exclude": ["*.png"]}, cache).path


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (POINTER.rstrip("\n"), True),
        (POINTER.replace("\n", "\r\n"), True),
        (POINTER.replace("\noid", "\next-0-crypt sha256:" + "a" * 64 + "\noid"), True),
        (POINTER.replace("git-lfs.github.com", "hawser.github.com"), True),
        ("Files are kept in Git LFS:\n" + POINTER, False),
        (POINTER + "\nThis is what a pointer looks like.\n", False),
        ("version https://git-lfs.github.com/spec/v1\n", False),
        ("version https://example.org/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 1\n", False),
        (POINTER + "x-more " + "x" * 1024 + "\n", False),
        ("", False),
    ],
)
def test_what_a_pointer_is(text: str, refused: bool, tree: Path, cache: Path) -> None:
    (tree / "static/logo.png").write_bytes(text.encode())
    if refused:
        with pytest.raises(SourceError, match=r"logo\.png"):
            build({"path": str(tree)}, cache)
    else:
        assert "static/logo.png" in names(build({"path": str(tree)}, cache).path)


@pytest.mark.parametrize("kind", ["git", "archive"])
def test_a_pointer_in_a_tarball_that_was_remembered_by_a_version_before_is_refused(
    kind: str, tree: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree, {"static/logo.png": POINTER})
    source = packed(kind, tree, tmp_path)
    with monkeypatch.context() as before:
        before.setattr(kept, "_REFUSALS", 1)
        before.setattr(pack, "_POINTER_BYTES", 0)
        build(source, cache)
    with pytest.raises(SourceError, match=r"logo\.png"):
        build(source, cache)


def test_a_filter_of_git_lfs_is_not_run(tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed on the controller, the files are not to be looked for in the mirror, which has no remote."""
    write(tree, {"static/logo.png": POINTER, ".gitattributes": "*.png filter=lfs\n"})
    source = packed("git", tree, cache)
    for number, (name, value) in enumerate(
        {"filter.lfs.smudge": 'test -n "$GIT_LFS_SKIP_SMUDGE" && cat', "filter.lfs.required": "true"}.items()
    ):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", name)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    with pytest.raises(SourceError, match="is in Git LFS"):
        build(source, cache)
