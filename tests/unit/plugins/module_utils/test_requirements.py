# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an app needs installed: found in the stated order, named by everything that the install reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils import requirements
from ansible_collections.flaskops.server.plugins.module_utils.requirements import RequirementsError, find

PROJECT = """
[project]
name = "shop"
version = "1"
dependencies = ["flask==3.1.0"]
[project.optional-dependencies]
mail = ["mailer==1"]
all = ["shop[mail,Post_gres]", "extra==2"]
post-gres = ["psycopg==3"]
"""


def put(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def digest(root: Path, **python: Any) -> str:
    return find(root, python).digest


def test_the_order(tmp_path: Path) -> None:
    assert find(tmp_path, {}) == requirements.Requirements("none", None, digest(tmp_path))
    expected = []
    for name in reversed(requirements.ORDER):
        put(tmp_path, name, PROJECT if name == "pyproject.toml" else "")
        expected.append(name)
        found = find(tmp_path, {"requirements": None, "extras": []})
        assert (found.kind, found.file) == (name, name)
    assert expected[-1] == "uv.lock"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("requirements/prod.txt", "requirements.txt"),
        ("deps.in", "requirements.txt"),
        ("pylock.prod.toml", "pylock.toml"),
        ("sub/pyproject.toml", "pyproject.toml"),
        ("requirements", "requirements.txt"),
    ],
)
def test_a_named_file(tmp_path: Path, name: str, kind: str) -> None:
    put(tmp_path, "uv.lock")
    put(tmp_path, name, PROJECT if kind == "pyproject.toml" else "")
    for spelling in (name, [name], f"./{name}"):
        found = find(tmp_path, {"requirements": spelling})
        assert (found.kind, found.file, found.files) == (kind, name, (name,))


def test_several_files(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "a==1")
    put(tmp_path, "b.txt", "b==1")
    found = find(tmp_path, {"requirements": ["a.txt", "b.txt"]})
    assert (found.kind, found.file, found.files) == ("requirements.txt", "a.txt, b.txt", ("a.txt", "b.txt"))
    before = found.digest
    put(tmp_path, "b.txt", "b==2")
    assert digest(tmp_path, requirements=["a.txt", "b.txt"]) != before


def test_the_digest_follows_includes_and_ignores_comments(tmp_path: Path) -> None:
    put(
        tmp_path,
        "requirements.txt",
        "# the shop\n-r requirements/base.txt\n-cconstraints.txt\nflask==3 \\\n  --hash=sha256:aa\n",
    )
    put(tmp_path, "requirements/base.txt", "-r ../more.txt\n-r base.txt\n")
    put(tmp_path, "more.txt", "six==1  # a comment\n")
    put(tmp_path, "constraints.txt", "six<2\n")
    before = digest(tmp_path)
    put(tmp_path, "app.py", "changed")
    put(tmp_path, "more.txt", "# another comment\n\nsix==1\n")
    assert digest(tmp_path) == before
    for name, text in (
        ("more.txt", "six==2"),
        ("constraints.txt", "six<3"),
        ("requirements/base.txt", "-r ../more.txt"),
    ):
        put(tmp_path, name, text)
        assert digest(tmp_path) != before
        before = digest(tmp_path)


def test_a_local_package_is_part_of_the_digest(tmp_path: Path) -> None:
    put(tmp_path, "requirements.txt", "./lib[fast]\n")
    put(tmp_path, "lib/setup.py", "1")
    put(tmp_path, "app.py", "1")
    before = digest(tmp_path)
    put(tmp_path, "app.py", "2")
    assert digest(tmp_path) == before
    put(tmp_path, "lib/setup.py", "2")
    assert digest(tmp_path) != before
    assert find(tmp_path, {}).editable is False


def test_an_editable_install_becomes_a_plain_one(tmp_path: Path) -> None:
    put(tmp_path, "requirements.txt", "-r sub/base.txt\n-e .[mail]\nflask==3 \\\n    --hash=sha256:aa\n")
    put(tmp_path, "sub/base.txt", "--editable=./lib\n-c ../c.txt\nsix\n-e git+https://h/x#egg=x\n")
    put(tmp_path, "c.txt")
    put(tmp_path, "lib/setup.py")
    found = find(tmp_path, {})
    assert found.editable
    assert requirements.flattened(tmp_path, found.files).splitlines() == [
        f"{tmp_path}/lib",
        f"-c {tmp_path}/c.txt",
        "six",
        "git+https://h/x#egg=x",
        f"{tmp_path}[mail]",
        "flask==3     --hash=sha256:aa",
    ]


