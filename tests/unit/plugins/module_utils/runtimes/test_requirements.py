# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an app needs installed: found in the stated order, named by everything that the install reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import requirements
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.requirements import RequirementsError, find

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
        ({"pyproject.toml": "project = 1"}, {}, "project of pyproject.toml is not a table"),
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


# ------------------------------------------------------------------------------------- what would be passed over

STATIC = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["flask (>=2.3)"]\n'
POETRY = "poetry export -f requirements.txt -o requirements.txt"
SETUP = "from setuptools import setup\nsetup(name='shop', install_requires=['flask'])\n"


@pytest.mark.parametrize(
    ("files", "named", "advice"),
    [
        ({"pyproject.toml": STATIC, "poetry.lock": ""}, "poetry.lock", POETRY),
        ({"pyproject.toml": "[tool.poetry.dependencies]\nflask = '*'", "poetry.lock": ""}, "poetry.lock", POETRY),
        ({"poetry.lock": ""}, "poetry.lock", POETRY),
        ({"pyproject.toml": STATIC, "pdm.lock": ""}, "pdm.lock", "pdm export -f requirements -o requirements.txt"),
        ({"Pipfile": ""}, "Pipfile", "pipenv lock && pipenv requirements > requirements.txt"),
        ({"Pipfile": "", "Pipfile.lock": "{}"}, "Pipfile.lock and Pipfile", "pipenv requirements > requirements.txt"),
        ({"Pipfile": "", "Pipfile.lock": "{}", "setup.py": SETUP}, "Pipfile.lock", "'pipenv requirements"),
        ({"Pipfile.lock": "{}", "pyproject.toml": STATIC}, "Pipfile.lock", "pipenv requirements > requirements.txt"),
        ({"requirements.lock": "flask==3.0.3\n", "pyproject.toml": STATIC}, "requirements.lock", "requirements.txt"),
        ({"pixi.lock": "", "pyproject.toml": STATIC}, "pixi.lock", "pip list --format=freeze > requirements.txt"),
        ({"environment.yml": "name: x\ndependencies:\n- flask\n"}, "environment.yml", "pip list --format=freeze"),
        ({"setup.py": SETUP}, "setup.py", "a requirements.txt with one line, '.'"),
        ({"setup.cfg": "[options]\ninstall_requires = flask\n"}, "setup.cfg", "one line, '.'"),
        (
            {"setup.cfg": "[metadata]\nname = shop\n", "pyproject.toml": "[build-system]\n"},
            "setup.cfg",
            "one line, '.'",
        ),
        ({"setup.py": SETUP, "pyproject.toml": "[tool.black]\n"}, "setup.py", "one line, '.'"),
        ({"pyproject.toml": "[tool.flit.metadata]\nmodule = 'shop'\n"}, "pyproject.toml", "one line, '.'"),
        ({"requirements/prod.txt": "", "requirements/dev.txt": ""}, "requirements/prod.txt,", "file or a list"),
        ({"requirements.in": ""}, "requirements.in", "a file or a list"),
        ({"REQUIREMENTS.TXT": ""}, "REQUIREMENTS.TXT", "a file or a list"),
        ({"pylock.prod.toml": "", "pyproject.toml": STATIC}, "pylock.prod.toml", "a file or a list"),
        (
            {"requirements-prod.txt": "", "pyproject.toml": "[project]\nname = 'x'"},
            "requirements-prod.txt",
            "a file or",
        ),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, files: dict[str, str], named: str, advice: str) -> None:
    for name, text in files.items():
        put(tmp_path, name, text)
    with pytest.raises(RequirementsError) as caught:
        find(tmp_path, {})
    assert named in str(caught.value)
    assert advice in str(caught.value)
    assert "python.requirements" in str(caught.value)
    # The way out that the message names.
    put(tmp_path, "deploy/base.txt", "flask==3.0.3\n")
    assert find(tmp_path, {"requirements": "deploy/base.txt"}).files == ("deploy/base.txt",)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        # What 'poetry export', 'pdm export' and 'pipenv requirements' write lies beside the lock.
        ({"requirements.txt": "flask==3.0.3\n", "poetry.lock": "", "pyproject.toml": STATIC}, "requirements.txt"),
        ({"requirements.txt": "flask==3.0.3\n", "Pipfile": "", "Pipfile.lock": "{}"}, "requirements.txt"),
        ({"requirements.txt": ".\n", "setup.py": SETUP, "setup.cfg": "[metadata]\n"}, "requirements.txt"),
        ({"requirements.txt": ".\n", "setup.py": SETUP, "Pipfile.lock": "{}"}, "requirements.txt"),
        ({"uv.lock": "", "pyproject.toml": STATIC, "poetry.lock": ""}, "uv.lock"),
        ({"pylock.toml": "", "pdm.lock": ""}, "pylock.toml"),
        ({"pyproject.toml": STATIC, "setup.py": SETUP, "setup.cfg": "[metadata]\n"}, "pyproject.toml"),
        ({"pyproject.toml": STATIC, "environment.yml": "dependencies:\n"}, "pyproject.toml"),
        ({"pyproject.toml": STATIC, "requirements-dev.txt": "", "pylock.dev.toml": ""}, "pyproject.toml"),
        ({"setup.cfg": "[flake8]\nmax-line-length = 100\n[tool:pytest]\n# [metadata]\n"}, "none"),
        ({"setup.py": "def setup(db):\n    db.create_all()\n"}, "none"),
        ({"environment.yml": "production: true\n"}, "none"),
        ({"pyproject.toml": "[build-system]\nrequires = ['hatchling']\n"}, "none"),
        ({"requirements-dev.txt": "", "requirements/test.txt": "", "robots.txt": "", "notes.txt": ""}, "none"),
        ({"Pipfile/README": "", "sub/poetry.lock": ""}, "none"),
    ],
)
def test_what_is_read_or_says_nothing_is_not_refused(tmp_path: Path, files: dict[str, str], kind: str) -> None:
    for name, text in files.items():
        put(tmp_path, name, text)
    assert find(tmp_path, {}).kind == kind


