# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nginx is told. Whether it understands it, and does it, is what the scenario `nginx` asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import MARK
from ansible_collections.flaskops.server.plugins.module_utils.nginx.stale import Claims, claims_of, without_claims
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import for_host
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import resolve_sites

Render = Callable[..., str]

NAMED = {"name": "shop", "server_names": ["shop.example.org"], "upstream": "unix:/srv/shop/live/http.sock"}
NAMELESS = {"name": "shop", "upstream": "unix:/srv/shop/live/http.sock"}


@pytest.fixture
def conf(render: Render) -> Callable[..., str]:
    """Return a function that renders nginx.conf for some sites, for a recent nginx."""

    def function(*sites: dict[str, Any], version: tuple[int, ...] = (1, 26, 3), **variables: Any) -> str:
        return for_host(render("nginx", "nginx.conf.j2", sites=resolve_sites(list(sites)), **variables), version, True)

    return function


@pytest.fixture
def site(render: Render) -> Callable[..., str]:
    """Return a function that renders a site, for a recent nginx."""

    def function(given: dict[str, Any], version: tuple[int, ...] = (1, 26, 3), **variables: Any) -> str:
        (resolved,) = resolve_sites([given])
        return for_host(render("nginx", "sites-enabled/site.conf.j2", site=resolved, **variables), version, True)

    return function


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


# --- nginx.conf --------------------------------------------------------------------------------------------------------


def test_all_includes_are_relative(conf, site) -> None:
    for text in (conf(NAMED), site(NAMED)):
        assert not re.search(r"^\s*include /", text, re.MULTILINE)
        assert MARK in text
        assert "#:" not in text


def test_what_is_balanced(conf, site) -> None:
    for text in (conf(NAMED), site(NAMED), site(NAMELESS), site(NAMED | {"tls": {"mode": "none"}})):
        code = re.sub(r'"[^"]*"|\'[^\']*\'|#.*', "", text)
        assert code.count("{") == code.count("}")


def test_every_port_has_a_catch_all(conf) -> None:
    text = conf(NAMED)
    assert "listen 80 default_server;" in text
    assert "listen [::]:443 ssl default_server;" in text
    assert text.count("return 444;") == 2
    assert "ssl_reject_handshake on;" in text


def test_a_default_site_takes_the_place_of_the_catch_all(conf, site) -> None:
    assert "default_server" not in conf(NAMELESS)
    assert site(NAMELESS).count("default_server") == 4
    without_tls = NAMELESS | {"tls": {"mode": "none"}}
    assert "listen 443 ssl default_server;" in conf(without_tls)
    assert "listen 80 default_server;" not in conf(without_tls)


def test_the_catch_all_can_be_left_out(conf) -> None:
    assert "default_server" not in conf(NAMED, nginx_catch_all=False)


def test_http2_in_old_and_new_words(conf, site) -> None:
    for text in (conf(NAMED), site(NAMED)):
        assert "http2 on;" in lines(text)
        assert "ssl http2" not in text
    for text in (conf(NAMED, version=(1, 22, 1)), site(NAMED, version=(1, 22, 1))):
        assert "http2 on;" not in text
        assert "ssl http2" in text


def test_without_ipv6_nothing_listens_on_it(render) -> None:
    text = render("nginx", "sites-enabled/site.conf.j2", site=resolve_sites([NAMED])[0])
    assert "[::]" not in for_host(text, (1, 26, 3), ipv6=False)


def test_directives_pass_through_and_win(conf) -> None:
    text = conf(
        nginx_main={"worker_processes": 2, "env": ["A", "B"]},
        nginx_events={"multi_accept": True},
        nginx_http={
            "client_max_body_size": "1g",
            "gzip": False,
            "tcp_nopush": None,
            "map $a $b": {"default": 0, '"x"': 1},
        },
        nginx_http_snippets=["geo $c {\n    default 1;\n}\n"],
    )
    found = lines(text)
    for line in (
        "worker_processes 2;",
        "env A;",
        "env B;",
        "multi_accept on;",
        "client_max_body_size 1g;",
        "gzip off;",
    ):
        assert found.count(line) == 1
    assert "tcp_nopush" not in text
    assert '    map $a $b {\n        default 0;\n        "x" 1;\n    }\n' in text
    assert "    geo $c {\n        default 1;\n    }\n" in text


