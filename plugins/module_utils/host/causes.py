# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finding in an app's output what a person needs to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_TRACEBACK = "Traceback (most recent call last):"

#: What Python writes between two tracebacks that belong together.
_LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)

#: Values shorter than this are not hidden: hiding every "1" makes a message unreadable and protects nothing.
_SHORTEST_HIDDEN = 4


def cause(lines: Sequence[str], most: int = 12, noise: Sequence[str] = ()) -> list[str]:
    """Return the end of the last traceback in an app's output, or its last lines where there is none.

    :param most: how many lines at the most.
    :param noise: with these a server begins to say that something else went wrong, which it told before.
    """
    tracebacks = [_traceback(lines, index) for index, line in enumerate(lines) if _TRACEBACK in line]
    telling = [block for block in tracebacks if not block[-1].startswith(tuple(noise))]
    if not telling:
        passed_over = {line for block in tracebacks for line in block}.union(_LINKS)
        return [line for line in lines if line.strip() and line not in passed_over][-most:]
    # Between an import and the module that fails stand lines of Python's own import system.
    block = [line for line in telling[-1] if "<frozen importlib" not in line]
    return block if len(block) <= most else [block[0], "  ...", *block[-(most - 2) :]]


def _traceback(lines: Sequence[str], start: int) -> list[str]:
    """Return the traceback that starts at a line: it ends with the first that is not indented, the exception."""
    for end in range(start + 1, len(lines)):
        if lines[end].strip() and not lines[end].startswith((" ", "\t")):
            return list(lines[start : end + 1])
    return list(lines[start:])


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the values of secrets: whole, as Python prints them, and each line of them by itself."""
    shapes = {shape for secret in secrets for shape in (secret, repr(secret)[1:-1], *secret.splitlines())}
    for shape in sorted(shapes, key=len, reverse=True):
        if len(shape) >= _SHORTEST_HIDDEN:
            text = text.replace(shape, "********")
    return text


def indented(lines: Iterable[str]) -> str:
    """Return lines as a block in a message."""
    return "\n".join(f"    {line}" for line in lines)