def test_a_lock_of_another_tool_that_is_named_says_what_writes_one(tmp_path: Path) -> None:
    put(tmp_path, "poetry.lock")
    with pytest.raises(RequirementsError, match=r"poetry export -f requirements\.txt"):
        find(tmp_path, {"requirements": "poetry.lock"})


def project(*dependencies: str, more: str = "") -> str:
    listed = ", ".join(f'"{item}"' for item in dependencies)
    return f'[project]\nname = "shop"\nversion = "1"\ndependencies = [{listed}]\n{more}'


UV = "[tool.uv.sources]\n"
INDEX = '[[tool.uv.index]]\nname = "{}"\nurl = "{}"\n'
PYPI = INDEX.format("p", "https://pypi.org/simple")
OPTIONAL = '[project.optional-dependencies]\nmail = ["h11"]\n'


@pytest.mark.parametrize(
    ("more", "python", "message"),
    [
        (UV + 'h11 = { path = "libs/h11" }\n', {}, r"takes h11 from elsewhere .*'uv lock'"),
        (UV + 'H_1-1 = { git = "https://h/x" }\n', {}, "takes H_1-1 from"),
        (UV + '"h-1.1" = { url = "https://h/x.whl" }\nflask = { git = "x" }\n', {}, r"takes flask, h-1\.1 from"),
        (UV + "h-1-1 = { workspace = true }\n", {}, "lies in a directory above.*without source.subdir"),
        ("[tool.uv.workspace]\n" + UV + "h-1-1 = { workspace = true }\n", {}, "Add a uv.lock"),
        (UV + 'h-1-1 = [{ index = "a", marker = "sys_platform == \'linux\'" }]\n', {}, "takes h-1-1 from"),
        ('[tool.poetry.dependencies]\nh-1-1 = { path = "libs/h11", develop = true }\n', {}, r"\[tool\.poetry\]"),
        ('[tool.poetry.dependencies]\nh-1-1 = [{ git = "x", python = ">3" }]\n', {}, "takes h-1-1 from"),
        ('[tool.poetry.group.main.dependencies]\nh-1-1 = { source = "acme" }\n', {}, "takes h-1-1 from"),
        (
            '[[tool.poetry.source]]\nname = "acme"\nurl = "https://u:hunter2@h/simple"\n',
            {},
            r"tool\.poetry\.source.*acme",
        ),
        ('[[tool.pdm.source]]\nname = "acme"\nurl = "https://h/simple"\n', {}, r"tool\.pdm\.source.*python\.index_url"),
        # A mirror, and PyPI behind another index.
        (UV + 'h-1-1 = { index = "pypi" }\n' + INDEX.format("pypi", "https://h/simple"), {}, "takes h-1-1 from"),
        (UV + 'h-1-1 = { index = "p" }\n' + PYPI + INDEX.format("acme", "https://h/simple"), {}, "takes h-1-1 from"),
    ],
)
def test_packages_from_elsewhere_are_refused(tmp_path: Path, more: str, python: dict[str, Any], message: str) -> None:
    dependencies = ["flask", "h11>=1", "h-1-1[fast]; python_version > '3'"]
    put(tmp_path, "pyproject.toml", project(*dependencies, more=more))
    for options in (python, {**python, "requirements": "pyproject.toml"}):
        with pytest.raises(RequirementsError, match=message) as caught:
            find(tmp_path, options)
        assert "hunter2" not in str(caught.value)
    # A lock, and a file that is named, say where each package comes from.
    put(tmp_path, "uv.lock", "version = 1\n")
    assert find(tmp_path, python).kind == "uv.lock"


