# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whose the symlinks of a release are: nginx follows one only where it belongs to the owner of what it leads to."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

#: As many links as the kernel follows in one path (path_resolution(7)).
MOST_LINKS = 40


def give_to_app(app: Path, shared: Path, uid: int) -> list[Path]:
    """Give the app those symlinks of its code that lead into its shared directory; all others stay root's.

    The app can put a link to anything where the directory was that such a link leads to. As its own, nginx follows it to
    the app's own files and to nothing else. The app cannot change it: it lies in a directory of root's.

    :param app: the code of a release, which the app cannot write.
    :param shared: the directory of what persists; nothing in it is looked at.
    :param uid: of the app's user.
    :returns: the links that lead there.
    """
    into = {os.path.abspath(shared), os.path.join(os.path.realpath(shared.parent), shared.name)}
    found = []
    for directory, names, files in os.walk(app):
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            if os.path.islink(path) and _leads(path, into):
                os.chown(path, uid, -1, follow_symlinks=False)
                found.append(Path(path))
    return found


def _leads(link: str, into: set[str]) -> bool:
    """Follow a link, name by name, as far as the first directory of ``into``."""
    place = os.path.dirname(link)
    names = deque([os.path.basename(link)])
    links = 0
    while names:
        name = names.popleft()
        if name == "..":
            place = os.path.dirname(place)
        if name in ("", ".", ".."):
            continue
        place = os.path.join(place, name)
        if place in into:
            return True
        if os.path.islink(place):
            links += 1
            if links > MOST_LINKS:
                return False
            target = os.readlink(place)
            names.extendleft(reversed(target.split("/")))
            place = "/" if target.startswith("/") else os.path.dirname(place)
    return False
