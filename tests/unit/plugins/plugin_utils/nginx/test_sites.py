# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is refused in a site, and what a site is with its defaults."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import (
    SitesError,
    certificate_names,
    resolve_sites,
)

SITE = {"name": "shop", "server_names": ["shop.example.org"], "upstream": "unix:/srv/shop/live/http.sock"}


def find_errors(*sites: Any) -> list[str]:
    with pytest.raises(SitesError) as caught:
        resolve_sites(list(sites))
    return caught.value.errors


def test_a_site_gets_its_defaults() -> None:
    (site,) = resolve_sites([SITE])
    assert site["state"] == "present"
    assert site["upstream"] == ["unix:/srv/shop/live/http.sock"]
    assert site["default"] is False
    assert site["file"] == "sites-enabled/shop.conf"
    assert site["tls"] == {"mode": "self_signed", "certificate": None, "key": None, "redirect": True}
    assert (site["certificate"], site["key"]) == ("self-signed/shop.crt", "self-signed/shop.key")
    assert site["certificate_names"] == ["shop.example.org"]
    assert site["timeouts"] == {"connect": None, "send": None, "read": None}
    assert site["rate_limit"] is None


def test_a_site_without_names_is_the_default_server() -> None:
    (site,) = resolve_sites([SITE | {"server_names": []}])
    assert site["default"] is True


def test_all_errors_come_in_one_message_with_their_paths() -> None:
    with pytest.raises(SitesError) as caught:
        resolve_sites([SITE | {"upstrem": "x"}, {"name": "Shop", "upstream": 8000}])
    assert str(caught.value) == (
        "3 errors in the sites, nothing was changed:\n"
        "  - nginx_sites[0].upstrem: unknown key, did you mean upstream?\n"
        "  - nginx_sites[1].name: expected a string matching [a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\n"
        "  - nginx_sites[1].upstream: expected a string or a list, got a whole number"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("upstream", "http://127.0.0.1:8000", "(without a scheme)"),
        ("upstream", "127.0.0.1", "expected unix:/PATH or HOST:PORT"),
        ("upstream", ["127.0.0.1:1", "x;y"], "expected unix:/PATH or HOST:PORT"),
        ("server_names", ["bücher.example.org"], "expected the name as browsers send it: xn--bcher-kva.example.org"),
        ("server_names", ["two words"], "expected a host name"),
        ("server_names", ["a.example.org;"], "expected a host name"),
        ("server_names", ["~^a b$"], "expected a regular expression without"),
        ("static", [{"url": "static/", "paths": ["/srv/a"]}], "static[0].url: expected a string matching"),
        ("static", [{"url": "/static/", "paths": ["srv/a"]}], "static[0].paths[0]: expected an absolute path"),
        ("static", [{"url": "/static/", "paths": ["/srv/../etc"]}], "static[0].paths[0]: expected an absolute path"),
        ("static", [{"url": "/static/", "paths": ["/srv/$a"]}], "static[0].paths[0]: expected a path without"),
        ("static", [{"url": "/static/", "paths": []}], "static[0].paths: expected at least one"),
        (
            "static",
            [{"url": "/s", "paths": ["/a"]}, {"url": "/s/", "paths": ["/a"]}],
            "static[1].url: used by an earlier entry too",
        ),
        ("static", [{"url": "/", "paths": ["/a"]}], "static[0].url: / belongs to the upstream"),
        ("static", [{"url": "/s", "paths": ["/a"], "symlinks": "no"}], "static[0].symlinks: expected one of follow"),
        (
            "static",
            [{"url": "/s", "paths": ["/a/b"], "symlinks_from": "/a"}],
            "static[0].symlinks_from: only allowed with symlinks: owner or none",
        ),
        *(
            (
                "static",
                [{"url": "/s", "paths": ["/a/c", path], "symlinks": "none", "symlinks_from": "/a/"}],
                "static[0].paths[1]: expected a path below symlinks_from",
            )
            for path in ("/b", "/ab", "/a", "/a/")
        ),
        ("tls", {"mode": "file"}, "tls.mode: expected one of self_signed, files, none, did you mean files?"),
        ("tls", {"mode": "files", "certificate": "/a"}, "tls.key: missing"),
        ("tls", {"certificate": "/a"}, "tls.certificate: only allowed with mode: files"),
        ("headers", {"X-A": ["b"]}, "headers: expected a string for X-A"),
        ("headers", {"X A": "b"}, "headers: expected names of headers"),
        ("headers", {"X-A": "b\nc"}, "headers: expected one line for X-A"),
        ("directives", {"gzip": [["on"]]}, "directives: expected a list of plain values for gzip"),
        ("directives", {"location /": {"return": [None]}}, "directives: expected a list of plain values for return"),
        ("client_max_body_size", "5 MB", "client_max_body_size: expected"),
        ("timeouts", {"read": "soon"}, "timeouts.read: expected"),
        ("rate_limit", {"rate": "10"}, r"rate_limit.rate: expected a string matching"),
        ("default", "yes", "default: expected true or false"),
    ],
)
def test_what_is_refused(key: str, value: Any, expected: str) -> None:
    (error,) = find_errors(SITE | {key: value})
    assert error.startswith(f"nginx_sites[0].{key}")
    assert expected in error


def test_what_sites_must_not_share() -> None:
    assert find_errors(SITE, SITE | {"server_names": ["b.example.org"]}) == [
        "nginx_sites[1].name: already used by nginx_sites[0] (shop)"
    ]
    assert find_errors(SITE, SITE | {"name": "b", "server_names": ["Shop.example.org"]}) == [
        "nginx_sites[1].server_names[0]: already used by nginx_sites[0] (shop)"
    ]
    assert find_errors(SITE | {"name": "a.b"}, SITE | {"name": "a-b", "server_names": ["b.example.org"]}) == [
        "nginx_sites[1].name: already used by nginx_sites[0] (a.b)"
    ]
    assert find_errors(SITE | {"default": True}, {"name": "b", "upstream": "localhost:1"}) == [
        "nginx_sites[1] (b): is a default server, as nginx_sites[0] (shop) is; give one of them server_names"
    ]


def test_an_absent_site_needs_nothing_and_takes_nothing() -> None:
    sites = resolve_sites([{"name": "old", "state": "absent"}, SITE | {"default": True}])
    assert sites[0]["state"] == "absent"


def test_a_site_must_serve_something() -> None:
    (error,) = find_errors({"name": "empty", "server_names": ["a.example.org"]})
    assert error.startswith("nginx_sites[0].upstream: missing")


@pytest.mark.parametrize("value", ["unix:/run/a.sock", "10.0.0.1:80 weight=2 backup", "[::1]:8000", "app.internal:80"])
def test_upstreams(value: str) -> None:
    assert resolve_sites([SITE | {"upstream": value}])[0]["upstream"] == [value]


def test_a_header_in_another_case_is_the_same_header() -> None:
    (site,) = resolve_sites([SITE | {"headers": {"x-frame-options": None}, "upstream_headers": {"HOST": "a"}}])
    assert site["headers"] == {"X-Frame-Options": None}
    assert site["upstream_headers"] == {"Host": "a"}


def test_what_a_certificate_can_say_of_names() -> None:
    names = [
        "A.example.org",
        ".b.example.org",
        "*.c.example.org",
        "d.*",
        "~^e$",
        "_",
        "10.0.0.1",
        "[::1]",
        "a.example.org",
    ]
    assert certificate_names(names) == [
        "a.example.org",
        "b.example.org",
        "*.b.example.org",
        "*.c.example.org",
        "10.0.0.1",
        "::1",
    ]
