# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All kinds of sources: the same artifact, in words that say what is wrong."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from trees import GOLDEN, TREE, git, write


def test_the_bytes_depend_on_the_tree_alone(tree: Path, cache: Path, tmp_path: Path) -> None:
    first = build({"path": str(tree)}, cache)
    assert first.sha256 == GOLDEN
    assert first.path == cache / "artifacts" / f"{GOLDEN}.tar"
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == GOLDEN

    other = write(tmp_path / "other", dict(reversed(TREE.items())))
    (other / "app.py").chmod(0o600)
    os.utime(other / "app.py", (1, 1))
    (other / "empty").mkdir()
    assert build({"path": str(other)}, tmp_path / "cache2").sha256 == GOLDEN


def test_every_source_of_a_tree_gives_the_same_artifact(tree: Path, cache: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shop-1.tar.gz", "w:gz") as tar:
        tar.add(tree, "shop-1")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for path in tree.rglob("*"):
            archive.write(path, path.relative_to(tree))
    git(tree, "init", "--quiet")
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN
    git(tree, "add", "-A")
    git(tree, "commit", "--quiet", "-m", "one")
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN
    assert build({"git": str(tree)}, cache).sha256 == GOLDEN
    assert build({"archive": str(tmp_path / "shop-1.tar.gz")}, cache).sha256 == GOLDEN
    assert build({"archive": str(tmp_path / "shop.zip")}, cache).sha256 == GOLDEN


def test_a_small_tree_takes_little_time(tree: Path, cache: Path) -> None:
    build({"path": str(tree)}, cache)
    began = time.process_time()
    build({"path": str(tree)}, cache)
    assert time.process_time() - began < 0.1


def test_several_processes_may_build_at_once(repository: Path, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        sources = [{"git": str(repository)}, {"path": str(repository)}] * 4
        assert len({item.sha256 for item in pool.map(lambda source: build(source, cache), sources)}) == 1
    assert [path.name for path in (cache / "artifacts").iterdir()] == [build(sources[0], cache).path.name]
    assert not list(cache.glob(".tree-*"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "/nowhere/at/all"}, "does not exist on the controller"),
        ({"path": "TREE/app.py"}, "is not a directory"),
        ({"path": "TREE", "subdir": "statik"}, "has no directory 'statik' .* Nearest: static"),
        ({"path": "TREE", "subdir": "../x"}, "without '..'"),
        ({"path": "TREE", "exclude": ["*"]}, "has no files left after source.exclude"),
        ({}, "exactly one of source.path, .*source.image, got none"),
        ({"path": "a", "git": "b"}, "got source.path and source.git"),
        ({"archive": "TREE/none.zip"}, "is not a file on the controller"),
        ({"archive": "ftp://example.org/x.zip"}, "or an http or https URL"),
        ({"archive": "https://u:hunter2@example.org/x.zip"}, r"https://\*\*\*@example.org/x.zip .* has no checksum"),
        ({"archive": "TREE/app.py"}, "not a readable archive"),
        ({"archive": "TREE/app.py", "checksum": "sha256:12"}, "64 hexadecimal digits"),
        ({"archive": "TREE/app.py", "checksum": "sha256:" + "0" * 64}, "expected sha256:0{64}, got sha256:"),
        ({"git": "TREE"}, "The controller cannot read the git repository"),
        ({"git": "--upload-pack=x"}, "Expected a repository"),
    ],
)
def test_messages(source: dict[str, Any], message: str, tree: Path, cache: Path) -> None:
    source = {
        key: value.replace("TREE", str(tree)) if isinstance(value, str) else value for key, value in source.items()
    }
    with pytest.raises(SourceError, match=message) as caught:
        build(source, cache)
    assert "hunter2" not in str(caught.value)
    assert not list(cache.glob("artifacts/.tmp*"))
