# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The packed source: the same bytes everywhere, nothing in it that must not be, nothing unpacked where it must not be."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build, pack
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import cache as kept
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import excluder
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.package import pinned
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.unpack import unpack

# The tarball of TREE. It may change only together with cache.FORMAT.
TREE = {"app.py": "app = 1\n", "static/site.css": "body {}\n", "static/ü.txt": "ü\n", "run": "#!/bin/sh\n"}
GOLDEN = "9f2f9db4dba9bb71b94edf495c075c9081822d6ab88bb08a19b3664adfb39990"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o700)
    return root


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def git(directory: Path, *words: str) -> str:
    env = {
        **os.environ,
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(["git", "-C", str(directory), *words], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "tree", TREE)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = write(tmp_path / "repository", {**TREE, ".gitignore": "*.log\n/local/\n"})
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "one")
    git(root, "tag", "v1.0.0")
    return root


# ------------------------------------------------------------------------------------------------ the same bytes


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


# ------------------------------------------------------------------------------------------------------ a path


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


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 12345\n"


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
        ("git", "source.git does not fetch them: deploy a checkout .* with source.path, or .* source.exclude"),
        ("path", "Run 'git lfs pull' there and deploy again, or .* source.exclude"),
        ("archive", "Make the archive from a checkout in which 'git lfs pull' was run, or .* source.exclude"),
    ],
)
def test_pointers_of_git_lfs_are_refused(kind: str, advice: str, tree: Path, cache: Path, tmp_path: Path) -> None:
    write(tree, {"static/logo.png": POINTER, **{f"media/{number}.mp4": POINTER for number in range(1, 7)}})
    source = packed(kind, tree, tmp_path)
    for _attempt in range(2):
        with pytest.raises(SourceError, match=advice) as caught:
            build(source, cache)
        assert "7 files of the source are in Git LFS and not here" in str(caught.value)
        assert "(media/1.mp4, media/2.mp4, media/3.mp4, media/4.mp4, media/5.mp4 and 2 more)" in str(caught.value)
    assert not list((cache / "artifacts").iterdir())
    assert build({**source, "exclude": ["/static/logo.png", "media"]}, cache).sha256 == GOLDEN
    with pytest.raises(SourceError, match=r"1 file of the source is in Git LFS and not here \(logo\.png\)"):
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


def test_sockets_and_fifos_are_left_out(tree: Path, cache: Path) -> None:
    os.mkfifo(tree / "fifo")
    assert build({"path": str(tree)}, cache).sha256 == GOLDEN


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "/nowhere/at/all"}, "does not exist on the controller"),
        ({"path": "TREE/app.py"}, "is not a directory"),
        ({"path": "TREE", "subdir": "statik"}, "There is: static"),
        ({"path": "TREE", "subdir": "../x"}, "without '..'"),
        ({"path": "TREE", "exclude": ["*"]}, "holds no files that source.exclude leaves"),
        ({}, "exactly one of path, git, archive, package, image; none of them is given"),
        ({"path": "a", "git": "b"}, "path and git are given"),
        ({"archive": "TREE/none.zip"}, "is not a file on the controller"),
        ({"archive": "ftp://example.org/x.zip"}, "nor a URL of http or https"),
        ({"archive": "https://u:hunter2@example.org/x.zip"}, r"https://\*\*\*@example.org/x.zip .* has no checksum"),
        ({"archive": "TREE/app.py"}, "not a readable archive"),
        ({"archive": "TREE/app.py", "checksum": "sha256:12"}, "64 hexadecimal digits"),
        ({"archive": "TREE/app.py", "checksum": "sha256:" + "0" * 64}, "expected sha256:0{64}, found sha256:"),
        ({"git": "TREE"}, "cannot be read by the controller"),
        ({"git": "--upload-pack=x"}, "is not a repository"),
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


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("*.md", ["a.md", "docs/a.md"], ["a.mdx"]),
        ("docs", ["docs", "docs/x", "a/docs/x"], ["docsy", "a/xdocs"]),
        ("docs/", ["docs/x"], ["docs"]),
        ("/docs", ["docs/x"], ["a/docs"]),
        ("a/*.txt", ["a/b.txt"], ["a/b/c.txt", "x/a/b.txt"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c/d"], ["c"]),
        ("**/tests", ["tests/x", "a/b/tests"], ["test"]),
        ("te?t[!0-9]", ["tests", "textx"], ["test1"]),
        ("a+b (1).txt", ["a+b (1).txt"], ["aab 1.txt"]),
    ],
)
def test_patterns(pattern: str, hits: list[str], misses: list[str]) -> None:
    excluded = excluder([pattern])
    assert all(excluded(name) for name in hits)
    assert not any(excluded(name) for name in misses)


