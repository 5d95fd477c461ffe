# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build the virtualenvs of an app on its host: one per requirements, interpreter and platform, shared by releases."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import urls
from ansible_collections.flaskops.server.plugins.module_utils.host.files import replace_file
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import (
    VIRTUALENV_MARKER,
    entries_of_virtualenv,
    is_virtualenv,
)
from ansible_collections.flaskops.server.plugins.module_utils.host.process import Finished, run
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import installer
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import VirtualenvError, listed, tail
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.interpreter import Interpreter, interpreter
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.requirements import (
    Requirements,
    allows,
    dependencies,
    distribution_name,
    find,
    flattened,
    foreign,
    index_packages,
    local_target,
    logical_lines,
    normalised,
    project_name,
    requires_python,
)
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import remove_leftovers

TOOLS = Path("/opt/flaskops/tools")
LOCKS = ("uv.lock", "pylock.toml")

# Part of every key: raise it when virtualenvs are built differently.
FORMAT = 2

_TIMEOUT = 3600  # seconds for one command of the installer; a large package may have to be compiled
_UMASK = 0o022

# How builds say that there is no compiler, or no header files of Python.
_COMPILER = re.compile(
    r"need a C compiler|fatal error: Python\.h"
    r"|(?:No such file or directory: |unable to execute |command )'[^']*(?:\bcc|gcc|g\+\+|clang)[^']*'"
)


@dataclass(frozen=True)
class Built:
    """A virtualenv that can be used.

    :ivar path: the virtualenv, ``<venvs>/<key>``.
    :ivar created: whether this call built it.
    :ivar installer: ``uv`` or ``pip``.
    :ivar locked: what is installed, one requirement each, sorted; without pip itself.
    :ivar added: the server packages that the app's own requirements did not bring.
    :ivar python: the version of the interpreter.
    :ivar seconds: how long the build took, when it was built.
    """

    path: Path
    key: str
    created: bool
    installer: str
    locked: list[str]
    added: list[str] = field(default_factory=list)
    python: str = ""
    seconds: float = 0.0


# ----------------------------------------------------------------------------------------------------- the key


