# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shared directories: nothing in them is ever lost, and no link of the app leads root out of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.shared import (
    Kept,
    SharedError,
    is_shared,
    link,
    make,
    outermost,
)

ME = (os.getuid(), os.getgid())


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The code of a release in the making."""
    made = tmp_path / "release" / "app"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The directory that the app can write to."""
    made = tmp_path / "shared"
    made.mkdir()
    return made


def write(root: Path, **files: str) -> None:
    """Write files whose names have ``__`` for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def everything(root: Path) -> dict[str, str]:
    """Return the files below a directory with their text, links with where they lead."""
    return {
        str(path.relative_to(root)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def shares(app: Path, shared: Path, path: str, first: bool = True) -> Kept:
    make(shared, path, *ME)
    return link(app, shared, path, *ME, first)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["instance", "instance/uploads"], ["instance"]),
        (["instance/uploads", "instance"], ["instance"]),
        (["./instance/", "instance//", "instance/."], ["instance"]),
        (["a/b/c", "a/b", "a/bc", "a-b"], ["a/b", "a/bc", "a-b"]),
        ([], []),
    ],
)
def test_a_path_below_another_is_folded_into_it(given: list[str], kept: list[str]) -> None:
    assert outermost(given) == kept


def test_the_codes_own_files_are_copied_on_the_first_deploy(app: Path, shared: Path) -> None:
    write(app, instance__config="c", instance__seeds__one="1", shop="s")
    (app / "instance/__pycache__").mkdir()
    (app / "instance/__pycache__/config.pyc").touch()
    (app / "instance/run").write_text("#!/bin/sh\n")
    (app / "instance/run").chmod(0o755)
    (app / "instance/current").symlink_to("seeds/one")
    assert shares(app, shared, "instance").names == []
    assert os.readlink(app / "instance") == str(shared / "instance")
    assert everything(shared / "instance") == {
        "config": "c",
        "current": "-> seeds/one",
        "run": "#!/bin/sh\n",
        "seeds/one": "1",
    }
    modes = {name: oct((shared / "instance" / name).stat().st_mode)[-4:] for name in (".", "config", "run", "seeds")}
    assert modes == {".": "0770", "config": "0660", "run": "0770", "seeds": "0770"}


def test_what_is_there_stays_as_it_is(app: Path, shared: Path) -> None:
    write(shared, instance__config="the app's", instance__db="data", instance__same="same")
    write(app, instance__config="the code's", instance__same="same", instance__more="m")
    kept = shares(app, shared, "instance")
    assert kept.names == ["config"]
    assert everything(shared / "instance") == {"config": "the app's", "db": "data", "more": "m", "same": "same"}


def test_a_later_deploy_copies_nothing_and_says_so(app: Path, shared: Path) -> None:
    write(shared, instance__db="data")
    write(app, instance__deleted__by_the_app="x", instance__db="data")
    kept = shares(app, shared, "instance", first=False)
    assert everything(shared) == {"instance/db": "data"}
    assert kept.sentence(Path("/srv/shop/shared")).startswith(
        "1 file of the repository in instance/ (deleted/by_the_app) will not be used: /srv/shop/shared/instance persists"
    )


def test_a_path_within_a_shared_one_does_not_reach_through_the_link(app: Path, shared: Path) -> None:
    """What made an ordinary deploy delete every upload."""
    write(shared, instance__uploads__photo="data")
    shares(app, shared, "instance")
    make(shared, "instance/uploads", *ME)
    assert everything(shared) == {"instance/uploads/photo": "data"}
    with pytest.raises(SharedError, match="but instance is a link in the repository"):
        link(app, shared, "instance/uploads", *ME, first=True)
    assert everything(shared) == {"instance/uploads/photo": "data"}


def in_place_of_the_directory(shared: Path, outside: Path) -> None:
    (shared / "instance").symlink_to(outside)


def further_down(shared: Path, outside: Path) -> None:
    (shared / "instance/deep").mkdir(parents=True)
    (shared / "instance/deep/uploads").symlink_to(outside)


def in_place_of_a_file(shared: Path, outside: Path) -> None:
    (shared / "instance/deep").mkdir(parents=True)
    (shared / "instance/deep/config").symlink_to(outside / "precious")


def as_what_is_being_written(shared: Path, outside: Path) -> None:
    (shared / "instance/deep").mkdir(parents=True)
    (shared / "instance/deep/.config.flaskops-new").symlink_to(outside / "precious")


def as_a_pipe(shared: Path, outside: Path) -> None:
    (shared / "instance/deep").mkdir(parents=True)
    os.mkfifo(shared / "instance/deep/config")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "plant",
    [in_place_of_the_directory, further_down, in_place_of_a_file, as_what_is_being_written, as_a_pipe],
)
def test_no_link_of_the_app_is_followed(
    app: Path, shared: Path, tmp_path: Path, plant: Callable[[Path, Path], None], first: bool
) -> None:
    outside = tmp_path / "outside"
    write(outside, precious="precious", config="theirs", deep__config="theirs", uploads__x="theirs")
    outside.chmod(0o751)
    before = everything(outside)
    plant(shared, outside)
    write(app, instance__deep__config="c", instance__deep__uploads__new="n", instance__precious="p")
    shares(app, shared, "instance", first)
    make(shared, "instance/deep/uploads", *ME)
    assert everything(outside) == before
    assert outside.stat().st_mode & 0o7777 == 0o751
    assert os.readlink(app / "instance") == str(shared / "instance")


@pytest.mark.parametrize(("path", "spoilt"), [("instance", "instance"), ("a/b", "a"), ("a/b", "a/b")])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_directory_in_the_code_is_refused(
    app: Path, shared: Path, path: str, spoilt: str, kind: str
) -> None:
    (app / spoilt).parent.mkdir(exist_ok=True)
    (app / "elsewhere").mkdir()
    if kind == "link":
        (app / spoilt).symlink_to(app / "elsewhere")
    else:
        (app / spoilt).write_text("precious")
    with pytest.raises(SharedError, match=f"shared_paths lists {path}, but {Path(spoilt).name} is a {kind}"):
        shares(app, shared, path)
    assert os.path.lexists(app / spoilt)


def test_a_path_that_the_code_does_not_have(app: Path, shared: Path) -> None:
    assert shares(app, shared, "var/uploads").names == []
    assert os.readlink(app / "var/uploads") == str(shared / "var/uploads")
    assert (shared / "var/uploads").stat().st_mode & 0o7777 == 0o770


def test_which_paths_a_release_shares(app: Path, shared: Path) -> None:
    shares(app, shared, "instance")
    (app / "plain").mkdir()
    assert [is_shared(app, path) for path in ("instance", "instance/uploads", "plain", "missing")] == [
        True,
        True,
        False,
        False,
    ]
    # Of a release whose code is gone nobody knows, and nothing is brought back that may have been deleted on purpose.
    assert is_shared(app.with_name("gone"), "instance")
