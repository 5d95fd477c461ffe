# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of nginx's configuration: what this host's nginx can take, and what its messages mean."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


_CONDITION = re.compile(r"[ \t]*#:((?: (?:nginx(?:<|>=)[0-9.]+|ipv6))+)[ \t]*$")


def version_of(text: str) -> tuple[int, ...] | None:
    """Return the first dotted number of a text (``nginx version: nginx/1.22.1``), as numbers."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else None


def for_host(text: str, version: tuple[int, ...] | None, ipv6: bool) -> str:
    """Keep the lines that this host's nginx can take.

    A line that ends in ``#: nginx>=1.25.1``, ``#: nginx<1.25.1`` or ``#: ipv6`` (or several of them) stays, without that
    mark, only where all of it holds. An unknown version counts as newer than any.
    """

    def holds(condition: str) -> bool:
        if condition == "ipv6":
            return ipv6
        operator, number = re.fullmatch(r"nginx(<|>=)(.*)", condition).groups()  # type: ignore[union-attr]
        newer = version is None or version >= tuple(int(part) for part in number.split("."))
        return newer if operator == ">=" else not newer

    lines = []
    for line in text.splitlines():
        found = _CONDITION.search(line)
        if found is None:
            lines.append(line)
        elif all(holds(condition) for condition in found.group(1).split()):
            lines.append(line[: found.start()])
    return "\n".join(lines) + "\n" if lines else ""


def explain(output: str, candidate: str, root: str, context: int = 2) -> str:
    """Return nginx's message as it would read about the real directory, with the lines that it complains about."""
    message = output.replace(candidate, root).strip()
    shown = []
    for path, number in dict.fromkeys(re.findall(r" in (\S+):(\d+)\s*$", output, re.MULTILINE)):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        at = int(number)
        first = max(1, at - context)
        shown.append(f"{path.replace(candidate, root)}:")
        shown += [
            f"{'>' if index == at else ' '} {index:4} {line}"
            for index, line in enumerate(lines[first - 1 : at + context], start=first)
        ]
    return "\n".join([message, *shown])
