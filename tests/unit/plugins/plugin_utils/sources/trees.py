# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Trees to pack, and what was packed of them."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

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


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 12345\n"
