# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What tools/sanity.py hands to ansible-test as its get-pip: Python's own pip installs the version that is asked for."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    # Of get-pip's options two are no option of pip; ensurepip installs neither setuptools nor wheel since Python 3.12.
    arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", "--upgrade", *arguments], check=False).returncode)