def test_proxies_are_believed_only_where_named(conf) -> None:
    assert "set_real_ip_from" not in conf()
    assert "$http_x_forwarded_proto" not in conf()
    text = conf(nginx_trusted_proxies=["10.0.0.0/8", "2001:db8::/32"])
    assert "set_real_ip_from 10.0.0.0/8;" in text
    assert "2001:db8::/32 1;" in text
    assert "$front_trusted:$http_x_forwarded_proto" in text


# --- A site ------------------------------------------------------------------------------------------------------------


def test_http_redirects_and_https_serves(site) -> None:
    text = site(NAMED)
    assert "return 308 https://$host$request_uri;" in text
    assert "ssl_certificate self-signed/shop.crt;" in text
    assert "proxy_pass http://site_shop;" in text
    assert "keepalive" not in text, "no connection to a release outlives its requests"


def test_another_https_port_is_redirected_to(site) -> None:
    assert "return 308 https://$host:8443$request_uri;" in site(NAMED, nginx_https_port=8443)


def test_without_tls_only_http_listens(site) -> None:
    text = site(NAMED | {"tls": {"mode": "none"}})
    assert "443" not in text
    assert "308" not in text
    assert "ssl" not in text.lower().replace("x-forwarded-ssl", "")


def test_without_redirect_both_serve(site) -> None:
    text = site(NAMED | {"tls": {"redirect": False}})
    assert len(re.findall(r"^server \{", text, re.MULTILINE)) == 1
    assert "listen 80;" in text
    assert "listen 443 ssl;" in text


def test_the_canonical_name(site) -> None:
    text = site(NAMED | {"server_names": ["a.example.org", "b.example.org"], "redirect_to_canonical": True})
    assert "server_name b.example.org;" in text
    assert "return 308 https://a.example.org$request_uri;" in text
    assert "return 308 $scheme://a.example.org$front_host_port$request_uri;" in text


@pytest.mark.parametrize("name", ["For", "Proto", "Host", "Port", "Prefix", "Ssl", "Protocol"])
def test_forwarded_headers_are_set_by_us_alone(site, name: str) -> None:
    text = site(NAMED)
    assert len(re.findall(rf"proxy_set_header X-Forwarded-{name} ", text)) == 1
    assert "$proxy_add_x_forwarded_for" not in text


def test_upstream_headers_win(site) -> None:
    found = lines(site(NAMED | {"upstream_headers": {"host": "internal", "X-Key": "a b", "X-Real-IP": None}}))
    assert 'proxy_set_header Host "internal";' in found
    assert 'proxy_set_header X-Key "a b";' in found
    assert not [line for line in found if "X-Real-IP" in line]


def test_headers_of_the_answer(site) -> None:
    text = site(NAMED | {"headers": {"X-Frame-Options": None, "X-Quote": 'say "hi" \\'}})
    assert "x_frame_options" not in text.lower()
    assert '"" "say \\"hi\\" \\\\";' in text
    assert "add_header X-Content-Type-Options $front_header_shop__x_content_type_options always;" in text


def test_hsts_only_with_a_certificate_that_browsers_can_trust(site) -> None:
    assert "Strict-Transport-Security" not in site(NAMED)
    files = NAMED | {"tls": {"mode": "files", "certificate": "/a.crt", "key": "/a.key"}}
    assert "Strict-Transport-Security" in site(files)
    assert "Strict-Transport-Security" not in site(files, nginx_hsts="")
    assert "Strict-Transport-Security" not in site(files | {"headers": {"strict-transport-security": None}})


def test_static_files(site) -> None:
    text = site(NAMED | {"static": [{"url": "/a.b+c/", "paths": ["/srv/a", "/srv/b/"], "expires": "1y"}]})
    assert "location ^~ /a.b+c/ {" in text
    assert r'location ~ "^/a\.b\+c/(?<front_file>.+)\z" {' in text, "not what ends in a line break"
    assert "try_files /srv/a/$front_file /srv/b/$front_file =404;" in text
    assert "expires 1y;" in text
    assert "alias" not in text
    assert r'location ~ "^/a\.b\+c/(.*/)?[./]" {' in text, "neither hidden files nor two slashes"
    assert "disable_symlinks" not in text


