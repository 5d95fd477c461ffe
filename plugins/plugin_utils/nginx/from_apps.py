# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make nginx sites from apps."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.shared import outermost
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SitesError, check_path


def sites_of_apps(apps: Sequence[Mapping[str, Any]], root: str = "/srv") -> list[dict[str, Any]]:
    """Return the site of each app. Its paths go through the ``live`` pointer, so that going live needs no reload.

    nginx looks for a static file in the live release, then in the previous two: a page that was loaded before the switch
    still finds its style sheet. A shared path exists once and the app can write to it: nginx gets the real directory and
    follows no link below ``shared``. Everywhere else it follows only links of root to files of root, such as ``live`` and
    those of the repository.

    :param apps: resolved app specs.
    :param root: the directory that the apps' directories are in.
    :raises SitesError: when two apps would be the default server, or nginx cannot take a path.
    """
    nameless = [str(app["name"]) for app in apps if not app.get("domains")]
    if len(nameless) > 1:
        raise SitesError(
            [
                f"flask_apps: {' and '.join(nameless)} have no domains, but only one app can be the "
                "default vhost; set domains"
            ]
        )
    return [_make_site(app, f"{root}/{app['name']}") for app in apps]


def _make_site(app: Mapping[str, Any], home: str) -> dict[str, Any]:
    site: dict[str, Any] = {
        "name": app["name"],
        "server_names": list(app.get("domains") or []),
        "upstream": f"unix:{home}/live/http.sock",
        "static": _make_static(app, home),
        "tls": _drop_nulls(app.get("tls") or {}) or {"mode": "self_signed"},
    }
    return site | _drop_nulls(app.get("nginx") or {})


def _make_static(app: Mapping[str, Any], home: str) -> list[dict[str, Any]]:
    shared = outermost([path.strip("/") for path in app.get("shared_paths") or []])
    entries = app.get("static") or []
    urls = [entry["url"].rstrip("/") for entry in entries]
    # Added entries come last: an error shows the index in the inventory.
    found, added = [], []
    for entry, url in zip(entries, urls, strict=True):
        path = posixpath.normpath(entry["path"].strip("/"))
        common = {"url": entry["url"], "expires": entry.get("expires")}
        if any(_is_below(path, shared_path) for shared_path in shared):
            found.append(_make_shared(path, home, common))
            continue
        below = posixpath.normpath(f"app/{path}")
        paths = [f"{home}/live/{below}", f"{home}/live/previous/{below}", f"{home}/live/previous/previous/{below}"]
        found.append(_drop_nulls({**common, "paths": paths, "symlinks": "owner", "symlinks_from": home}))
        for shared_path in shared:
            if not _is_below(shared_path, path):
                continue
            part = posixpath.relpath(shared_path, path)
            # A hidden directory stays hidden, and of two entries for a URL the more specific one wins.
            if any(name.startswith(".") for name in part.split("/")):
                continue
            if max((other for other in urls if _is_below(f"{url}/{part}", other)), key=len) == url:
                added.append(_make_shared(shared_path, home, {**common, "url": f"{url}/{part}"}))
    return found + added


def _make_shared(path: str, home: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry for files below a shared path.

    nginx checks links from ``shared`` on, which belongs to root, and not from the shared path: the app can replace that by
    a link.

    :raises SitesError: when nginx cannot take the path.
    """
    wrong = check_path(f"/{path}")
    if wrong:
        raise SitesError([f"flask_apps: {path!r} is in a shared path and served as {common['url']}: {wrong}"])
    shared = f"{home}/shared"
    return _drop_nulls({**common, "paths": [f"{shared}/{path}"], "symlinks": "none", "symlinks_from": shared})


def _is_below(path: str, other: str) -> bool:
    """Whether a normalised path is another one, or lies below it."""
    return other == "." or path == other or path.startswith(f"{other}/")


def _drop_nulls(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set."""
    return {key: value for key, value in options.items() if value is not None}