def test_a_pyproject_counts_with_its_dependencies_only(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", PROJECT)
    before, mail = digest(tmp_path), digest(tmp_path, extras=["mail"])
    assert before != mail
    put(tmp_path, "pyproject.toml", PROJECT.replace('"1"', '"2"') + "[tool.black]\nline-length = 1\n")
    assert (digest(tmp_path), digest(tmp_path, extras=["mail"])) == (before, mail)
    put(tmp_path, "pyproject.toml", PROJECT.replace("flask==3.1.0", "flask==3.1.1"))
    assert digest(tmp_path) != before


def test_extras_of_a_pyproject(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", PROJECT)
    assert requirements.dependencies(tmp_path) == ["flask==3.1.0"]
    assert requirements.dependencies(tmp_path, extras=["Post.gres"]) == ["flask==3.1.0", "psycopg==3"]
    everything = ["flask==3.1.0", "mailer==1", "psycopg==3", "extra==2"]
    assert requirements.dependencies(tmp_path, extras=["all", "mail"]) == everything


def test_a_pyproject_for_tools_only_is_no_requirement(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", "[tool.black]\nline-length = 1\n")
    assert find(tmp_path, {}).kind == "none"


def test_a_lock_counts_with_its_project(tmp_path: Path) -> None:
    put(tmp_path, "uv.lock", "version = 1\n")
    put(tmp_path, "pyproject.toml", PROJECT)
    before = digest(tmp_path)
    put(tmp_path, "pyproject.toml", PROJECT + "[tool.black]\nline-length = 1\n")
    assert digest(tmp_path) == before
    put(tmp_path, "pyproject.toml", PROJECT + "[tool.uv]\ndefault-groups = []\n")
    assert digest(tmp_path) != before


def test_a_local_package_of_a_lock_is_part_of_the_digest(tmp_path: Path) -> None:
    put(tmp_path, "uv.lock", '[[package]]\nname = "lib"\nsource = { editable = "packages/lib" }\n')
    put(tmp_path, "pyproject.toml", PROJECT)
    put(tmp_path, "packages/lib/lib.py", "1")
    before = digest(tmp_path)
    put(tmp_path, "packages/lib/lib.py", "2")
    assert digest(tmp_path) != before


def test_wheels_of_the_app_are_part_of_the_digest(tmp_path: Path) -> None:
    put(tmp_path, "wheels/a-1-py3-none-any.whl", "1")
    before = digest(tmp_path, find_links="wheels")
    put(tmp_path, "wheels/b-1-py3-none-any.whl", "1")
    assert digest(tmp_path, find_links=["wheels"]) != before


@pytest.mark.parametrize(
    ("files", "python", "message"),
    [
        ({"requirements.txt": ""}, {"requirements": "requirments.txt"}, "does not have. It has: requirements.txt"),
        ({"requirements/prod.txt": ""}, {"requirements": "prod.txt"}, "It has: requirements/prod.txt"),
        ({}, {"requirements": "../x.txt"}, "inside the app"),
        ({}, {"requirements": "/etc/passwd"}, "inside the app"),
        ({"poetry.lock": ""}, {"requirements": "poetry.lock"}, "not a format that can be installed from"),
        ({"a.txt": "", "uv.lock": ""}, {"requirements": ["a.txt", "uv.lock"]}, "stands alone"),
        ({"pyproject.toml": "[tool.x]"}, {"requirements": "pyproject.toml"}, r"no \[project\] table"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\nx = '1'"}, {}, "poetry export"),
        ({"pyproject.toml": "[project"}, {}, "not valid TOML"),
        ({"pyproject.toml": "[project]\ndynamic = ['dependencies']"}, {}, "build backend"),
        ({"pyproject.toml": "[project]\ndependencies = 'x'"}, {}, "not a list of strings"),
        ({"pyproject.toml": PROJECT}, {"extras": ["mial"]}, "defines all, mail, post-gres. Did you mean 'mail'"),
        ({"pyproject.toml": PROJECT}, {"require_hashes": True}, "has no hashes"),
        ({"requirements.txt": ""}, {"extras": ["mail"]}, "is installed from requirements.txt"),
        ({"requirements.txt": "-r none.txt"}, {}, "requirements.txt includes none.txt, which the app does not have"),
        ({"requirements.txt": "-r ../none.txt"}, {}, "outside of the app"),
        ({"requirements.txt": "-e ../lib"}, {}, "installs ../lib, which lies outside"),
        ({"requirements.txt": "./lib"}, {}, "installs ./lib, which the app does not have"),
        ({"requirements.txt": ""}, {"constraints": "c.txt"}, "python.constraints names 'c.txt'"),
        ({"uv.lock": ""}, {}, "no pyproject.toml beside it"),
    ],
)
def test_messages(tmp_path: Path, files: dict[str, str], python: dict[str, Any], message: str) -> None:
    root = tmp_path / "app"
    root.mkdir()
    for name, text in files.items():
        put(root, name, text)
    with pytest.raises(RequirementsError, match=message):
        find(root, python)


@pytest.mark.parametrize(
    ("requirement", "path"),
    [
        (".", "."),
        ("./lib[a,b]", "./lib"),
        ("../x", "../x"),
        ("wheels/a-1-py3-none-any.whl", "wheels/a-1-py3-none-any.whl"),
        ("shop @ file:./lib", "./lib"),
        ("shop @ file:///srv/lib", "/srv/lib"),
        ("flask", None),
        ("flask[async]==3.1 ; python_version < '3.12'", None),
        ("shop @ https://example.org/x.whl", None),
        ("git+https://example.org/x.git", None),
        ("--index-url https://example.org/simple", None),
    ],
)
def test_local_target(requirement: str, path: str | None) -> None:
    assert requirements.local_target(requirement) == path


@pytest.mark.parametrize(
    ("specifier", "version", "allowed"),
    [
        (">=3.11", "3.11.0", True),
        (">=3.12", "3.11.9", False),
        (">=3.9,<3.12", "3.11.2", True),
        (">=3.9,<3.11", "3.11.2", False),
        ("~=3.11", "3.13.5", True),
        ("~=3.11.4", "3.13.5", False),
        ("==3.13.*", "3.13.5", True),
        ("!=3.13.*", "3.13.5", False),
        (">3.11", "3.11.2", True),
        ("<=3.11", "3.11.2", False),
        ("something else", "3.11.2", True),
    ],
)
def test_allows(specifier: str, version: str, allowed: bool) -> None:
    assert requirements.allows(specifier, version) is allowed