def test_a_url_without_a_slash_is_a_file_or_a_directory(site) -> None:
    text = site(NAMED | {"static": [{"url": "/favicon.ico", "paths": ["/srv/favicon.ico"]}]})
    assert "location = /favicon.ico {" in text
    assert "try_files /srv/favicon.ico =404;" in text
    assert "location ^~ /favicon.ico/ {" in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"symlinks": "owner"}, "disable_symlinks if_not_owner;"),
        ({"symlinks": "none", "symlinks_from": "/srv/"}, "disable_symlinks on from=/srv;"),
        ({"symlinks": "none", "symlinks_from": "/"}, "disable_symlinks on;"),
    ],
)
def test_links_are_refused_in_both_places_of_an_entry(site, given: dict[str, str], told: str) -> None:
    text = site(NAMED | {"static": [{"url": "/media", "paths": ["/srv/media"], **given}]})
    for start in ("location = /media {", 'location ~ "^/media/(?<front_file>.+)\\z" {'):
        assert told in lines(text[text.index(start) :].partition("}")[0])


def test_limits(site) -> None:
    text = site(
        NAMED | {"client_max_body_size": "50m", "timeouts": {"read": "5m"}, "rate_limit": {"rate": "10r/s", "burst": 5}}
    )
    assert "client_max_body_size 50m;" in text
    assert "proxy_read_timeout 5m;" in text
    assert "limit_req_zone $binary_remote_addr zone=site_shop:10m rate=10r/s;" in text
    assert "limit_req zone=site_shop burst=5 nodelay;" in text


def test_the_uwsgi_protocol(site) -> None:
    text = site(NAMED | {"upstream_protocol": "uwsgi", "timeouts": {"read": 5}})
    assert "uwsgi_pass site_shop;" in text
    assert 'uwsgi_param HTTP_X_FORWARDED_PROTO "$front_proto";' in text
    assert "uwsgi_read_timeout 5;" in text
    assert "proxy_" not in text


def test_directives_and_snippets_of_a_site(site) -> None:
    text = site(
        NAMED | {"directives": {"auth_basic": '"x"', "error_page": ["404 /a", "500 /b"]}, "snippets": ["a;", "b;"]}
    )
    found = lines(text)
    assert [
        found.count(line) for line in ('auth_basic "x";', "error_page 404 /a;", "error_page 500 /b;", "a;", "b;")
    ] == [1] * 5


def test_nothing_but_static_files(site) -> None:
    text = site({"name": "files", "server_names": ["a.example.org"], "static": [{"url": "/x/", "paths": ["/srv/x"]}]})
    assert "upstream" not in text.replace("$upstream_http", "")
    assert re.search(r"location / \{\s+return 404;", text)


# --- A site that nobody asks for any more --------------------------------------------------------------------------------


def server_names(text: str) -> list[str]:
    return re.findall(r"^    server_name (.+);$", text, re.MULTILINE)


def taken(*names: str, defaults: tuple[str, ...] = ()) -> Claims:
    return Claims(frozenset(names), frozenset(defaults))


ALL = ("80", "[::]:80", "443", "[::]:443")


def test_what_a_site_answers_for(site, conf) -> None:
    given = {"server_names": ["Shop.example.org", ".a.org", "*.b.org", "~^c(?<x>.)$"], "default": True}
    claims = claims_of(site(NAMED | given))
    assert claims.names == {"shop.example.org", "a.org", "*.a.org", "*.b.org", "~^c(?<x>.)$"}
    assert claims.defaults == set(ALL)
    assert claims_of(site(NAMELESS)) == taken(defaults=ALL)
    assert claims_of(conf(NAMED)) == taken(defaults=ALL)
    assert claims_of(conf(NAMED, nginx_catch_all=False)) == taken()
    assert claims_of(site(NAMED | {"snippets": "#server_name x.org;\nif ($a) { set $b server_name; }"})).names == {
        "shop.example.org"
    }