# -------------------------------------------------------------------------------------------------------- git


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


def test_credentials_of_a_url_reach_git_in_its_environment_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bin/git"
    write(
        tmp_path,
        {"bin/git": f'#!/bin/sh\necho "$@" >>{tmp_path}/argv\nenv >>{tmp_path}/env\necho "no $*" >&2\nexit 1\n'},
    )
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(SourceError) as caught:
        build({"git": "https://me:hunter2@git.example.org/shop.git", "version": "a" * 40}, cache)
    assert "hunter2" not in str(caught.value) + (tmp_path / "argv").read_text()
    assert "Authorization: Basic bWU6aHVudGVyMg==" in (tmp_path / "env").read_text()
    assert "GIT_TERMINAL_PROMPT=0" in (tmp_path / "env").read_text()


# ---------------------------------------------------------------------------------------------------- archive


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
    with pytest.raises(SourceError, match="has not the checksum"):
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


# ----------------------------------------------------------------------------------------------------- package


def test_a_package_is_a_requirements_file(cache: Path, tmp_path: Path) -> None:
    made = build({"package": "httpbin[mainapp]==0.10.4"}, cache)
    unpack(made.path, tmp_path / "out")
    assert (tmp_path / "out/requirements.txt").read_text() == "httpbin[mainapp]==0.10.4\n"
    assert made.source == {"kind": "package", "requirement": "httpbin[mainapp]==0.10.4", "version": "0.10.4"}


@pytest.mark.parametrize(
    "requirement",
    [
        "a==1",
        "a-b.c [x, y] == 1!2.0rc1+cu12",
        "a===1.0",
        "a @ https://h/a.whl",
        "a==1 --hash=sha256:00aa",
        "a==1 ; python_version>'3'",
    ],
)
def test_pinned(requirement: str) -> None:
    assert pinned(requirement)[0] == requirement


@pytest.mark.parametrize(
    "requirement",
    [
        "a",
        "a>=1",
        "a==1.*",
        "a==1,>2",
        "a==1\n-r /etc/passwd",
        "-r x",
        "a @ https://me:hunter2@h/a.whl",
        "a @ https://h/a.whl?token=hunter2",
        "a @ ./x",
        "",
    ],
)
def test_not_pinned(requirement: str, cache: Path) -> None:
    with pytest.raises(SourceError) as caught:
        pinned(requirement)
    assert "hunter2" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ unpack


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
        ([("l", "sym", {"linkname": "../x"})], "leads out of it: l -> ../x"),
        ([("d/l", "sym", {"linkname": "../../x"})], "leads out of it: d/l"),
        ([("l", "sym", {"linkname": "sub"}), ("l/x", b"", {})], "below 'l', which is a link"),
        ([("l", "sym", {"linkname": "m/../x"}), ("m", "sym", {"linkname": "a/b"}), ("a/b/x", b"", {})], None),
        ([("a/b/up", "sym", {"linkname": "../.."}), ("l", "sym", {"linkname": "a/b/up/../x"})], "leads out of it: l"),
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
    with pytest.raises(SourceError, match="leads out"):
        build({"archive": zipped(a__l=("../../etc/passwd", 0o120777), a__x=("1", 0))}, cache)
