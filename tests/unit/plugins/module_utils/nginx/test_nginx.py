# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is refused in a site, what comes of it, and that a configuration is changed as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx import install as install_module
from ansible_collections.flaskops.server.plugins.module_utils.nginx.certificates import (
    SelfSigned,
    made_certificates,
    make_certificate,
    plan_certificates,
    plan_modes,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import (
    MARK,
    Change,
    File,
    NginxError,
    plan_files,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import (
    candidate_of,
    install,
    locked,
    overlay,
    remove_leftovers,
    try_configuration,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.reload import (
    errors_since,
    is_final,
    wait_for_new_workers,
    workers_of,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.stale import plan_stale, told, without_catch_all
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import explain, for_host, version_of
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.from_apps import sites_of_apps
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import (
    SitesError,
    certificate_names,
    resolve_sites,
)

SITE = {"name": "shop", "server_names": ["shop.example.org"], "upstream": "unix:/srv/shop/live/http.sock"}


def mistakes(*sites: Any) -> list[str]:
    with pytest.raises(SitesError) as caught:
        resolve_sites(list(sites))
    return caught.value.mistakes


# --- Sites -------------------------------------------------------------------------------------------------------------


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


def test_all_mistakes_come_in_one_message_with_their_paths() -> None:
    with pytest.raises(SitesError) as caught:
        resolve_sites([SITE | {"upstrem": "x"}, {"name": "Shop", "upstream": 8000}])
    assert str(caught.value) == (
        "3 mistakes in the sites, nothing was touched:\n"
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
        ("static", [{"url": "/s", "paths": ["/a"]}, {"url": "/s/", "paths": ["/a"]}], "static[1].url: is there twice"),
        ("static", [{"url": "/", "paths": ["/a"]}], "static[0].url: / belongs to the upstream"),
        ("static", [{"url": "/s", "paths": ["/a"], "symlinks": "no"}], "static[0].symlinks: expected one of follow"),
        (
            "static",
            [{"url": "/s", "paths": ["/a/b"], "symlinks_from": "/a"}],
            "static[0].symlinks_from: goes with symlinks owner or none",
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
        ("tls", {"certificate": "/a"}, "tls.certificate: goes with mode files"),
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
    (mistake,) = mistakes(SITE | {key: value})
    assert mistake.startswith(f"nginx_sites[0].{key}")
    assert expected in mistake


def test_what_sites_must_not_share() -> None:
    assert mistakes(SITE, SITE | {"server_names": ["b.example.org"]}) == [
        "nginx_sites[1].name: used by nginx_sites[0] (shop) too"
    ]
    assert mistakes(SITE, SITE | {"name": "b", "server_names": ["Shop.example.org"]}) == [
        "nginx_sites[1].server_names[0]: used by nginx_sites[0] (shop) too"
    ]
    assert mistakes(SITE | {"name": "a.b"}, SITE | {"name": "a-b", "server_names": ["b.example.org"]}) == [
        "nginx_sites[1].name: used by nginx_sites[0] (a.b) too"
    ]
    assert mistakes(SITE | {"default": True}, {"name": "b", "upstream": "localhost:1"}) == [
        "nginx_sites[1] (b): is a default server, as nginx_sites[0] (shop) is; give one of them server_names"
    ]


def test_an_absent_site_needs_nothing_and_takes_nothing() -> None:
    sites = resolve_sites([{"name": "old", "state": "absent"}, SITE | {"default": True}])
    assert sites[0]["state"] == "absent"


def test_a_site_must_serve_something() -> None:
    (mistake,) = mistakes({"name": "empty", "server_names": ["a.example.org"]})
    assert mistake.startswith("nginx_sites[0].upstream: missing")


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


# --- The sites of apps -------------------------------------------------------------------------------------------------


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
                    "/srv/shop/live/bridge/app/shop/static",
                    "/srv/shop/live/bridge/bridge/app/shop/static",
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


# --- The text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "ipv6", "kept"),
    [
        ((1, 22, 1), True, ["old", "six", "old six", "plain"]),
        ((1, 25, 1), False, ["new", "plain"]),
        ((1, 26, 3), True, ["new", "six", "plain"]),
        (None, False, ["new", "plain"]),
    ],
)
def test_lines_for_some_hosts_only(version: tuple[int, ...] | None, ipv6: bool, kept: list[str]) -> None:
    text = "old; #: nginx<1.25.1\nnew; #: nginx>=1.25.1\nsix; #: ipv6\nold six; #: nginx<1.25.1 ipv6\nplain;\n"
    assert for_host(text, version, ipv6) == "".join(f"{line};\n" for line in kept)


def test_other_comments_stay() -> None:
    text = "a; # nginx>=1.25.1\nb; #: whatever\n"
    assert for_host(text, (1, 0), False) == text


def test_versions() -> None:
    assert version_of("nginx version: nginx/1.22.1\n") == (1, 22, 1)
    assert version_of("1.26.3-3+deb13u1") == (1, 26, 3)
    assert version_of("(none)") is None


def test_a_message_shows_the_line_and_the_real_path(tmp_path: Path) -> None:
    candidate = tmp_path / "nginx.candidate-x"
    candidate.mkdir()
    (candidate / "shop.conf").write_text("one\ntwo\nthree\nfour\n")
    output = f'nginx: [emerg] unknown directive "two" in {candidate}/shop.conf:2\n'
    assert explain(output, str(candidate), "/etc/nginx", context=1) == (
        'nginx: [emerg] unknown directive "two" in /etc/nginx/shop.conf:2\n'
        "/etc/nginx/shop.conf:\n"
        "     1 one\n"
        ">    2 two\n"
        "     3 three"
    )


# --- The change --------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A configuration as Debian's package leaves it, more or less."""
    root = tmp_path / "etc" / "nginx"
    for directory in ("sites-available", "sites-enabled"):
        (root / directory).mkdir(parents=True)
    (root / "nginx.conf").write_text("include sites-enabled/*;\n")
    (root / "sites-available" / "default").write_text("default\n")
    (root / "sites-enabled" / "default").symlink_to(root / "sites-available" / "default")
    return root


@pytest.fixture
def fake(tmp_path: Path) -> str:
    """An nginx that refuses a configuration with the word `broken` in it."""
    program = tmp_path / "nginx"
    program.write_text('#!/bin/sh\nif grep -rn broken "$(dirname "$3")" >&2; then exit 1; fi\n')
    program.chmod(0o755)
    return str(program)


def tree(root: Path) -> dict[str, str]:
    """All files below a directory; of links, where they lead."""
    return {
        str(path.relative_to(root)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def ours(path: str, text: str = "") -> File:
    return File(path, f"# {MARK}\n{text}", owned=True)


def test_nothing_to_change(root: Path) -> None:
    assert plan_files(root, [File("nginx.conf", "include sites-enabled/*;\n")]) == []


def test_a_new_a_changed_and_an_unwanted_file(root: Path) -> None:
    changes = plan_files(
        root,
        [
            File("nginx.conf", "new\n", backup=True),
            ours("sites-enabled/shop.conf"),
            File("sites-enabled/default", link="sites-available/default"),
            File("sites-enabled/missing.conf", owned=True),
        ],
    )
    assert [change.path for change in changes] == [
        "nginx.conf",
        "nginx.conf.orig",
        "sites-enabled/shop.conf",
        "sites-enabled/default",
    ]
    assert changes[0].shown == ("include sites-enabled/*;\n", "new\n")
    install(root, changes, lambda: None)
    assert tree(root) == {
        "nginx.conf": "new\n",
        "nginx.conf.orig": "include sites-enabled/*;\n",
        "sites-available/default": "default\n",
        "sites-enabled/shop.conf": f"# {MARK}\n",
    }


def test_the_first_foreign_version_is_the_one_that_is_kept(root: Path) -> None:
    for text in ("one\n", "two\n"):
        install(root, plan_files(root, [File("nginx.conf", text, backup=True)]), lambda: None)
    assert (root / "nginx.conf.orig").read_text() == "include sites-enabled/*;\n"


def test_somebodys_own_files_are_left_alone(root: Path) -> None:
    (root / "sites-enabled" / "shop.conf").write_text("mine\n")
    with pytest.raises(NginxError, match=r"shop.conf is there and was not written by this role"):
        plan_files(root, [ours("sites-enabled/shop.conf")])
    assert plan_files(root, [File("sites-enabled/shop.conf", owned=True)]) == []
    (root / "sites-enabled" / "default").unlink()
    (root / "sites-enabled" / "default").write_text("mine\n")
    assert plan_files(root, [File("sites-enabled/default", link="sites-available/default")]) == []


def test_permissions_are_put_right(root: Path) -> None:
    (root / "nginx.conf").chmod(0o600)
    (change,) = plan_files(root, [File("nginx.conf", "include sites-enabled/*;\n")])
    assert change.only_mode
    install(root, [change], lambda: None)
    assert stat.S_IMODE((root / "nginx.conf").stat().st_mode) == 0o644


def test_a_candidate_is_a_copy_that_disappears(root: Path, fake: str) -> None:
    before = tree(root)
    with candidate_of(root) as candidate:
        assert candidate.parent == root.parent
        assert stat.S_IMODE(candidate.stat().st_mode) == 0o700
        overlay(candidate, plan_files(root, [ours("sites-enabled/shop.conf", "broken\n")]))
        assert tree(candidate).items() >= before.items()
        accepted, words = try_configuration(fake, candidate / "nginx.conf")
        assert not accepted
        assert f"{candidate}/sites-enabled/shop.conf:2:broken" in words
    assert not candidate.exists()
    assert tree(root) == before


def test_a_candidate_is_removed_when_something_goes_wrong(root: Path) -> None:
    with pytest.raises(RuntimeError), candidate_of(root):
        raise RuntimeError
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


def test_a_candidate_leaves_pipes_and_sockets_out(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with candidate_of(root) as candidate:
        assert not (candidate / "pipe").exists()


def test_what_a_link_leads_to_is_not_written_through_it(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept\n")
    shutil.rmtree(root / "sites-enabled")
    (root / "sites-enabled").symlink_to(elsewhere)
    (elsewhere / "nginx.conf").write_text("linked\n")
    (root / "nginx.conf").unlink()
    (root / "nginx.conf").symlink_to(elsewhere / "nginx.conf")
    changes = plan_files(root, [ours("sites-enabled/shop.conf"), File("nginx.conf", "new\n")])
    with candidate_of(root) as candidate:
        overlay(candidate, changes)
        assert (candidate / "sites-enabled" / "kept").exists()
        assert (candidate / "nginx.conf").read_text() == "new\n"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["kept", "nginx.conf"]
    assert (elsewhere / "nginx.conf").read_text() == "linked\n"


def test_a_result_that_does_not_verify_is_taken_back(root: Path) -> None:
    before = tree(root)
    changes = plan_files(
        root,
        [
            File("nginx.conf", "new\n"),
            ours("sites-enabled/shop.conf"),
            File("sites-enabled/default", link="sites-available/default"),
        ],
    )
    with pytest.raises(NginxError, match="no good"):
        install(root, changes, lambda: "no good")
    assert tree(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


def test_a_failure_in_the_middle_is_taken_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(root)
    written = install_module._write

    def full(path: Path, content: bytes, mode: int) -> None:
        if path.name == "shop.conf":
            raise OSError(28, "No space left on device")
        written(path, content, mode)

    monkeypatch.setattr(install_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        install(root, plan_files(root, [File("nginx.conf", "new\n"), ours("sites-enabled/shop.conf")]), lambda: None)
    assert tree(root) == before


def test_what_killed_runs_leave_is_removed(root: Path) -> None:
    before = tree(root)
    (root.parent / "nginx.candidate-dead").mkdir()
    (root.parent / "nginx.candidate-dead" / "nginx.conf").write_text("x")
    (root / "sites-enabled" / ".shop.conf.candidate-new").write_text("x")
    remove_leftovers(root)
    assert tree(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["nginx"]


# --- Certificates ------------------------------------------------------------------------------------------------------

OPENSSL = shutil.which("openssl") or ""
needs_openssl = pytest.mark.skipif(not OPENSSL, reason="needs openssl")


def wanted(*names: str, days: int = 90) -> SelfSigned:
    return SelfSigned("self-signed/shop.crt", "self-signed/shop.key", names, days)


@needs_openssl
def test_a_certificate_is_made_once(root: Path) -> None:
    one = wanted("shop.example.org", "*.example.org", "10.0.0.1", "::1")
    assert plan_certificates(root, [one], OPENSSL) == [one]
    with candidate_of(root) as candidate:
        changes = made_certificates(candidate, [one], OPENSSL)
        install(root, changes, lambda: None)
    assert stat.S_IMODE((root / one.key).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / one.certificate).stat().st_mode) == 0o644
    assert plan_certificates(root, [one], OPENSSL) == []
    assert plan_modes(root, [one]) == []
    assert all("PRIVATE" not in "".join(change.shown) for change in changes)


@needs_openssl
def test_a_certificate_is_made_anew_for_other_names_or_when_it_runs_out(root: Path) -> None:
    make_certificate(wanted("a.example.org"), root, OPENSSL)
    assert plan_certificates(root, [wanted("b.example.org")], OPENSSL)
    make_certificate(wanted("a.example.org", days=29), root, OPENSSL)
    assert plan_certificates(root, [wanted("a.example.org")], OPENSSL)
    (root / "self-signed" / "shop.key").unlink()
    assert plan_certificates(root, [wanted("a.example.org")], OPENSSL)


@needs_openssl
def test_an_open_key_is_closed(root: Path) -> None:
    make_certificate(wanted("a.example.org"), root, OPENSSL)
    (root / "self-signed" / "shop.key").chmod(0o644)
    assert plan_modes(root, [wanted("a.example.org")]) == [
        Change("self-signed/shop.key", 0o600, shown=("mode 0644\n", "mode 0600\n"), only_mode=True)
    ]


@needs_openssl
def test_a_name_too_long_for_a_subject(root: Path) -> None:
    name = f"{'a' * 60}.{'b' * 60}.example.org"
    make_certificate(wanted(name), root, OPENSSL)
    assert plan_certificates(root, [wanted(name)], OPENSSL) == []


# --- The reload --------------------------------------------------------------------------------------------------------


def process(proc: Path, number: int, parent: int, title: str) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} (nginx) S {parent} 1 1")
    (proc / str(number) / "cmdline").write_text(f"nginx: {title}\0")


def test_workers_are_the_masters_own_that_still_work(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "master process /usr/sbin/nginx")
    process(tmp_path, 11, 10, "worker process")
    process(tmp_path, 12, 10, "worker process is shutting down")
    process(tmp_path, 13, 10, "cache manager process")
    process(tmp_path, 14, 9, "worker process")
    assert workers_of(10, tmp_path) == {11}
    assert wait_for_new_workers(10, {12}, 1, lambda: False, tmp_path)
    assert not wait_for_new_workers(10, {11}, 0.1, lambda: False, tmp_path)
    assert not wait_for_new_workers(10, {11}, 60, lambda: True, tmp_path)


def test_errors_since(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("[emerg] old\n")
    size = log.stat().st_size
    with log.open("a") as file:
        file.write("[notice] x\n[emerg] bind() to 0.0.0.0:80 failed\n")
    assert errors_since(log, size) == ["[emerg] bind() to 0.0.0.0:80 failed"]
    assert not is_final(errors_since(log, size))
    with log.open("a") as file:
        file.write("[emerg] still could not bind()\n")
    assert is_final(errors_since(log, size))
    assert errors_since(tmp_path / "missing", 0) == []


# --- Sites that are not asked for any more -------------------------------------------------------------------------------


def old_site(root: Path, name: str, names: str, mark: str = f"# {MARK}. x", default: str = "") -> Path:
    """Write the file of a site as the role does, as far as it matters here."""
    path = root / f"sites-enabled/{name}.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{mark}\n\nserver {{\n    listen 80{default};\n    server_name {names};\n}}\n")
    path.chmod(0o640)
    return path


def new_site(name: str, names: str, default: str = "") -> File:
    text = f"# {MARK}\n\nserver {{\n    listen 80{default};\n    server_name {names};\n}}\n"
    return File(f"sites-enabled/{name}.conf", text, owned=True)


def test_a_site_that_is_gone_gives_up_what_is_anothers_now(tmp_path: Path) -> None:
    before = old_site(tmp_path, "docs", "a.org b.org").read_text()
    old_site(tmp_path, "gone", "A.org")
    old_site(tmp_path, "quiet", "c.org")
    files = [new_site("zed", "a.org"), File("sites-enabled/left.conf", owned=True)]
    docs, gone = plan_stale(tmp_path, files)
    assert docs.change == Change(
        "sites-enabled/docs.conf",
        0o640,
        before.replace("a.org b.org", "b.org").encode(),
        (before, before.replace("a.org b.org", "b.org")),
    )
    assert (gone.change.path, gone.change.content, gone.change.shown[1]) == ("sites-enabled/gone.conf", None, "")
    assert told(docs, tmp_path) == (
        f"{tmp_path}/sites-enabled/docs.conf belongs to the site docs, which is no longer in nginx_sites, and still answered "
        "for a.org (now of the site zed). This was taken out of it; it goes on answering for b.org. An application behind "
        "it is not stopped. To remove the old site for good, add {name: docs, state: absent} to nginx_sites."
    )
    assert "It answered for nothing else and would be removed." in told(gone, tmp_path, check_mode=True)
    install(tmp_path, [docs.change, gone.change], lambda: None)
    assert plan_stale(tmp_path, files) == []
    assert sorted(path.name for path in (tmp_path / "sites-enabled").iterdir()) == ["docs.conf", "quiet.conf"]


def test_the_place_of_the_default_server_is_given_up(tmp_path: Path) -> None:
    old_site(tmp_path, "docs", "_", default=" default_server")
    (stale,) = plan_stale(tmp_path, [new_site("zed", "_", " default_server")])
    assert stale.change.content is None
    assert "hosts that no site names (now of the site zed)" in told(stale, tmp_path)
    assert plan_stale(tmp_path, [new_site("zed", "a.org")]) == []


CATCH_ALL = """\

    # Hosts that no site names get no answer.
    server {
        listen 80 default_server;
        listen [::]:80 default_server;
        server_name _;
        return 444;
    }
"""


def test_our_own_catch_all_takes_no_place_from_a_site(tmp_path: Path) -> None:
    """It may be of another inventory."""
    conf = File("nginx.conf", f"http {{\n    gzip on;\n{CATCH_ALL}\n    include sites-enabled/*;\n}}\n")
    named, default = new_site("zed", "a.org"), new_site("zed", "_", " default_server")
    assert without_catch_all(tmp_path, [conf, named]) == [conf, named]
    old_site(tmp_path, "docs", "_", default=" default_server")
    assert plan_stale(tmp_path, [conf, named]) == []
    without, kept = without_catch_all(tmp_path, [conf, named])
    assert without.content == "http {\n    gzip on;\n\n    include sites-enabled/*;\n}\n"
    assert kept == named
    # Where a site that is asked for is the default, the old one gives way to it.
    assert without_catch_all(tmp_path, [conf, default]) == [conf, default]


def test_what_is_asked_for_or_absent_or_somebodys_is_left_alone(tmp_path: Path) -> None:
    old_site(tmp_path, "zed", "a.org")
    old_site(tmp_path, "absent", "a.org")
    old_site(tmp_path, "somebodys", "a.org", mark="# mine")
    old_site(tmp_path, "quotes", "a.org", mark=f"# not: {MARK}")
    old_site(tmp_path, ".hidden", "a.org")
    elsewhere = old_site(tmp_path, "linked", "a.org").rename(tmp_path / "linked.conf")
    (tmp_path / "sites-enabled/linked.conf").symlink_to(elsewhere)
    (tmp_path / "sites-enabled/directory.conf").mkdir()
    files = [new_site("zed", "a.org"), File("sites-enabled/absent.conf", owned=True)]
    assert plan_stale(tmp_path, files) == []
    assert plan_stale(tmp_path / "missing", files) == []


def test_what_is_not_utf8_comes_through(tmp_path: Path) -> None:
    path = old_site(tmp_path, "docs", "a.org b.org")
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    (stale,) = plan_stale(tmp_path, [new_site("zed", "a.org")])
    assert stale.change.content is not None and b"caf\xe9" in stale.change.content
    stale.change.shown[1].encode()


# --- The lock, and what others may read ----------------------------------------------------------------------------------


def test_the_lock_is_in_a_directory_of_its_own(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    with locked(lock):
        assert stat.S_IMODE(lock.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with (
            pytest.raises(NginxError, match=f"process {os.getpid()} is changing nginx's configuration"),
            locked(lock, 0.2),
        ):
            pass
    with locked(lock, 0):
        pass


def test_a_lock_that_is_let_go_is_taken(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    lock.parent.mkdir(mode=0o700)
    holder = subprocess.Popen(
        ["flock", "--exclusive", lock, "sh", "-c", "echo; sleep 0.5"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "\n"
    with locked(lock, 20):
        assert holder.wait(5) == 0


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "flaskops/nginx.lock"
    lock.parent.mkdir(mode=0o700)
    (tmp_path / "precious").write_text("precious")
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"), locked(lock):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    openssl = shutil.which("openssl")
    before = os.umask(umask)
    try:
        install(tmp_path, [Change("a/b/c.conf", content=b"x")], lambda: None)
        if openssl:
            make_certificate(SelfSigned("self-signed/a.crt", "self-signed/a.key", ("a.org",), 10), tmp_path, openssl)
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    expected = {"a": 0o755, "a/b": 0o755, "a/b/c.conf": 0o644}
    if openssl:
        expected |= {"self-signed": 0o755, "self-signed/a.crt": 0o644, "self-signed/a.key": 0o600}
    assert modes == expected


def test_a_name_that_nginx_conf_has_now_is_said_to_be_there(tmp_path: Path) -> None:
    """By nginx_http_snippets."""
    old_site(tmp_path, "docs", "a.org")
    (stale,) = plan_stale(
        tmp_path, [File("nginx.conf", "http {\n    server {\n        server_name a.org;\n    }\n}\n")]
    )
    assert "a.org (now of nginx.conf)" in told(stale, tmp_path)
