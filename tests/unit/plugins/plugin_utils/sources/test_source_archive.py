# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An archive as the source: fetched once, and checked."""

from __future__ import annotations

import functools
import hashlib
import http.server
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from trees import GOLDEN, names


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, int, list[tuple[str, str | None]]]]:
    """A web server that wants a password and redirects once."""
    root = tmp_path / "web"
    root.mkdir()
    seen: list[tuple[str, str | None]] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path[len("/moved") :])
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield root, web.server_port, seen
    web.shutdown()
    web.server_close()


def test_an_archive_is_fetched_once(
    server: Any, tree: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root, port, seen = server
    with tarfile.open(root / "shop.tar.xz", "w:xz") as tar:
        tar.add(tree, "shop")
    checksum = "sha256:" + hashlib.sha256((root / "shop.tar.xz").read_bytes()).hexdigest()
    source = {"archive": f"http://me:hunter2@127.0.0.1:{port}/moved/shop.tar.xz", "checksum": checksum}
    made = build(source, cache)
    assert made.sha256 == GOLDEN == build(source, cache).sha256
    assert made.source["url"] == f"http://***@127.0.0.1:{port}/moved/shop.tar.xz"
    assert seen == [("/moved/shop.tar.xz", "Basic bWU6aHVudGVyMg=="), ("/shop.tar.xz", None)]
    with pytest.raises(
        SourceError, match=r"^Checksum mismatch for source.archive http://\*\*\*@.*: expected sha256:1{64}, got sha256:"
    ):
        build({**source, "checksum": "sha256:" + "1" * 64}, cache)
    with pytest.raises(SourceError, match="404") as caught:
        build({"archive": f"http://me:hunter2@127.0.0.1:{port}/x", "checksum": "sha256:" + "2" * 64}, cache)
    assert "hunter2" not in str(caught.value)
    assert len(list((cache / "downloads").iterdir())) == 1


def test_a_subdirectory_of_an_archive(tree: Path, cache: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.bz2", "w:bz2") as tar:
        tar.add(tree, "shop")
    made = build({"archive": f"file://{tmp_path}/x.tar.bz2", "subdir": "static", "exclude": ["*.txt"]}, cache)
    assert names(made.path) == ["site.css"]


def test_a_tar_that_ends_in_a_zip_is_a_tar(tree: Path, cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("inner.py", "")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tree / "app.py", "shop/app.py")
        tar.add(tmp_path / "z.zip", "shop/z.zip")
    # zipfile.is_zipfile looks for the end record of a zip in the last 64 KiB of the file.
    assert zipfile.is_zipfile(tmp_path / "x.tar")
    assert names(build({"archive": str(tmp_path / "x.tar")}, cache).path) == ["app.py", "z.zip"]
