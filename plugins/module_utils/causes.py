# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finding in an app's output what a person needs to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_TRACEBACK = "Traceback (most recent call last):"

#: Values shorter than this are not hidden: hiding every "1" makes a message unreadable and protects nothing.
_SHORTEST_HIDDEN = 4


def cause(lines: Sequence[str], most: int = 12) -> list[str]:
    """Return the end of the last traceback in an app's output, or its last lines where there is none.

    :param most: how many lines at the most.
    """
    starts = [index for index, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return [line for line in lines if line.strip()][-most:]
    block = [lines[starts[-1]]]
    for line in lines[starts[-1] + 1 :]:
        block.append(line)
        # A traceback ends with the first line that is not indented: the exception.
        if line.strip() and not line.startswith((" ", "\t")):
            break
    return block if len(block) <= most else [block[0], "  ...", *block[-(most - 2) :]]


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the values of secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_HIDDEN:
            text = text.replace(secret, "********")
    return text


def indented(lines: Iterable[str]) -> str:
    """Return lines as a block in a message."""
    return "\n".join(f"    {line}" for line in lines)