@pytest.mark.parametrize(
    ("more", "python"),
    [
        # Of what is not installed.
        (UV + 'ruff = { path = "libs/ruff" }\n[dependency-groups]\ndev = ["ruff"]\n', {}),
        (OPTIONAL + UV + 'h11 = { path = "libs/h11" }\n', {}),
        (OPTIONAL + UV + 'flask = { path = "x", extra = "mail" }\nwerkzeug = { git = "x" }\n', {}),
        (UV + 'flask = { path = "x", group = "dev" }\n', {}),
        (UV + 'flask = [{ index = "a", marker = "sys_platform == \'darwin\'" }]\n', {}),
        (UV + 'pywin32 = { path = "x" }\n', {}),
        ('[tool.poetry.group.dev.dependencies]\nruff = { path = "x" }\n', {}),
        ('[tool.poetry.dependencies]\nflask = { extras = ["async"], allow-prereleases = true }\n', {}),
        # Indexes for what names them alone, the usual one, and where the inventory says which one.
        ('[[tool.poetry.source]]\nname = "acme"\nurl = "https://h"\npriority = "explicit"\n', {}),
        (
            '[[tool.poetry.source]]\nname = "PyPI"\n[[tool.pdm.source]]\nname = "pypi"\nurl = "https://pypi.org/simple"\n',
            {},
        ),
        ('[[tool.pdm.source]]\nname = "acme"\nurl = "https://h/simple"\n', {"index_url": "https://h/simple"}),
        (UV + 'flask = { index = "acme" }\n', {"index_url": "https://h/simple"}),
        (UV + 'flask = { index = "p" }\n' + PYPI, {}),
        (UV + 'flask = { index = "p" }\n' + PYPI + INDEX.format("acme", "https://h") + "explicit = true\n", {}),
        ('[tool.poetry.dependencies]\nflask = { version = "^3", source = "PyPI" }\n', {}),
        ("[tool.uv]\nsources = 1\n[tool.poetry]\ngroup = []\nsource = 'x'\n", {}),
    ],
)
def test_sources_of_what_is_not_taken_from_them_are_not_refused(
    tmp_path: Path, more: str, python: dict[str, Any]
) -> None:
    put(tmp_path, "pyproject.toml", project("flask", "pywin32; sys_platform == 'win32'", more=more))
    assert find(tmp_path, python).kind == "pyproject.toml"


