# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Archives of images lose their names on the controller. What an engine then makes of one is tested with the runtime."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import image_archives
import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build, image_archive
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import refuse_foreign_names
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image_archive import (
    ArchiveError,
    copy_without_names,
    read_names,
)

LAYER = os.urandom(5000)
MINE = "localhost/flaskops/shop"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for directory in ("artifacts", "locks"):
        (tmp_path / "cache" / directory).mkdir(parents=True)
    return tmp_path / "cache"


def packed(path: Path, mode: str = "w", **indexes: Any) -> Path:
    return image_archives.write(path, LAYER, mode, **indexes)


def artifact(root: Path, **indexes: Any) -> Artifact:
    """What is made of an archive as the source of an app."""
    packed(root / "shop.tar", **indexes)
    return build({"image": "docker-archive:shop.tar"}, root / "cache", str(root), {})


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_copy_has_all_but_the_names(tmp_path: Path, cache: Path, mode: str) -> None:
    archive = packed(tmp_path / "a.tar", mode, manifest__json=image_archives.manifest("shop:1.4"))
    before = archive.read_bytes()
    copy = copy_without_names(archive, cache)
    assert archive.read_bytes() == before
    with tarfile.open(copy) as tar:
        assert read_names(tar) == []
        found = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert json.loads(found.pop("manifest.json")) == [{**image_archives.manifest()[0], "RepoTags": None}]
    assert found == {"c.json": b"{}", "abc/layer.tar": LAYER}
    # It is sent to every host.
    assert (copy.read_bytes()[:2] == b"\x1f\x8b") == (mode != "w")
    assert copy.stat().st_mode & 0o077 == 0


def test_a_copy_is_made_once_of_the_same_bytes(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path / "a.tar", manifest__json=image_archives.manifest("shop:1.4"))
    copy = copy_without_names(archive, cache)
    os.utime(copy, (0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(image_archive, "strip_names", lambda *_unused: pytest.fail("it is there"))
        assert copy_without_names(archive.rename(tmp_path / "b.tar"), cache) == copy
    assert copy.stat().st_mtime > 0, "a copy that is used is kept"
    assert (
        copy_without_names(packed(tmp_path / "a.tar", manifest__json=image_archives.manifest("shop:1.5")), cache)
        != copy
    )


def test_what_cannot_be_copied_leaves_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path / "a.tar", "w:gz", manifest__json=image_archives.manifest("shop:1.4"))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="cannot be read as an image archive"):
        copy_without_names(archive, cache)
    original = image_archive.strip_names

    def written_to(*files: Any) -> None:
        original(*files)
        archive.write_bytes(whole + b"\0")

    archive.write_bytes(whole)
    monkeypatch.setattr(image_archive, "strip_names", written_to)
    with pytest.raises(ArchiveError, match="The file changed while it was read"):
        copy_without_names(archive, cache)
    assert os.listdir(cache / "artifacts") == []


@pytest.mark.parametrize(
    ("indexes", "words"),
    [
        (
            {"manifest__json": image_archives.manifest("shop:1", "python:3")},
            r"gives its image 2 names \(docker.io/library/python:3, docker.io/library/shop:1\), expected one",
        ),
        ({"manifest__json": image_archives.manifest("shop:1", f"{MINE}2:abc")}, "gives its image 2 names"),
        (
            {
                "manifest__json": [
                    *image_archives.manifest("a"),
                    {**image_archives.manifest()[0], "Config": "abc/layer.tar"},
                ]
            },
            "holds 2 images, expected one",
        ),
        ({"manifest__json": []}, "holds 0 images, expected one"),
        ({"index__json": {"manifests": [{"digest": "a"}, {"digest": "b"}]}}, "holds 2 images, expected one"),
        ({"repositories": {"shop": {"1": "abc"}}}, "is not an image archive"),
        ({"manifest__json": {"name": "Shop"}}, "cannot be read as an image archive"),
        (
            {"manifest__json": [{**image_archives.manifest()[0], "Comment": "x" * (5 * 2**20)}]},
            r"The archive holds a manifest\.json of more than 4194304 bytes",
        ),
        (
            {"manifest__json": image_archives.manifest("shop:1"), "index__json": {"manifests": [{"digest": "a"}] * 2}},
            "holds 2 images, expected one",
        ),
    ],
)
def test_an_archive_that_is_refused(tmp_path: Path, indexes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=rf"source\.image {re.escape(str(tmp_path))}/shop\.tar: .*{words}"):
        artifact(tmp_path, **indexes)
    assert os.listdir(tmp_path / "cache/artifacts") == []


@pytest.mark.parametrize(
    ("indexes", "words"),
    [
        (
            {"manifest__json": [*image_archives.manifest("a"), {**image_archives.manifest()[0], "Config": "d.json"}]},
            "holds 2 images, expected one",
        ),
        ({"manifest__json": []}, "holds 0 images, expected one"),
        ({"index__json": {"manifests": [{"digest": "a"}, {"digest": "b"}]}}, "holds 2 images, expected one"),
        ({"repositories": {"shop": {"1": "abc"}}}, "obsolete format"),
        ({"manifest__json": {"name": "Shop"}}, "cannot be read as an image archive"),
        ({"manifest__json": "x" * (5 * 2**20)}, r"holds a manifest\.json of more than 4194304 bytes"),
    ],
)
def test_no_copy_is_made_of_what_is_no_archive_of_one_image(
    tmp_path: Path, cache: Path, indexes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArchiveError, match=words):
        copy_without_names(packed(tmp_path / "shop.tar", **indexes), cache)
    assert os.listdir(cache / "artifacts") == []


@pytest.mark.parametrize("name", ["localhost/flaskops/victim:abc", f"{MINE}2:abc", f"{MINE}/x:abc"])
def test_an_archive_that_is_called_as_another_apps_release(tmp_path: Path, name: str) -> None:
    made = artifact(tmp_path, manifest__json=image_archives.manifest(name))
    assert made.names == [name]
    # Those of a copy that is there already are looked at, too.
    assert artifact(tmp_path, manifest__json=image_archives.manifest(name)) == made
    with pytest.raises(
        SourceError,
        match=f"shop.tar: The archive names its image {name}, which belongs to a release of another app. Save",
    ):
        refuse_foreign_names(made, "shop")


@pytest.mark.parametrize("tags", [[], ["shop:1"], [f"{MINE}:abc"], ["docker.io/flaskops/victim:1"]])
def test_an_archive_may_be_called_otherwise(tmp_path: Path, tags: list[str]) -> None:
    refuse_foreign_names(artifact(tmp_path, manifest__json=image_archives.manifest(*tags)), "shop")
