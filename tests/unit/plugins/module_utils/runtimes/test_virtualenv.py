# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Virtualenvs, really built: from wheels made here, without a network, with each installer that is there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import process
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import VIRTUALENV_MARKER
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import (
    interpreter,
    requirements,
    virtualenv,
)
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import VirtualenvError
from wheels import ENSUREPIP, UV, Site, wheel


def run(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_built_once_and_works_where_it_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("requirements.txt", "flusk==1.0\n")
    site.venvs.mkdir(parents=True)
    (site.venvs / ".build-dead/bin").mkdir(parents=True)
    built = site.ensure()
    assert (built.created, built.path, built.added) == (True, site.venvs / built.key, ["server==2.0"])
    assert [line for line in built.locked if not line.startswith("setuptools")] == [
        "flusk==1.0",
        "server==2.0",
        "werk==2.0",
    ]
    assert site.left() == [built.key]
    assert run(built.path / "bin/python", "-c", "import flusk, server; print(server.version)") == "2.0"
    module, prefix = run(built.path / "bin/flusk").split()
    assert prefix == str(built.path)
    assert module.startswith(f"{built.path}/lib/")
    assert run(built.path / "bin/python", "-c", "import sys, werk; print(werk.__cached__)").startswith(str(built.path))
    assert list(built.path.glob("lib/*/site-packages/__pycache__/flusk.*.pyc"))
    for path in (built.path / "bin").iterdir():
        if not path.is_symlink():
            assert b".build-" not in path.read_bytes(), path
    assert ".build-" not in (built.path / "pyvenv.cfg").read_text()
    assert not [path for path in built.path.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    facts = json.loads((built.path / VIRTUALENV_MARKER).read_text())
    assert facts["requirements"]["kind"] == "requirements.txt"
    assert facts["installer"] == built.installer

    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: pytest.fail("nothing is run for a virtualenv that is there")
    )
    monkeypatch.setattr(interpreter, "_is_running", lambda path: True)
    again = replace(built, created=False)
    known = virtualenv._known(built.path, built.key)
    assert known == again


def test_a_server_of_the_app_is_kept(quick: Site) -> None:
    quick.put("requirements.txt", "Server==1.0\n")
    built = quick.ensure()
    assert built.added == []
    assert "server==1.0" in built.locked


def test_a_server_does_not_change_what_the_app_locked(quick: Site) -> None:
    wheel(quick.wheels, "server", "3.0", "werk>=2")
    quick.server = ["server==3.0"]
    quick.put("requirements.txt", "werk==1.0\n")
    with pytest.raises(VirtualenvError) as caught:
        quick.ensure()
    assert caught.value.step == "install"
    assert "werk" in caught.value.output
    assert quick.left() == []


def test_no_requirements_at_all(quick: Site) -> None:
    assert quick.ensure().added == ["server==2.0"]


def test_a_pyproject_installs_its_dependencies_and_not_itself(quick: Site) -> None:
    quick.put(
        "pyproject.toml",
        '[project]\nname = "shop"\ndynamic = ["version"]\nrequires-python = ">=3.9"\ndependencies = ["werk<2"]\n'
        '[project.optional-dependencies]\nweb = ["flusk"]\n',
    )
    assert quick.ensure().locked == ["server==2.0", "werk==1.0"] or quick.ensure().installer == "pip"
    assert {"flusk==1.0", "werk==1.0"} <= set(quick.ensure(extras=["web"]).locked)
    assert len(quick.left()) == 2


def test_a_python_that_the_app_does_not_want(quick: Site) -> None:
    quick.put("pyproject.toml", '[project]\nname = "shop"\nrequires-python = ">=3.99"\n')
    with pytest.raises(VirtualenvError, match=r"the app needs Python >=3\.99 .*and /usr/bin/python3 is 3\.") as caught:
        quick.ensure()
    assert caught.value.step == "interpreter"


def test_constraints_and_an_editable_part_of_the_app(quick: Site) -> None:
    quick.put("requirements.txt", "flusk\n-e ./lib\n")
    quick.put("c.txt", "werk==1.0\n")
    quick.put("lib/backend.py", BACKEND)
    quick.put(
        "lib/pyproject.toml",
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "lib"\nversion = "1"\n',
    )
    built = quick.ensure(constraints="c.txt")
    assert {"lib==1", "werk==1.0"} <= set(built.locked)
    assert run(built.path / "bin/python", "-c", "import lib; print(lib.__file__)").startswith(str(built.path))


# A build backend without dependencies, since there is no index to get one from.
BACKEND = """
import pathlib, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "lib-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as archive:
        archive.writestr("lib.py", "")
        archive.writestr("lib-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: lib\\nVersion: 1\\n")
        archive.writestr("lib-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("lib-1.dist-info/RECORD", "lib.py,,\\nlib-1.dist-info/METADATA,,\\nlib-1.dist-info/WHEEL,,\\nlib-1.dist-info/RECORD,,\\n")
    return name
"""


def test_hashes(quick: Site) -> None:
    digest = hashlib.sha256((quick.wheels / "werk-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    quick.put("requirements.txt", f"werk==2.0 --hash=sha256:{digest}\n")
    with pytest.raises(
        VirtualenvError, match=r"does not bring server==2\.0: add it to the app's requirements"
    ) as caught:
        quick.ensure(require_hashes=True)
    assert caught.value.step == "install"
    quick.server = []
    assert "werk==2.0" in quick.ensure(require_hashes=True).locked
    quick.put("requirements.txt", f"werk==2.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(VirtualenvError) as caught:
        quick.ensure(require_hashes=True)
    assert "hash" in caught.value.output.lower()


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_uv_lock(quick: Site) -> None:
    quick.put("pyproject.toml", PROJECT)
    env = {**os.environ, "UV_CACHE_DIR": quick.env["UV_CACHE_DIR"]}
    subprocess.run(
        [
            str(UV),
            "lock",
            "--quiet",
            "--offline",
            "--no-index",
            "--find-links",
            str(quick.wheels),
            "--python",
            "/usr/bin/python3",
        ],
        cwd=quick.app,
        env=env,
        check=True,
    )
    built = quick.ensure()
    assert built.locked == ["flusk==1.0", "server==2.0", "werk==1.0"]
    assert "lib" not in built.locked
    (quick.tools / "bin/uv").unlink()
    with pytest.raises(VirtualenvError, match=r"has a uv\.lock, which only uv can install") as caught:
        quick.ensure(extras=["none"])
    assert caught.value.step == "install"


def lock(site: Site, *words: str) -> None:
    """Have uv lock the app, from its wheels alone."""
    command = [
        str(UV),
        "lock",
        "--quiet",
        "--offline",
        "--find-links",
        str(site.wheels),
        "--python",
        "/usr/bin/python3",
    ]
    env = {**os.environ, "UV_CACHE_DIR": site.env["UV_CACHE_DIR"]}
    subprocess.run([*command, *(words or ("--no-index",))], cwd=site.app, env=env, check=True)


def shop(*dependencies: str, more: str = "") -> str:
    listed = ", ".join(f'"{item}"' for item in dependencies)
    return f'[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = [{listed}]\n{more}'


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_lock_is_all_that_is_installed_of_the_app(quick: Site) -> None:
    """The packages of a lock may depend on the project itself, which is the code and in no index."""
    wheel(quick.wheels, "plugin", "1.0", "shop>=1", "werk")
    quick.put("pyproject.toml", shop("plugin", "werk<2"))
    lock(quick)
    built = quick.ensure()
    assert built.locked == ["plugin==1.0", "server==2.0", "werk==1.0"]
    # Another package of that name would stand before the code.
    wheel(quick.wheels, "shop", "1.5", "werk")
    shutil.rmtree(quick.venvs)
    assert quick.ensure().locked == ["plugin==1.0", "server==2.0", "werk==1.0"]


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_lock_without_a_package_that_another_one_needs_is_refused(quick: Site) -> None:
    quick.server = []
    quick.put(
        "pyproject.toml", shop("flusk", more="[tool.uv]\noverride-dependencies = [\"werk; sys_platform == 'win32'\"]\n")
    )
    lock(quick)
    with pytest.raises(VirtualenvError, match=r"those of uv\.lock: 'checks: {pip_check: false}' accepts") as caught:
        quick.ensure()
    assert caught.value.step == "check"
    assert quick.ensure(pip_check=False).locked == ["flusk==1.0"]


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_lock_that_overrides_what_a_package_says_is_installed_as_locked(quick: Site) -> None:
    wheel(quick.wheels, "flusk", "1.1", "werk>=2")
    quick.put("pyproject.toml", shop("flusk", more='[tool.uv]\noverride-dependencies = ["werk==1.0"]\n'))
    lock(quick)
    assert quick.ensure(pip_check=False).locked == ["flusk==1.1", "server==2.0", "werk==1.0"]


LIBRARY = """
[project]
name = "{name}"
version = "1"
dependencies = [{needs}]
[build-system]
requires = []
build-backend = "build"
backend-path = ["."]
[tool.uv.sources]
lib = {{ workspace = true }}
"""


@pytest.mark.skipif(UV is None, reason="uv is not installed")
@pytest.mark.parametrize("file", ["uv.lock", "pylock.toml", "requirements.txt"])
def test_a_member_of_a_workspace_is_copied_and_not_linked(quick: Site, file: str) -> None:
    quick.put("pyproject.toml", '[tool.uv.workspace]\nmembers = ["web", "lib"]\n')
    for name, needs in (("web", '"lib", "werk<2"'), ("lib", "")):
        quick.put(f"{name}/pyproject.toml", LIBRARY.format(name=name, needs=needs))
        quick.put(f"{name}/build.py", MEMBER)
        quick.put(f"{name}/code/{name}.py", "import lib\n" if name == "web" else "")
    if file == "requirements.txt":
        quick.put(file, "./web\n")
    else:
        lock(quick)
    if file == "pylock.toml":
        words = [
            str(UV),
            "export",
            "--quiet",
            "--frozen",
            "--offline",
            "--format",
            "pylock.toml",
            "--output-file",
            file,
        ]
        subprocess.run(words, cwd=quick.app, check=True)
        assert "editable = true" in (quick.app / file).read_text()
        # A directory of wheels is no index: of those that come from it a pylock.toml has no address.
        text = (quick.app / file).read_text()
        kept = [part for part in text.split("[[packages]]") if 'name = "werk"' not in part]
        (quick.app / file).write_text("[[packages]]".join(kept))
        (quick.app / "uv.lock").unlink()
    built = quick.ensure(pip_check=file != "pylock.toml")
    assert [line for line in built.locked if not line.startswith(("werk", "server"))] == ["lib==1", "web==1"]
    shutil.rmtree(quick.app)
    assert run(built.path / "bin/python", "-c", "import web; print(web.lib.__file__)").startswith(str(built.path))


MEMBER = """
import os, zipfile
NAME = os.path.basename(os.getcwd())
def pack(directory, name, text):
    with zipfile.ZipFile(os.path.join(directory, f"{NAME}-1-py3-none-any.whl"), "w") as archive:
        archive.writestr(name, text)
        needs = "Requires-Dist: lib\\nRequires-Dist: werk<2\\n" if NAME == "web" else ""
        archive.writestr(f"{NAME}-1.dist-info/METADATA", f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: 1\\n{needs}")
        archive.writestr(f"{NAME}-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        files = [name, *(f"{NAME}-1.dist-info/{file}" for file in ("METADATA", "WHEEL", "RECORD"))]
        archive.writestr(f"{NAME}-1.dist-info/RECORD", "".join(f"{file},,\\n" for file in files))
    return f"{NAME}-1-py3-none-any.whl"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    return pack(directory, f"{NAME}.py", open(f"code/{NAME}.py").read())
def build_editable(directory, config_settings=None, metadata_directory=None):
    return pack(directory, f"{NAME}.pth", os.path.abspath("code"))
"""


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_links_to_the_code_that_a_uv_makes_all_the_same_are_refused(
    quick: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ("lib", "1", '{"url": "file:///x", "dir_info": {"editable": true}}')
    monkeypatch.setattr(virtualenv._Build, "_distributions", lambda self: iter([found]))
    quick.put("requirements.txt", "werk\n")
    with pytest.raises(VirtualenvError, match=r"installs lib as links to the code"):
        quick.ensure()
    assert quick.left() == []


INDEX = '[[tool.uv.index]]\nname = "acme"\nurl = "https://u:hunter2@acme.example.org/simple"\n'


def locked_from_an_index(site: Site, more: str = "") -> None:
    """Put an app there whose lock takes one package from a stated index, and one from none."""
    site.put("pyproject.toml", shop("flusk", "werk", more=INDEX + more))
    lock(site)
    text = (site.app / "uv.lock").read_text()
    kept = text.replace(f'registry = "{site.wheels}"', 'registry = "https://acme.example.org/simple/"', 1)
    assert kept != text
    (site.app / "uv.lock").write_text(kept)


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_lock_with_an_index_of_its_own_says_so(quick: Site) -> None:
    locked_from_an_index(quick, "explicit = true\n")
    with pytest.raises(
        VirtualenvError, match=r"uv\.lock takes flusk from the index acme, .*python\.index_url"
    ) as caught:
        quick.ensure(offline=False)
    assert "hunter2" not in str(caught.value)
    assert quick.left() == []
    # Where the inventory says what to install from, that holds for all of it.
    assert "flusk==1.0" in quick.ensure(pip_check=False).locked


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_an_image_is_not_built_of_packages_of_an_index_that_pip_does_not_know(quick: Site) -> None:
    locked_from_an_index(quick)
    with pytest.raises(VirtualenvError, match=r"takes flusk from the index acme"):
        virtualenv.requirements_text(quick.app, {}, quick.tools)
    found = virtualenv.requirements_text(quick.app, {"index_url": "https://acme.example.org/simple"}, quick.tools)
    assert (found.locked, found.itself) == (True, "shop")
    assert "werk==2.0" in found.text


@pytest.mark.skipif(not ENSUREPIP, reason="the system's Python has no ensurepip")
def test_an_index_that_pip_does_not_read_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, "pip")
    site.put("pyproject.toml", shop("werk", more=INDEX))
    with pytest.raises(VirtualenvError, match=r"indexes for uv \(acme\), .*\(pip\) would not read") as caught:
        site.ensure(offline=False)
    assert caught.value.step == "install"
    assert "werk==2.0" in site.ensure().locked


def test_a_lock_below_the_top_leads_to_what_lies_beside_it(quick: Site) -> None:
    quick.put("sub/pyproject.toml", shop("lib", more='[tool.uv.sources]\nlib = { path = "lib" }\n'))
    quick.put("sub/lib/pyproject.toml", LIBRARY.format(name="lib", needs=""))
    quick.put("sub/lib/build.py", MEMBER)
    quick.put("sub/lib/code/lib.py", "where = 'sub'\n")
    if UV is None:
        pytest.skip("uv is not installed")
    words = [str(UV), "lock", "--quiet", "--offline", "--project", "sub", "--python", "/usr/bin/python3"]
    subprocess.run(words, cwd=quick.app, check=True)
    built = quick.ensure(requirements="sub/uv.lock")
    assert run(built.path / "bin/python", "-c", "import lib; print(lib.where)") == "sub"


PROJECT = """
[project]
name = "shop"
version = "1"
requires-python = ">=3.9"
dependencies = ["werk<2"]
[project.optional-dependencies]
none = []
[dependency-groups]
dev = ["server==1.0"]
web = ["flusk"]
[tool.uv]
default-groups = ["web", "dev"]
"""


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_a_pylock(quick: Site) -> None:
    name = "werk-1.0-py3-none-any.whl"
    digest = hashlib.sha256((quick.wheels / name).read_bytes()).hexdigest()
    quick.put("wheels/x", "")
    shutil.copy(quick.wheels / name, quick.app / "wheels" / name)
    quick.put(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "werk"\nversion = "1.0"\n'
        f'wheels = [{{ name = "{name}", path = "wheels/{name}", hashes = {{ sha256 = "{digest}" }} }}]\n',
    )
    assert quick.ensure().locked == ["server==2.0", "werk==1.0"]


def test_a_requirement_that_does_not_exist(site: Site) -> None:
    site.put("requirements.txt", "flusk==9.9\n")
    with pytest.raises(VirtualenvError, match=r"cannot install requirements\.txt") as caught:
        site.ensure()
    assert caught.value.step == "install"
    assert "flusk" in caught.value.output
    assert site.left() == []


def test_packages_that_do_not_agree(quick: Site) -> None:
    # What no resolver would install: the second file is installed over the first by an app that ships a broken wheel.
    wheel(quick.wheels, "broken", "1.0", "werk>=5; extra != 'x'")
    wheel(quick.wheels, "werk", "5.0")
    quick.put("requirements.txt", "broken\nwerk\n")
    built = quick.ensure()
    shutil.rmtree(next(built.path.glob("lib/*/site-packages/werk-5.0.dist-info")))
    check = [UV, "pip", "check", "--python", built.path / "bin/python"] if built.installer == "uv" else []
    check = check or [built.path / "bin/python", "-m", "pip", "check"]
    assert subprocess.run([str(word) for word in check], capture_output=True, check=False).returncode == 1

    quick.put("requirements.txt", "werk==1.0\n")
    original = virtualenv._Build._pip

    def broken(self: Any, verb: str) -> list[str]:
        return ["/bin/sh", "-c", "echo broken 1.0 requires werk; exit 1"] if verb == "check" else original(self, verb)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtualenv._Build, "_pip", broken)
        with pytest.raises(VirtualenvError, match="do not agree") as caught:
            quick.ensure()
        assert (caught.value.step, caught.value.output) == ("check", "broken 1.0 requires werk")
        assert quick.ensure(pip_check=False).created


def test_a_venv_that_was_not_completed_or_lost_its_python_is_built_again(quick: Site) -> None:
    quick.put("requirements.txt", "werk==1.0\n")
    built = quick.ensure()
    (built.path / VIRTUALENV_MARKER).unlink()
    assert quick.ensure().created
    (built.path / "bin/python").unlink()
    assert quick.ensure().created
    assert not quick.ensure().created
    assert quick.left() == [built.key]


def test_a_full_disk_leaves_nothing_and_says_so(quick: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    quick.put("requirements.txt", "werk==1.0\n")

    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(virtualenv._Build, "_relocate", full)
        with pytest.raises(VirtualenvError, match=r"the disk is full: [0-9]+ MB are free") as caught:
            quick.ensure()
    assert (caught.value.step, quick.left()) == ("compile", [])
    with monkeypatch.context() as patch:
        patch.setattr(
            virtualenv._Build,
            "_pip",
            lambda self, verb: ["/bin/sh", "-c", "echo 'No space left on device (os error 28)'; exit 2"],
        )
        with pytest.raises(VirtualenvError, match="the disk is full") as caught:
            quick.ensure()
    assert (caught.value.step, quick.left()) == ("install", [])


@pytest.mark.parametrize(
    "said",
    [
        "Exception: you need a C compiler to build uWSGI",
        "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-g++'",
        "error: command 'gcc' failed: No such file or directory",
        "src/x.c:1:10: fatal error: Python.h: No such file or directory",
    ],
)
def test_a_missing_compiler_is_named(quick: Site, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    quick.put("requirements.txt", "werk==1.0\n")
    monkeypatch.setattr(
        virtualenv._Build, "_pip", lambda self, verb: ["/bin/sh", "-c", 'echo "$1"; exit 1', "sh", said]
    )
    with pytest.raises(VirtualenvError, match="python_build_tools"):
        quick.ensure()


def test_an_interruption_leaves_nothing(quick: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(virtualenv._Build, "_check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick.ensure()
    assert quick.left() == []


def test_credentials_stay_in_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("requirements.txt", "flusk==1.0\n")
    url = "http://builder:hunter2-s%40cret@127.0.0.1:9/simple"
    commands: list[list[str]] = []
    original = process.run

    def record(command: list[str], **more: Any) -> Any:
        commands.append([str(word) for word in command])
        if "install" in commands[-1]:
            assert more["env"]["UV_DEFAULT_INDEX"] == more["env"]["PIP_INDEX_URL"] == url
        return original(command, **more)

    site.env.update(UV_HTTP_RETRIES="0", PIP_RETRIES="0")
    monkeypatch.setattr(virtualenv, "run", record)
    with pytest.raises(VirtualenvError) as caught:
        site.ensure(index_url=url, offline=False, find_links=None)
    assert caught.value.output
    everything = f"{caught.value} {caught.value.output} {commands}"
    assert "hunter2" not in everything
    assert "builder" not in everything


REQ = requirements.Requirements("requirements.txt", "requirements.txt", "0" * 64, ("requirements.txt",))

PYTHON = interpreter.Interpreter("/usr/bin/python3", "3.13.5", "cpython", "cpython-313-x86_64-linux-gnu linux-x86_64")


def test_the_key() -> None:
    base = virtualenv.key(REQ, PYTHON, {}, ["gunicorn==23.0.0"])
    assert len(base) == 16
    assert int(base, 16)

    def key(req: Any = REQ, interp: Any = PYTHON, server: Any = ("gunicorn==23.0.0",), **python: Any) -> str:
        return virtualenv.key(req, interp, python, server)

    assert key(interpreter="x", extras=[], require_hashes=False, offline=True, find_links=None) == base
    assert key(interp=replace(PYTHON, version="3.13.9")) == base
    others = [
        key(req=replace(REQ, digest="1" * 64)),
        key(interp=replace(PYTHON, version="3.12.1")),
        key(interp=replace(PYTHON, platform="other")),
        key(server=["gunicorn==23.0.1"]),
        key(extras=["a"]),
        key(require_hashes=True),
        key(system_packages=True),
        key(index_url="https://a/simple"),
        key(find_links="/x"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert key(index_url="https://me:one@h/simple") == key(index_url="https://you:two@h/simple")


def test_a_virtualenv_whose_packages_are_gone_is_built_again(quick: Site) -> None:
    quick.put("requirements.txt", "flusk\n")
    built = quick.ensure()
    shutil.rmtree(built.path / "lib")
    again = quick.ensure()
    assert (again.created, again.key, again.locked) == (True, built.key, built.locked)
    assert list(again.path.glob("lib/python*/site-packages/flusk*"))


@pytest.mark.parametrize("gone", ["bin/activate", "lib/python*/site-packages/flusk-1.0.dist-info"])
def test_a_virtualenv_that_lacks_something_is_built_again(quick: Site, gone: str) -> None:
    quick.put("requirements.txt", "flusk\n")
    built = quick.ensure()
    for path in built.path.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert quick.ensure().created
    assert not quick.ensure().created
