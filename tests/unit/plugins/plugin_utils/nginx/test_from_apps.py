# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sites that come of apps: where their static files are, and which of them is the default server."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.from_apps import sites_of_apps
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SitesError, resolve_sites


def test_the_site_of_an_app() -> None:
    app = {
        "name": "shop",
        "server": "gunicorn",
        "domains": ["shop.example.org"],
        "static": [{"url": "/static/", "path": "./shop/static/"}],
        "tls": {"mode": "files", "certificate": "/a.crt", "key": "/a.key"},
        "nginx": {"client_max_body_size": "50m", "rate_limit": None, "headers": {}},
    }
    (site,) = sites_of_apps([app])
    assert site == {
        "name": "shop",
        "server_names": ["shop.example.org"],
        "upstream": "unix:/srv/shop/live/http.sock",
        "static": [
            {
                "url": "/static/",
                "paths": [
                    "/srv/shop/live/app/shop/static",
                    "/srv/shop/live/previous/app/shop/static",
                    "/srv/shop/live/previous/previous/app/shop/static",
                ],
                "symlinks": "owner",
                "symlinks_from": "/srv/shop",
            }
        ],
        "tls": {"mode": "files", "certificate": "/a.crt", "key": "/a.key"},
        "client_max_body_size": "50m",
        "headers": {},
    }
    assert resolve_sites([site])


def static_of(static: list[dict[str, str]], shared: list[str]) -> list[dict[str, Any]]:
    """Return the places of an app, those that it cannot write shortened to the first of their directories."""
    (site,) = resolve_sites(sites_of_apps([{"name": "shop", "static": static, "shared_paths": shared}]))
    keys = ("url", "paths", "disable_symlinks")
    return [{key: entry[key][:1] if key == "paths" else entry[key] for key in keys} for entry in site["static"]]


def in_shared(url: str, path: str) -> dict[str, Any]:
    return {"url": url, "paths": [f"/srv/shop/shared/{path}"], "disable_symlinks": "on from=/srv/shop/shared"}


def in_release(url: str, path: str) -> dict[str, Any]:
    return {"url": url, "paths": [f"/srv/shop/live/app/{path}"], "disable_symlinks": "if_not_owner from=/srv/shop"}


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("instance/media", ["instance"]),
        ("./instance//media/", ["./instance/"]),
        ("instance/media", ["other", "instance/media/small", "instance/media", "instance/"]),
        ("instance/media", ["instance/./media"]),
        ("instance/media/.", ["instance"]),
    ],
)
def test_what_is_shared_is_served_from_where_it_is(path: str, shared: list[str]) -> None:
    assert static_of([{"url": "/media/", "path": path}], shared) == [in_shared("/media/", "instance/media")]


def test_one_file_that_is_shared() -> None:
    assert static_of([{"url": "/one.txt", "path": "instance/one.txt"}], ["instance"]) == [
        in_shared("/one.txt", "instance/one.txt")
    ]


@pytest.mark.parametrize("shared", [["instances"], ["inst"], ["static2"], [], ["instance/media2"]])
def test_what_only_begins_alike_is_not_shared(shared: list[str]) -> None:
    static = [{"url": "/media", "path": "instance/media"}, {"url": "/static", "path": "static"}]
    assert static_of(static, shared) == [in_release("/media", "instance/media"), in_release("/static", "static")]


@pytest.mark.parametrize(
    "shared", [["media/a/up"], ["./media//a/up/", "media/a/up/small"], ["media/a/up/small", "media/a/up"]]
)
def test_a_shared_part_of_a_static_directory_has_a_place_of_its_own(shared: list[str]) -> None:
    for url in ("/m", "/m/"):
        assert static_of([{"url": url, "path": "media"}], shared) == [
            in_release(url, "media"),
            in_shared("/m/a/up", "media/a/up"),
        ]


def test_the_place_that_is_given_for_a_shared_part_decides() -> None:
    upper = {"url": "/m/", "path": "media"}
    assert static_of([upper, {"url": "/m/up/", "path": "media/up"}], ["media/up"]) == [
        in_release("/m/", "media"),
        in_shared("/m/up/", "media/up"),
    ]
    assert static_of([upper, {"url": "/m/up", "path": "pictures"}], ["media/up/x", "media/up/y"]) == [
        in_release("/m/", "media"),
        in_release("/m/up", "pictures"),
    ]


def test_all_of_the_code_as_a_static_directory() -> None:
    (site,) = sites_of_apps([{"name": "shop", "static": [{"url": "/all", "path": "."}], "shared_paths": ["instance"]}])
    assert site["static"][0]["paths"][0] == "/srv/shop/live/app"
    assert site["static"][1]["paths"] == ["/srv/shop/shared/instance"]


def test_a_shared_part_that_is_hidden_stays_so() -> None:
    assert static_of([{"url": "/m", "path": "media"}], ["media/.cache", "media/a/.b/c"]) == [in_release("/m", "media")]


def test_a_shared_part_that_nginx_cannot_be_told_is_named() -> None:
    with pytest.raises(SitesError, match=r"flask_apps: 'media/my files' is in a shared path and served as /m/my files"):
        static_of([{"url": "/m", "path": "media"}], ["media/my files"])


def test_the_smallest_app_is_the_default_server_with_a_certificate_of_its_own() -> None:
    (site,) = resolve_sites(sites_of_apps([{"name": "shop"}]))
    assert (site["default"], site["tls"]["mode"]) == (True, "self_signed")


def test_two_apps_without_domains_are_named() -> None:
    with pytest.raises(SitesError, match="shop and blog have no domains"):
        sites_of_apps([{"name": "shop", "domains": []}, {"name": "blog"}])
