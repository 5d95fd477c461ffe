#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The checks that Ansible's community runs on a collection, on a copy of this one.

    tools/collection.py sanity [--test NAME ...]   ansible-test sanity
    tools/collection.py importer                   what Galaxy says of the built tarball
    tools/collection.py docs                       the documentation of modules, filters and roles
    tools/collection.py changelog                  the changelog's fragments

The tools come from PyPI, pinned here, and are kept in .cache and in uv's cache. ansible-test would fetch a script that
installs pip from a host that is not PyPI; tools/get_pip.py takes its place.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "checks"

CORE = f"ansible-core=={metadata.version('ansible-core')}"
DOCS = "antsibull-docs==2.28.0"
CHANGELOG = "antsibull-changelog==0.36.0"
IMPORTER = "galaxy-importer==0.4.44"

#: The first is for PowerShell, of which the collection has none; the second wants a binary that PyPI does not have.
SKIPPED = ("pslint", "shellcheck")


def copy_to(target: Path) -> None:
    """Copy what git tracks or would track.

    :param target: the collection's directory; what is in it is removed.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    shutil.rmtree(target, ignore_errors=True)
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def collection_copy(check: str) -> Path:
    """Return a fresh copy at a path where Ansible finds a collection; each check has its own, since they run side by side."""
    target = CACHE / check / "ansible_collections" / "flaskops" / "server"
    copy_to(target)
    # Without a repository of its own it would count as a part of this one, which ignores .cache.
    subprocess.run(["git", "init", "--quiet", str(target)], check=True)
    return target


def run(command: list[str], cwd: Path, **environment: str) -> int:
    """Run a command; its exit code."""
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=False).returncode


def from_pypi(*packages: str) -> list[str]:
    """Return the beginning of a command that runs in an environment with these packages."""
    first, *others = packages
    return ["uv", "tool", "run", "--quiet", "--from", first, *(word for other in others for word in ("--with", other))]


def pip_version() -> str:
    """Return the version of pip that this ansible-core installs into the virtualenvs of its tests.

    :raises SystemExit: when this ansible-core says it in another way than those known.
    """
    source = Path(
        str(metadata.distribution("ansible-core").locate_file("ansible_test/_internal/python_requirements.py"))
    )
    found = re.search(r"^\s*pip='([\d.]+)',$", source.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{source} does not say which pip it installs: look there, then adapt {Path(__file__).name}.")
    return found.group(1)


def sanity(arguments: list[str]) -> int:
    """Run ansible-test; its virtualenvs are in a home directory of their own and made once."""
    home = CACHE / "home"
    get_pip = home / ".ansible" / "test" / "cache" / f"get_pip_{pip_version().replace('.', '_')}.py"
    get_pip.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "tools" / "get_pip.py", get_pip)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["ansible-test", "sanity", "--local", "--requirements", "--python", python, "--color", "no"]
    command += [word for name in SKIPPED for word in ("--skip-test", name)]
    return run([*command, *arguments], collection_copy("sanity"), HOME=str(home))


def docs() -> int:
    """Lint the documentation of everything in the collection."""
    place = collection_copy("docs")
    paths = str(place.parents[2])
    command = [*from_pypi(DOCS, CORE), "antsibull-docs", "lint-collection-docs", "--plugin-docs", "."]
    return run(command, place, ANSIBLE_COLLECTIONS_PATH=paths)


def changelog() -> int:
    """Lint the changelog's fragments."""
    return run([*from_pypi(CHANGELOG), "antsibull-changelog", "lint"], ROOT)


def importer() -> int:
    """Build the tarball and have it judged as Galaxy would; without the linters, which run apart."""
    place = collection_copy("importer")
    built = CACHE / "importer"
    for old in built.glob("*.tar.gz"):
        old.unlink()
    code = run(["ansible-galaxy", "collection", "build", "--output-path", str(built), str(place)], place)
    if code != 0:
        return code
    config = built / "importer.cfg"
    config.write_text(
        "[galaxy-importer]\nRUN_ANSIBLE_LINT = False\nCHECK_REQUIRED_TAGS = True\nCHECK_CHANGELOG = True\n"
    )
    (tarball,) = built.glob("*.tar.gz")
    command = [*from_pypi(IMPORTER, CORE), "python", "-m", "galaxy_importer.main", str(tarball)]
    done = subprocess.run(
        command,
        cwd=built,
        env={**os.environ, "GALAXY_IMPORTER_CONFIG": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("WARNING", "ERROR"))]
    # It ends with 0 whatever it found.
    return 0 if not complaints and "Importer processing completed successfully" in done.stdout else 1


def main() -> int:
    """Run one check; 0 where it found nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("check", choices=["sanity", "importer", "docs", "changelog"])
    parsed, arguments = parser.parse_known_args()
    if parsed.check == "sanity":
        return sanity(arguments)
    if arguments:
        parser.error(f"{parsed.check} has no options: {' '.join(arguments)}")
    checks = {"importer": importer, "docs": docs, "changelog": changelog}
    return checks[parsed.check]()


if __name__ == "__main__":
    sys.exit(main())