def test_sources_of_an_extra_that_is_installed_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", project("flask", more=OPTIONAL + UV + 'h11 = { path = "libs/h11" }\n'))
    with pytest.raises(RequirementsError, match="takes h11 from"):
        find(tmp_path, {"extras": ["mail"]})


def test_dependencies_in_poetrys_table_beside_a_project_that_states_none(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", '[project]\nname = "shop"\n[tool.poetry.dependencies]\nflask = "^3"\n')
    with pytest.raises(RequirementsError, match=r"Poetry's own table.*poetry export"):
        find(tmp_path, {})


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            {"pyproject.toml": project("acme", more='[[tool.uv.index]]\nname = "acme"\nurl = "https://h"\n')},
            "uv (acme)",
        ),
        ({"pyproject.toml": project("acme", more='[tool.uv]\nextra-index-url = ["https://h"]\n')}, "extra-index-url"),
        ({"pyproject.toml": project("acme", more='[tool.uv.pip]\nindex-url = "https://h"\n')}, "uv (index-url)"),
        ({"pyproject.toml": project("acme"), "uv.toml": '[[index]]\nname = "acme"\nurl = "https://h"\n'}, "uv (acme)"),
        ({"pyproject.toml": project("acme", more='[[tool.uv.index]]\nurl = "https://h"\nexplicit = true\n')}, ""),
        ({"pyproject.toml": project(more='[[tool.uv.index]]\nname = "acme"\nurl = "https://h"\n')}, ""),
        ({"pyproject.toml": project("acme"), "requirements.txt": "acme\n"}, ""),
        (
            {"requirements.txt": "-e .\n", "pyproject.toml": project("acme", more=UV + 'acme = { path = "lib" }\n')},
            "pyproject.toml takes acme from elsewhere",
        ),
        (
            {"requirements.txt": ".\n", "pyproject.toml": project("acme", more=UV + 'acme = { index = "p" }\n' + PYPI)},
            "",
        ),
    ],
)
def test_what_pip_would_ignore(tmp_path: Path, files: dict[str, str], what: str) -> None:
    for name, text in files.items():
        put(tmp_path, name, text)
    said = find(tmp_path, {}).pip_ignores
    assert what in said if what else said == ""


def test_a_local_dependency_of_a_pyproject_is_part_of_the_digest(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", project("lib @ file:libs/lib"))
    put(tmp_path, "libs/lib/lib.py", "1")
    before = digest(tmp_path)
    put(tmp_path, "libs/lib/lib.py", "2")
    assert digest(tmp_path) != before


def test_the_project_itself_in_a_pylock_is_part_of_the_digest(tmp_path: Path) -> None:
    put(tmp_path, "pylock.toml", '[[packages]]\nname = "shop"\ndirectory = { path = "." }\n')
    put(tmp_path, "lib/shop.py", "1")
    before = digest(tmp_path)
    put(tmp_path, "lib/shop.py", "2")
    assert digest(tmp_path) != before


def test_packages_of_a_stated_index(tmp_path: Path) -> None:
    index = '[[tool.uv.index]]\nname = "{}"\nurl = "https://{}/simple/"\n'
    put(tmp_path, "pyproject.toml", index.format("a", "u:p@a") + "explicit = true\n" + index.format("b", "b"))
    put(
        tmp_path,
        "uv.lock",
        "".join(
            f'[[package]]\nname = "{name}"\nversion = "1"\nsource = {{ registry = "https://{host}/simple" }}\n'
            for name, host in (("One", "a"), ("two", "b"), ("three", "pypi.org"))
        ),
    )
    assert requirements.index_packages(tmp_path, "uv.lock", explicit=True) == {("one", "1"): "a"}
    assert requirements.index_packages(tmp_path, "uv.lock", explicit=False) == {("one", "1"): "a", ("two", "1"): "b"}