@pytest.mark.parametrize("version", [(1, 22, 1), (1, 26, 3)])
@pytest.mark.parametrize("mode", ["self_signed", "none"])
def test_a_name_that_is_anothers_now_is_taken_out(site, version: tuple[int, ...], mode: str) -> None:
    given = NAMED | {"server_names": ["a.org", "B.org", "*.c.org", ".d.org"], "tls": {"mode": mode}}
    text = site(given, version)
    assert without_claims(text, taken("x.org", "c.org", "www.c.org", defaults=ALL)) == text
    assert without_claims(text, taken("b.org", "*.c.org")) == site(
        given | {"server_names": ["a.org", ".d.org"]}, version
    )
    assert without_claims(text, taken("d.org", "a.org")) == site(
        given | {"server_names": ["B.org", "*.c.org", "*.d.org"]}, version
    )
    assert without_claims(text, taken("a.org", "b.org", "*.c.org", "d.org", "*.d.org")) == ""


def test_a_regular_expression_is_taken_by_its_text(site) -> None:
    text = site(NAMED | {"server_names": ["~^(?<x>A)$", "a.org"]})
    assert without_claims(text, taken("~^(?<x>a)$")) == text
    assert server_names(without_claims(text, taken("~^(?<x>A)$"))) == ["a.org"] * 2


CANONICAL = NAMED | {"server_names": ["a.org", "b.org", "c.org"], "redirect_to_canonical": True}


@pytest.mark.parametrize("tls", [{"mode": "self_signed"}, {"mode": "none"}])
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("lost", "left"),
    [(["a.org"], ["b.org", "c.org"]), (["b.org"], ["a.org", "c.org"]), (["a.org", "b.org"], ["c.org"])],
)
def test_another_name_becomes_the_canonical_one(
    site, tls: dict[str, str], default: bool, lost: list[str], left: list[str]
) -> None:
    given = CANONICAL | {"tls": tls, "default": default}
    found = without_claims(site(given), taken(*lost))
    if len(left) == 1:
        # There is nothing to redirect any more, but to HTTPS.
        found = found.replace("https://c.org$request_uri", "https://$host$request_uri")
    assert found == site(given | {"server_names": left})


def test_nobody_is_redirected_to_a_name_that_is_anothers(site) -> None:
    for rest in ([], ["*.b.org"]):
        text = without_claims(
            site(CANONICAL | {"server_names": ["a.org", "b.org", *rest], "default": True}), taken("a.org", "b.org")
        )
        assert "a.org$" not in text and "return 308 https://$host$request_uri;" in text
        assert server_names(text) == [" ".join(rest) or "_"] * 2
    assert without_claims(site(CANONICAL), taken("a.org", "b.org", "c.org")) == ""


def test_somebodys_own_redirect_stays(site) -> None:
    snippet = "location = /old {\n    return 308 https://b.org/new;\n}"
    text = without_claims(site(NAMED | {"server_names": ["a.org", "b.org"], "snippets": snippet}), taken("b.org"))
    assert "return 308 https://b.org/new;" in text
    assert server_names(text) == ["a.org"] * 2


def test_there_is_one_default_server(site, conf) -> None:
    named = NAMED | {"default": True}
    assert without_claims(site(NAMELESS), claims_of(conf(NAMED))) == ""
    assert without_claims(site(named), claims_of(conf(NAMED))) == site(NAMED)
    assert without_claims(site(named), claims_of(conf())) == site(NAMED)
    # Of another port it goes on being the default.
    plain = claims_of(site({"name": "new", "upstream": "a:1", "tls": {"mode": "none"}}))
    assert plain.defaults == {"80", "[::]:80"}
    left = without_claims(site(NAMELESS), plain)
    assert claims_of(left).defaults == {"443", "[::]:443"}
    assert left.count("server {") == 1


def test_what_was_taken_out_is_found_once(site, conf) -> None:
    for given in (NAMED, NAMELESS, CANONICAL | {"default": True}):
        for claims in (claims_of(site(NAMED)), claims_of(conf(NAMED)), taken("a.org")):
            once = without_claims(site(given), claims)
            assert without_claims(once, claims) == once if once else True


def test_what_does_not_look_like_a_site_is_left(conf) -> None:
    for text in ("", "# nothing\n", "server{server_name a.org;}\n", "\tserver {\n\tserver_name a.org;\n\t}\n"):
        assert without_claims(text, taken("a.org", defaults=ALL)) == text
