#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make a release of the collection: tools/release.py VERSION

From a clean tree: the version goes into galaxy.yml, the changelog's fragments into CHANGELOG.rst, and dist/ gets the tarball
and SHA256SUMS. The tarball is then installed without a network in an empty path, and the demo runs from there. Nothing is
committed, tagged or published: the last lines say which commands do that.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from collection import CHANGELOG, copy_to, from_pypi
from testhosts import ROOT, ToolError, output, run, say

DIST = ROOT / "dist"
NUMBER = r"(?:0|[1-9]\d*)"
#: Semantic versioning, which Galaxy demands: https://semver.org
VERSION = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}")

#: What a release changes in the tree.
CHANGED = ("galaxy.yml", "CHANGELOG.rst", "changelogs")


def require_releasable(version: str) -> None:
    """Refuse what cannot become a release.

    :raises ToolError: with what is wrong, and what to do.
    """
    if not VERSION.fullmatch(version):
        raise ToolError(f"VERSION={version} is no version: expected three numbers, such as 1.0.0.")
    if changes := output("git", "-C", str(ROOT), "status", "--porcelain"):
        raise ToolError(f"The tree has changes that are not committed. Commit them first:\n{changes}")
    if output("git", "-C", str(ROOT), "tag", "--list", version):
        raise ToolError(f"{version} is released already: there is a tag of that name.")
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"]
    newer = [old for old in released if numbers(old) >= numbers(version)]
    if newer:
        raise ToolError(f"{version} is not newer than {newer[-1]}, which the changelog has.")


def numbers(version: str) -> tuple[int, ...]:
    """Return a version in a form that compares."""
    return tuple(int(word) for word in version.split("."))


def build(version: str, tree: Path) -> Path:
    """Give a copy of the tree its version and changelog, and pack it; return the tarball."""
    manifest = tree / "galaxy.yml"
    manifest.write_text(re.sub(r"^version: .*$", f"version: {version}", manifest.read_text(), flags=re.MULTILINE))
    command = [*from_pypi(CHANGELOG), "antsibull-changelog", "release", "--version", version]
    if subprocess.run(command, cwd=tree, check=False).returncode != 0:
        raise ToolError("The changelog could not be made, see above.")
    DIST.mkdir(exist_ok=True)
    run(
        *("ansible-galaxy", "collection", "build", "--force", "--output-path", str(DIST), str(tree)),
        what="building the tarball",
    )
    return DIST / f"flaskops-server-{version}.tar.gz"


def write_checksum(tarball: Path) -> None:
    """Write SHA256SUMS, for `sha256sum --check`."""
    with tarball.open("rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    (DIST / "SHA256SUMS").write_text(f"{checksum}  {tarball.name}\n")


def try_out(tarball: Path, place: Path) -> None:
    """Install the tarball in an empty path, and run the demo from there.

    :raises ToolError: where the demo does not come up.
    """
    run(
        *("ansible-galaxy", "collection", "install", "--offline", "--collections-path", str(place), str(tarball)),
        what="installing the tarball",
    )
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(place)}
    demo = [sys.executable, str(ROOT / "tools" / "demo.py"), "up"]
    if subprocess.run(demo, env=environment, cwd=ROOT, check=False).returncode != 0:
        raise ToolError("The demo does not run from the tarball, see above. Nothing was released.")


def main() -> int:
    """Make the release; 1 where something stands against it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version")
    version = parser.parse_args().version
    try:
        require_releasable(version)
        with tempfile.TemporaryDirectory(prefix="flaskops-release-") as scratch:
            tree = Path(scratch) / "tree"
            copy_to(tree)
            tarball = build(version, tree)
            write_checksum(tarball)
            try_out(tarball, Path(scratch) / "collections")
            for name in CHANGED:
                if (tree / name).is_dir():
                    shutil.rmtree(ROOT / name)
                    shutil.copytree(tree / name, ROOT / name)
                else:
                    shutil.copy2(tree / name, ROOT / name)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    say(
        f"\n{tarball.relative_to(ROOT)} is built, its demo runs, and the tree has its version and changelog. Next:\n"
        f"  git add --all && git commit -m 'Release {version}' && git tag --annotate {version} -m {version}\n"
        f"  ansible-galaxy collection publish {tarball.relative_to(ROOT)}\n"
        f"  make demo-clean"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
