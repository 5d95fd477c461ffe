# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Environment files, as systemd reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_ENVIRONMENT_LINE = re.compile(r'^(\w+)="((?:[^"\\]|\\.)*)"$', re.MULTILINE | re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def environment_file(variables: Mapping[str, str]) -> str:
    """Return the text of an EnvironmentFile that gives back exactly these values (systemd.exec(5), EnvironmentFile=)."""
    lines = []
    for name in sorted(variables):
        escaped = re.sub(r'(["\\`$])', r"\\\1", variables[name])
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables of a file that :func:`environment_file` wrote."""
    variables = {}
    for name, value in _ENVIRONMENT_LINE.findall(path.read_bytes().decode()):
        variables[name] = _ESCAPED.sub(r"\1", value)
    return variables