def key(
    req: Requirements,
    interp: Interpreter,
    python: Mapping[str, Any],
    server_packages: Sequence[str],
) -> str:
    """Return what names the virtualenv: 16 hexadecimal digits.

    Two apps with the same key can share a virtualenv. The patch version of Python does not enter, nor do credentials.
    """
    parts = {
        "format": FORMAT,
        "requirements": [req.kind, req.file, req.digest],
        "python": [interp.path, interp.implementation, interp.series, interp.platform],
        "options": {
            "extras": sorted(str(extra) for extra in python.get("extras") or ()),
            "require_hashes": bool(python.get("require_hashes")),
            "constraints": python.get("constraints") or None,
            "index_url": urls.without_credentials(str(python.get("index_url") or "")),
            "find_links": [urls.without_credentials(item) for item in listed(python.get("find_links"))],
            "system_packages": bool(python.get("system_packages")),
        },
        "server": sorted(server_packages),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------------------- the build


def ensure(
    venvs: Path,
    app: Path,
    *,
    req: Requirements,
    interp: Interpreter,
    python: Mapping[str, Any],
    server_packages: Sequence[str],
    env: Mapping[str, str] | None = None,
    tools: Path = TOOLS,
    pip_check: bool = True,
) -> Built:
    """Return the virtualenv for ``req``, built when it is not there.

    It is built aside, in ``venvs/.build-<key>``, and renamed when it is complete; a build that fails or dies leaves
    nothing that could be taken for a virtualenv. The caller holds the app's lock.

    :param venvs: the directory of the app's virtualenvs.
    :param app: the unpacked code.
    :param python: the app's python options.
    :param server_packages: requirements such as ``gunicorn==23.0.0``; each is added only when the app's own
        requirements do not bring that distribution.
    :param env: variables for the installer (certificates, proxy, index); ``installer_env()`` when None.
    :param tools: the virtualenv that holds uv; without it, pip is used.
    :raises VirtualenvError: in which step, and what the installer said.
    """
    name = key(req, interp, python, server_packages)
    final = venvs / name
    if known := _known(final, name):
        return known
    build = _Build(venvs, name, app, req, interp, python, server_packages, env, tools, pip_check)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(build.clean)
            return build.run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(venvs, build.step) from error
        raise VirtualenvError(f"{error.filename or venvs}: {error.strerror or error}", build.step) from error


@dataclass(frozen=True)
class Text:
    """What an app needs, as a requirements file for pip.

    :ivar text: its content. Paths in it that begin with the app's directory lead to packages of the app's own tree.
    :ivar locked: it comes from a lock, and is all that is to be installed.
    :ivar itself: the name of the project, which a lock leaves out of it and which what it locks may depend on; or empty.
    """

    text: str
    locked: bool = False
    itself: str = ""


def requirements_text(app: Path, python: Mapping[str, Any], tools: Path = TOOLS) -> Text:
    """Return what an app needs as one requirements file, for a pip that is not this host's.

    :param app: the unpacked code.
    :param python: the app's python options.
    :raises RequirementsError: as :func:`requirements.find`.
    :raises VirtualenvError: for a lock that cannot be written as a requirements file here.
    """
    req = find(app, python)
    if req.kind == "pylock.toml":
        raise VirtualenvError(
            f"the app has a {req.file}, which cannot be installed into an image: 'uv export -o requirements.txt' writes "
            "what can, or add a Containerfile",
            "install",
        )
    with tempfile.TemporaryDirectory(prefix="flaskops-requirements-") as scratch:
        build = _Build(Path(scratch), "text", app, req, interpreter(), python, (), None, tools, False)
        build.scratch.mkdir()
        build.reader = "pip"
        build.refuse_unread()
        constraints = f"-c {app.resolve() / req.constraints}\n" if req.constraints else ""
        return Text(constraints + build.text(), build.locked, build.itself())


def _known(final: Path, name: str) -> Built | None:
    """Return the complete virtualenv ``final``, when there is one whose interpreter and packages still exist."""
    try:
        facts = json.loads((final / VIRTUALENV_MARKER).read_text(encoding="utf-8"))
        if not os.access(final / "bin" / "python", os.X_OK) or not is_virtualenv(final):
            return None
        return Built(
            path=final,
            key=name,
            created=False,
            installer=facts["installer"],
            locked=facts["locked"],
            added=facts["added"],
            python=facts["python"]["version"],
            seconds=facts["seconds"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _full(venvs: Path, step: str, output: str = "") -> VirtualenvError:
    free = shutil.disk_usage(venvs if venvs.exists() else "/").free // 1_048_576
    return VirtualenvError(
        f"the disk is full: {free} MB are free where {venvs} lies",
        step,
        output,
    )


class _Build:
    """One virtualenv in the making."""

    def __init__(
        self,
        venvs: Path,
        name: str,
        app: Path,
        req: Requirements,
        interp: Interpreter,
        python: Mapping[str, Any],
        server_packages: Sequence[str],
        env: Mapping[str, str] | None,
        tools: Path,
        pip_check: bool,
    ) -> None:
        self.venvs, self.name, self.app, self.req = venvs, name, app, req
        self.interp, self.python, self.server_packages, self.pip_check = interp, python, server_packages, pip_check
        self.final = venvs / name
        self.aside = venvs / f".build-{name}"
        self.scratch = venvs / f".build-{name}.files"
        self.uv = tools / "bin" / "uv"
        self.installer = "uv" if os.access(self.uv, os.X_OK) else "pip"
        self.reader = self.installer  # of the requirements
        self.locked = req.kind in LOCKS
        self.env = installer.environment(python, installer.installer_env() if env is None else env, app)
        self.secrets = urls.credentials(self.env.values())
        self.step = "create"

    def clean(self) -> None:
        """Remove what this build, or one that died, left aside."""
        remove_leftovers(self.venvs)

    def run(self) -> Built:
        """Build, and rename into place."""
        began = time.monotonic()
        self._refuse()
        self.clean()
        self.venvs.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.scratch.mkdir(mode=0o700)
        self._create()
        self.step = "install"
        wanted = self._wanted()
        if wanted:
            # A lock is complete. What its packages say they need is older than it, and may be overridden by it.
            self._install([*(["--no-deps"] if self.locked else []), *wanted], self.req.constraints)
        self._refuse_links()
        added = self._add_server()
        if self.pip_check:
            self.step = "check"
            self._check()
        self.step = "compile"
        self._compile()
        locked = self._locked()
        self._relocate()
        seconds = round(time.monotonic() - began, 2)
        self._mark(locked, added, seconds)
        if os.path.lexists(self.final):  # its interpreter is gone, or it was never completed
            os.rename(self.final, self.venvs / f".old-{self.name}")
        os.rename(self.aside, self.final)
        return Built(self.final, self.name, True, self.installer, locked, added, self.interp.version, seconds)

    def _refuse(self) -> None:
        """Refuse what cannot work before time is spent on it."""
        self.refuse_unread()
        if self.req.kind in ("uv.lock", "pyproject.toml"):
            file = self.req.files[0]
            project = os.path.join(os.path.dirname(file), "pyproject.toml") if self.req.kind == "uv.lock" else file
            needs = requires_python(self.app, project)
            if needs and not allows(needs, self.interp.version):
                raise VirtualenvError(
                    f"the app needs Python {needs} ({project}), and {self.interp.path} is {self.interp.version}. "
                    "python.interpreter chooses another one",
                    "interpreter",
                )

    def refuse_unread(self) -> None:
        """Refuse a lock that only uv reads, where there is no uv, and whatever else the installer would not read.

        :raises VirtualenvError: saying what to do.
        """
        # uv reads the settings of the app's top alone.
        beside = self.req.kind == "pyproject.toml" and os.path.dirname(self.req.files[0])
        if self.req.pip_ignores and (self.reader != "uv" or beside):
            raise VirtualenvError(
                f"{self.req.pip_ignores}, and what installs here ({self.reader}) would not read that: packages of the same "
                "names would come from the host's own index. Add a requirements.txt that says where each comes from, as "
                "'uv export -o requirements.txt' writes it, or name the index in python.index_url",
                "install",
            )
        if self.req.kind in LOCKS and self.installer != "uv":
            raise VirtualenvError(
                f"the app has a {self.req.file}, which only uv can install, and this host has no uv ({self.uv}). The "
                "role python installs it; or name a requirements file in python.requirements ('uv export -o "
                "requirements.txt' writes one)",
                "install",
            )

    # -- steps ---------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        if self.installer == "uv":
            # Packages of a private index are in it.
            Path(self.env["UV_CACHE_DIR"]).mkdir(mode=0o700, parents=True, exist_ok=True)
            command = [str(self.uv), "venv", "--quiet", "--no-project", "--no-config", "--python", self.interp.path]
        else:
            command = [self.interp.path, "-I", "-m", "venv", "--symlinks"]
        if self.python.get("system_packages"):
            command.append("--system-site-packages")
        done = self._run([*command, "--prompt", self.venvs.parent.name or "app", str(self.aside)], self.venvs)
        if done.code:
            said = done.output
            hint = ""
            if "ensurepip" in said:
                hint = f": its module venv is not complete (Debian: install python{self.interp.series}-venv)"
            raise self._error(f"{self.interp.path} cannot make a virtualenv{hint}", said)

    def _wanted(self) -> list[str]:
        """Return the installer's arguments for the app's own requirements, none when there are none."""
        kind, files = self.req.kind, self.req.files
        if kind == "requirements.txt" and not self.req.editable:
            return [word for name in files for word in ("-r", str(self.app / name))]
        if kind == "pylock.toml":
            extras = [word for extra in listed(self.python.get("extras")) for word in ("--extra", extra)]
            return ["-r", str(self.app / files[0]), *extras]
        text = self.text()
        return ["-r", self._write("requirements.txt", text)] if text else []

    def text(self) -> str:
        """Return the app's own requirements as one requirements file, empty when there are none.

        :raises VirtualenvError: for a lock that needs uv, without it.
        """
        kind, files = self.req.kind, self.req.files
        if kind == "requirements.txt":
            return flattened(self.app, files)
        if kind == "pyproject.toml":
            return "".join(f"{line}\n" for line in dependencies(self.app, files[0], listed(self.python.get("extras"))))
        if kind == "uv.lock":
            return self._export(self.app / os.path.dirname(files[0]))
        return ""

    def _export(self, project: Path) -> str:
        """Return a requirements file with hashes that says what the uv.lock of ``project`` says, paths absolute.

        :raises VirtualenvError: uv cannot read it, or packages come from an index that would not be asked for them.
        """
        out = self.scratch / "exported.txt"
        command = [
            *(str(self.uv), "export", "--quiet", "--project", str(project), "--frozen", "--no-dev", "--no-header"),
            *("--no-emit-project", "--no-editable", "--no-annotate", "--format", "requirements.txt"),
            *("--python", self.interp.path, "--output-file", str(out)),
        ]
        for extra in listed(self.python.get("extras")):
            command += ["--extra", extra]
        done = self._run(command, project)
        if done.code:
            raise self._error(f"{self.req.file} cannot be used", done.output)
        text = out.read_text(encoding="utf-8")
        lines = []
        for line in text.splitlines():
            if (path := local_target(line)) and line.startswith(path) and not os.path.isabs(path):
                line = os.path.normpath(project.resolve() / path) + line[len(path) :]
            lines.append(f"{line}\n")
        self._refuse_index("".join(lines))
        return "".join(lines)

    def _refuse_index(self, exported: str) -> None:
        if self.python.get("index_url") or self.python.get("offline"):
            return
        stated = index_packages(self.app, self.req.files[0], explicit=self.reader == "uv")
        found: dict[str, str] = {}
        for line in logical_lines(exported) if stated else ():
            pin = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
            index = stated.get((normalised(pin[1]), pin[2])) if pin else None
            if pin and index and not foreign(line.partition(" --hash")[0]):
                found[pin[1]] = index
        if found:
            raise VirtualenvError(
                f"{self.req.file} takes {', '.join(found)} from the index {', '.join(sorted(set(found.values())))}, which "
                f"pyproject.toml states for uv's own commands alone, and {self.reader} would ask the host's index for it. "
                "Name an index that has all packages in python.index_url"
                + (", or take 'explicit' away from that index and lock again" if self.reader == "uv" else ""),
                "install",
            )

    def itself(self) -> str:
        """Return the normalised name of the project that a uv.lock belongs to and leaves out; empty without one."""
        if self.req.kind != "uv.lock":
            return ""
        return project_name(self.app, os.path.join(os.path.dirname(self.req.files[0]), "pyproject.toml"))

    def _refuse_links(self) -> None:
        """Refuse packages that were installed as links to the code: an older uv than ours makes them where a lock asks."""
        links = [
            name
            for name, _version, direct in self._distributions()
            if direct and (json.loads(direct).get("dir_info") or {}).get("editable")
        ]
        if links:
            raise VirtualenvError(
                f"{self.req.file} installs {', '.join(sorted(links))} as links to the code (editable), which would lead "
                "nowhere: the code is moved when it is complete. Ask for them without 'editable', or let the role python install "
                "a newer uv",
                "install",
            )

    def _install(self, arguments: Sequence[str], constraints: str | None, *, hashes: bool | None = None) -> None:
        if constraints:
            arguments = [*arguments, "-c", str(self.app / constraints)]
        if hashes if hashes is not None else self.python.get("require_hashes"):
            arguments = [*arguments, "--require-hashes"]
        done = self._run([*self._pip("install"), *arguments], self.app)
        if done.code:
            what = f"{self.installer} cannot install {self.req.file or 'the server'}"
            if _COMPILER.search(done.output):
                what += ": a package has to be compiled, and this host lacks a compiler or headers. Set python_build_tools: true, and "
                what += "python_build_packages for the headers (role python)"
            raise self._error(what, done.output)

    def _pip(self, verb: str) -> list[str]:
        python = str(self.aside / "bin" / "python")
        if self.installer == "uv":
            return [str(self.uv), "pip", verb, "--quiet", "--python", python]
        options = ["--quiet", "--no-compile"] if verb == "install" else []
        return [python, "-I", "-m", "pip", verb, *options]

    def _add_server(self) -> list[str]:
        """Install the server packages that the app's own requirements did not bring."""
        there = {normalised(name): version for name, version, _direct in self._distributions()}
        missing = [item for item in self.server_packages if distribution_name(item) not in there]
        if not missing:
            return []
        if self.python.get("require_hashes"):
            raise VirtualenvError(
                f"python.require_hashes is set, and {self.req.file or 'the app'} does not bring {', '.join(missing)}: "
                "add it to the app's requirements, with its hash",
                "install",
            )
        # What the app asked for stays as it is: a server that needs something else is a conflict, not a change.
        held = "".join(f"{name}=={version}\n" for name, version in sorted(there.items()))
        arguments = [*missing, "-c", self._write("held.txt", held)]
        self._install(arguments, self.req.constraints, hashes=False)
        return missing

    def _check(self) -> None:
        done = self._run(self._pip("check"), self.app)
        if not done.code:
            return
        # What the project adds to itself may depend on it; it is not installed, for it is the code.
        itself = self.itself()
        problems = [line for line in done.output.splitlines() if line.startswith("The package ")]
        if itself and problems and all(_misses(line, itself) for line in problems):
            return
        what = "the installed packages do not agree with each other"
        if self.locked:
            what += f", and they are those of {self.req.file}: 'checks: {{pip_check: false}}' accepts them as they are locked"
        raise self._error(what, done.output)

    def _compile(self) -> None:
        """Compile everything, with the paths that it will have."""
        command = [
            *(str(self.aside / "bin" / "python"), "-I", "-m", "compileall", "-q", "-q", "-j", "0"),
            *("-s", str(self.aside), "-p", str(self.final), str(self.aside / "lib")),
        ]
        done = self._run(command, self.venvs)
        # 1: some file of a package does not compile (a template, old code); as with pip, that is the package's affair.
        if done.code not in (0, 1) or "No space left" in done.output:
            raise self._error("the bytecode cannot be compiled", done.output)

    def _relocate(self) -> None:
        """Make scripts and configuration name the place where the virtualenv will be."""
        (self.aside / ".lock").unlink(missing_ok=True)  # uv's own, writable for everybody
        old, new = os.fsencode(self.aside), os.fsencode(self.final)
        files = [self.aside / "pyvenv.cfg", *(self.aside / "bin").iterdir()]
        for path in files:
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            if old in data and b"\0" not in data:
                # A new file, since the old one may be a hard link into the installer's cache.
                replace_file(path, data.replace(old, new), 0o755 if path.stat().st_mode & 0o100 else 0o644)

    def _mark(self, locked: list[str], added: list[str], seconds: float) -> None:
        facts = {
            "key": self.name,
            "python": asdict(self.interp),
            "installer": self.installer,
            "requirements": {"kind": self.req.kind, "file": self.req.file, "digest": self.req.digest},
            "locked": locked,
            "added": added,
            "entries": entries_of_virtualenv(self.aside),
            "seconds": seconds,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        marker = self.aside / VIRTUALENV_MARKER
        marker.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        marker.chmod(0o644)
        self.aside.chmod(0o755)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _distributions(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield name, version and direct URL of what is installed."""
        for site in sorted(self.aside.glob("lib/*/site-packages")):
            for found in importlib.metadata.distributions(path=[str(site)]):
                name = found.metadata["Name"]
                if name:
                    yield name, found.version, found.read_text("direct_url.json")

    def _locked(self) -> list[str]:
        """Return what is installed as requirements."""
        lines = []
        for name, version, direct in self._distributions():
            if normalised(name) == "pip":
                continue
            url = ""
            if direct:
                facts = json.loads(direct)
                url = urls.without_credentials(str(facts.get("url") or ""))
                if commit := (facts.get("vcs_info") or {}).get("commit_id"):
                    url = f"{facts['vcs_info'].get('vcs', 'git')}+{url}@{commit}"
            remote = url and not url.startswith("file:")
            lines.append(f"{normalised(name)} @ {url}" if remote else f"{normalised(name)}=={version}")
        return sorted(lines)

    def _write(self, name: str, text: str) -> str:
        path = self.scratch / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def _run(self, command: Sequence[str], directory: Path) -> Finished:
        done = run(command, timeout=_TIMEOUT, cwd=directory, env=self.env, umask=_UMASK)
        if done.code is None:
            raise self._error(f"{os.path.basename(command[0])} took longer than {_TIMEOUT} seconds", done.output)
        return done

    def _error(self, message: str, said: str) -> VirtualenvError:
        output = tail(said, self.secrets)
        if re.search(r"No space left on device|os error 28|Disk quota exceeded", said):
            return _full(self.venvs, self.step, output)
        return VirtualenvError(message, self.step, output)


def _misses(problem: str, name: str) -> bool:
    """Whether a line of 'uv pip check' says that a package needs the distribution ``name``, which is not installed.

    >>> _misses("The package `plugin` requires `shop>=1`, but it's not installed", "shop")
    True
    """
    needed = re.fullmatch(r"The package `[^`]+` requires `([^`]+)`, but it's not installed", problem.strip())
    return needed is not None and distribution_name(needed[1]) == name
