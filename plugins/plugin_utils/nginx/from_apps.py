# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sites of apps: what of an app nginx has to know."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.shared import outermost
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SitesError, plain_path


def sites_of_apps(apps: Sequence[Mapping[str, Any]], root: str = "/srv") -> list[dict[str, Any]]:
    """Return the site of each app: through its ``live`` pointer, so that going live needs no reload.

    A static file is looked for in the live release, then in the one before and the one before that: a page that was
    loaded before the switch finds its style sheet after it. Of what lies in a shared path there is only one, and the app
    can write there: nginx is led to the real directory and follows no link below ``shared``. Anywhere else it follows
    root's links to root's files, such as ``live`` and those of the repository.

    :param apps: resolved app specs.
    :param root: the directory that the apps' directories are in.
    :raises SitesError: where two apps would be the default server, or nginx cannot be told a path.
    """
    nameless = [str(app["name"]) for app in apps if not app.get("domains")]
    if len(nameless) > 1:
        raise SitesError(
            [f"flask_apps: {' and '.join(nameless)} have no domains, and only one app can be the default vhost"]
        )
    return [_site_of_app(app, f"{root}/{app['name']}") for app in apps]


def _site_of_app(app: Mapping[str, Any], home: str) -> dict[str, Any]:
    site: dict[str, Any] = {
        "name": app["name"],
        "server_names": list(app.get("domains") or []),
        "upstream": f"unix:{home}/live/http.sock",
        "static": _static_of_app(app, home),
        "tls": _given(app.get("tls") or {}) or {"mode": "self_signed"},
    }
    return site | _given(app.get("nginx") or {})


def _static_of_app(app: Mapping[str, Any], home: str) -> list[dict[str, Any]]:
    outer = outermost([path.strip("/") for path in app.get("shared_paths") or []])
    given = app.get("static") or []
    urls = [entry["url"].rstrip("/") for entry in given]
    # What is added stands behind: an error is told by the place in the inventory.
    found, added = [], []
    for entry, url in zip(given, urls, strict=True):
        path = posixpath.normpath(entry["path"].strip("/"))
        common = {"url": entry["url"], "expires": entry.get("expires")}
        if any(_is_below(path, one) for one in outer):
            found.append(_shared(path, home, common))
            continue
        below = posixpath.normpath(f"app/{path}")
        paths = [f"{home}/live/{below}", f"{home}/live/previous/{below}", f"{home}/live/previous/previous/{below}"]
        found.append(_given({**common, "paths": paths, "symlinks": "owner", "symlinks_from": home}))
        for one in outer:
            if not _is_below(one, path):
                continue
            part = posixpath.relpath(one, path)
            # A hidden directory stays hidden, and of two places for a URL the closer one decides.
            if any(name.startswith(".") for name in part.split("/")):
                continue
            if max((other for other in urls if _is_below(f"{url}/{part}", other)), key=len) == url:
                added.append(_shared(one, home, {**common, "url": f"{url}/{part}"}))
    return found + added


def _shared(path: str, home: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the place of files below a shared path.

    Links are looked at from ``shared`` on, which is root's, and not from the shared path: the app can put a link there.
    """
    wrong = plain_path(f"/{path}")
    if wrong:
        raise SitesError([f"flask_apps: {path!r} is in a shared path and served as {common['url']}: {wrong}"])
    shared = f"{home}/shared"
    return _given({**common, "paths": [f"{shared}/{path}"], "symlinks": "none", "symlinks_from": shared})


def _is_below(path: str, other: str) -> bool:
    """Say whether a normalised path is another one, or lies below it."""
    return other == "." or path == other or path.startswith(f"{other}/")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
