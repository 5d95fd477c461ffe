# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The public interface: what each rule refuses and how it says so, and what is filled in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SCHEMA, SpecError, resolve, resolve_one
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import APP, RESERVED_NAMES
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.rules import RESERVED_DIRECTIVES
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, check

SECRET = "hunter2-hunter2"
SHOP: dict[str, Any] = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:create_app()", "domains": ["a.example"]}
KINDS = "path, git, archive, package, image"
NAMED = "flask_apps[0].name: expected a string matching [a-z][a-z0-9-]{0,30}"


def find_errors(*apps: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        resolve(list(apps))
    assert SECRET not in str(caught.value)
    assert all(error in str(caught.value) for error in caught.value.errors)
    return [error.removeprefix("flask_apps[0].") for error in caught.value.errors]


ONE_ERROR: list[tuple[dict[str, Any], str]] = [
    ({"nmae": "shop"}, "nmae: unknown key, did you mean name?"),
    ({"source": {"gti": SECRET}}, "source.gti: unknown key, did you mean git?"),
    ({"source": None}, "source: missing, expected a dictionary"),
    ({"source": "."}, "source: expected a dictionary, got a string"),
    ({"source": {}}, f"source: expected exactly one of {KINDS}, got none"),
    ({"source": {"path": ".", "git": SECRET}}, f"source: expected exactly one of {KINDS}, got path and git"),
    ({"source": {"path": ".", "version": "1"}}, "source.version: only allowed with git"),
    ({"source": {"path": ".", "checksum": "sha256:" + "0" * 64}}, "source.checksum: only allowed with archive"),
    (
        {"source": {"archive": "https://e.org/a.tar"}},
        "source.checksum: missing, expected sha256:... because the archive is downloaded",
    ),
    (
        {"source": {"archive": "a.tar", "checksum": SECRET}},
        "source.checksum: expected a string matching sha256:[0-9a-f]{64}",
    ),
    (
        {"source": {"image": "shop:1"}},
        "server: expected container because source.image is set, got gunicorn",
    ),
    *(
        (
            {"source": {"path": ".", "subdir": path}},
            "source.subdir: expected a relative path inside the app's directory",
        )
        for path in ("/etc", "..", "a/../../b", ".", "./")
    ),
    *(({"name": name}, NAMED.partition(".")[2]) for name in ("Shop", "1shop", "a_b", "a" * 32, "a.b", "", "shop\n")),
    ({"name": "all"}, "name: is reserved, '-e app=all' means all apps; choose another name"),
    ({"name": "nginx"}, "name: is the name of a system user or service, choose another name"),
    ({"wsgi": None}, "wsgi: missing, expected module:callable or a factory call such as shop:create_app()"),
    ({"wsgi": "shop.py"}, r"wsgi: expected a string matching [A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?"),
    (
        {"server": "gunicron"},
        f"server: expected one of {', '.join(SERVERS)}, did you mean gunicorn?",
    ),
    ({"uwsgi": {"harakri": 3}}, "uwsgi.harakri: not an option of uWSGI, did you mean harakiri?"),
    ({"gunicorn": {"time_out": 5}}, "gunicorn.time_out: not a setting of Gunicorn, did you mean timeout?"),
    (
        {"gunicorn": {"daemon": True}},
        "gunicorn.daemon: cannot be set here, systemd supervises the process, which must stay in the foreground",
    ),
    ({"gunicorn": {"post_fork": "f"}}, "gunicorn.post_fork: a Python function, which YAML cannot express"),
    ({"gunicorn": {"graceful_timeout": "9"}}, "gunicorn.graceful_timeout: expected a whole number of seconds"),
    ({"server": "container", "limits": {"Nice": 5}}, "limits.Nice: a container has no such limit, use CPUWeight"),
    ({"limits": {"MemryMax": 1}}, "limits.MemryMax: unknown resource limit, did you mean MemoryMax?"),
    ({"unit": {"User": "root"}}, f"unit.User: cannot be set here, {RESERVED_DIRECTIVES['User']}"),
    ({"unit": {"nice value": 1}}, "unit.nice value: expected a name matching [A-Z][A-Za-z]+"),
    ({"tls": {"mode": "acme"}}, "tls.mode: acme is not available in this version, use self_signed, files or none"),
    ({"tls": {"mode": "files", "key": "/k"}}, "tls.certificate: missing, expected a path on the host"),
    ({"tls": {"key": "/k"}}, "tls.key: only allowed with mode: files"),
    ({"env": {"A": 1}, "secrets": {"A": SECRET}}, "secrets.A: is also set in env, remove one of them"),
    ({"secrets": {"A-B": SECRET}}, "secrets.A-B: expected a name matching [A-Za-z_][A-Za-z0-9_]*"),
    ({"secrets": {"A": {"B": SECRET}}}, "secrets.A: expected a string, a number or a boolean, got a dictionary"),
    ({"secrets": {"A": SECRET + "\0"}}, "secrets.A: expected text without a NUL character"),
    ({"secrets": [SECRET]}, "secrets: expected a dictionary, got a list"),
    ({"domains": ["a b"]}, "domains[0]: expected a string matching"),
    ({"domains": "a.example"}, "domains: expected a list, got a string"),
    *(
        ({"domains": [name]}, f"domains[0]: {words}")
        for name, words in {
            "a." * 126 + "aa": "a host name has at most 253 characters",
            "b\u00fccher.example": r"expected a string matching (\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
            "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?: letters, digits and hyphens between dots; browsers send this "
            "name as xn--bcher-kva.example",
            "my_host.example": "expected a string matching",
            "a.example\n": "expected a string matching",
        }.items()
    ),
    *(
        ({"shared_paths": [path]}, "shared_paths[0]: expected a path without colons, quotes, $ and \\")
        for path in ("$(id)", "a:b", "`id`", 'a"b', "it's", "a\\b")
    ),
    ({"shared_paths": ["a\0b"]}, "shared_paths[0]: expected text without a NUL character"),
    ({"shared_paths": ["a\nb"]}, "shared_paths[0]: expected one line, got a line break"),
    *(
        ({"static": [{"url": url, "path": "s"}]}, "static[0].url: expected a string matching")
        for url in ("/$a", "/a\\", "/a b")
    ),
    *(
        (
            {"static": [{"url": "/s", "path": path}]},
            "static[0].path: expected a path without spaces, quotes and any of $ ; { } \\",
        )
        for path in ("two words", "$document_root", "a;b", "a\\b", "a{b}", 'a"b')
    ),
    ({"static": [{"url": "/", "path": "s"}]}, "static[0].url: / belongs to the upstream, expected a path below it"),
    ({"static": [{"url": u, "path": "s"} for u in ("/s", "/s/")]}, "static[1].url: used by an earlier entry too"),
    # What is served of a shared path below one has no place of its own in the inventory.
    (
        {"static": [{"url": "/m", "path": "m"}, {"url": "/x", "path": "my x"}], "shared_paths": ["m/up"]},
        "static[1].path: expected a path without spaces",
    ),
    *(
        (
            {"static": [{"url": "/m", "path": path}], "shared_paths": ["m/my files"]},
            f"static: '{shown}' is in a shared path and served as {url}: expected a path without spaces",
        )
        for path, shown, url in (("m", "m/my files", "/m/my files"), ("m/my files/x", "m/my files/x", "/m"))
    ),
    (
        {"tls": {"mode": "files", "certificate": "/c", "key": "/my key"}},
        "tls.key: expected a path without spaces, quotes and any of $ ; { } \\",
    ),
    (
        {"tls": {"mode": "files", "certificate": "c", "key": "/k"}},
        "tls.certificate: expected an absolute path without ..",
    ),
    (
        {"nginx": {"redirect_to_canonical": True}, "domains": ["*.a.example"]},
        "domains[0]: expected a plain host name to",
    ),
    ({"nginx": {"directives": {"a": "b\nc"}}}, "nginx.directives: expected one line for a"),
    ({"nginx": {"directives": {"a": {"b": ["c\rd"]}}}}, "nginx.directives: expected one line for b"),
    ({"nginx": {"directives": {"a\nb": 1}}}, "nginx.directives: expected names of nginx directives"),
    ({"nginx": {"headers": {"X": "a\u2028b"}}}, "nginx.headers: expected one line for X"),
    ({"limits": {"MemoryMax": "1G\nUser=root"}}, "limits.MemoryMax: expected one line, got a line break"),
    ({"unit": {"Environment": "A=1\rUser=root"}}, "unit.Environment: expected one line, got a line break"),
    ({"unit": {"BindPaths": ["/a", "/b\nUser=root"]}}, "unit.BindPaths[1]: expected one line, got a line break"),
    ({"unit": {"Nice\nUser": "root"}}, r"unit.'Nice\nUser': expected a name matching"),
    *(
        (
            {key: {"MemoryMax": value}},
            f"{key}.MemoryMax: expected no backslash at the end: systemd would join the next line",
        )
        for key in ("limits", "unit")
        for value in ("1G\\", "\\", "1G\\ ")
    ),
    ({"unit": {"BindPaths": ["/a\\"]}}, "unit.BindPaths[0]: expected no backslash at the end"),
    ({"unit": {"BindPaths": [["/a"]]}}, "unit.BindPaths[0]: expected a string, a number or a boolean, got a list"),
    ({"container": {"label": ["a", "b\nc"]}}, "container.label[1]: expected one line, got a line break"),
    ({"container": {"label": [{"a": 1}]}}, "container.label: expected a text, a number, true or false, or a list"),
    ({"uwsgi": {"env": ["A=1", "B=2\rplugin=x"]}}, "uwsgi.env[1]: expected one line, got a line break"),
    ({"mod_wsgi": {"ErrorDocument": ["404 a\x85b"]}}, "mod_wsgi.ErrorDocument[0]: expected one line, got a line break"),
    ({"health": {"path": "/\u00e9?a=1%20"}}, "health.path: expected ASCII, write it percent-encoded: /%C3%A9?a=1%20"),
    ({"health": {"path": "/\x01"}}, "health.path: expected text without control characters"),
    ({"health": {"headers": {"X": "a\r\nY: b"}}}, "health.headers.X: expected one line, got a line break"),
    ({"health": {"headers": {"X": "\u20ac"}}}, "health.headers.X: expected characters that a header can hold"),
    *(({"health": {"headers": {n: 1}}}, "health.headers.") for n in ("X Y", "X:", "", "X\n", "\u00dc")),
    ({"secrets": {"A": SECRET + "\ud800"}}, "secrets.A: expected text that can be written in UTF-8"),
    ({"wsgi": "shop:create_app('a\rb')"}, "wsgi: expected one line, got a line break"),
    ({"release_commands": ["a\0b"]}, "release_commands[0]: expected text without a NUL character"),
    ({"shared_paths": ["../up"]}, "shared_paths[0]: expected a relative path inside the app's directory"),
    ({"static": [{"url": "/s"}]}, "static[0].path: missing, expected a string"),
    ({"static": [{"url": "s", "path": "s"}]}, "static[0].url: expected a string matching"),
    ({"static": [{"url": "/s", "path": "/s"}]}, "static[0].path: expected a relative path inside the app's directory"),
    ({"workers": "many"}, "workers: expected a whole number or auto from 1 to 512"),
    ({"threads": 0}, "threads: expected a whole number or auto from 1 to 512"),
    ({"health": {"path": "healthz"}}, r"health.path: expected a string matching /\S*"),
    ({"health": {"status": "ok"}}, "health.status: expected a whole number or a list, got a string"),
    ({"health": {"timeout": 0}}, "health.timeout: expected a whole number from 1 to 3600"),
    ({"checks": {"pipcheck": True}}, "checks.pipcheck: unknown key, did you mean pip_check?"),
    ({"checks": {"audit": True}}, "checks.audit: not available in this version"),
    ({"hooks": {"after_life": []}}, "hooks.after_life: unknown key, did you mean after_live?"),
    ({"release_commands": "flask db upgrade"}, "release_commands: expected a list, got a string"),
    ({"python": {"interpretor": "3"}}, "python.interpretor: unknown key, did you mean interpreter?"),
    ({"nginx": {"header": {}}}, "nginx.header: unknown key, did you mean headers?"),
    ({"keep_releases": 0}, "keep_releases: expected a whole number from 1 to 1000"),
    ({"watch": {"seconds": 5}}, "watch: not available in this version"),
    ({"processes": [{"name": "w"}]}, "processes: not available in this version"),
    ({"schedule": [{"name": "w"}]}, "schedule: not available in this version"),
]


@pytest.mark.parametrize(("change", "error"), ONE_ERROR)
def test_each_rule(change: dict[str, Any], error: str) -> None:
    found = find_errors({**SHOP, **change})
    assert len(found) == 1
    assert found[0].startswith(error)


def test_all_errors_of_all_apps_are_in_one_message() -> None:
    first = {**SHOP, "nmae": 1, "source": {"path": ".", "git": SECRET}, "gunicorn": {"bind": SECRET}, "workers": -1}
    second = {**SHOP, "name": SECRET.upper(), "env": []}
    assert find_errors(first, second) == [
        "nmae: unknown key, did you mean name?",
        "workers: expected a whole number or auto from 1 to 512",
        f"source: expected exactly one of {KINDS}, got path and git",
        "gunicorn.bind: cannot be set here, the release controls the socket: nginx and the health check connect to it",
        "flask_apps[1].name: expected a string matching [a-z][a-z0-9-]{0,30}",
        "flask_apps[1].env: expected a dictionary, got a list",
        "flask_apps[1].domains[0]: already used by flask_apps[0]",
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"domains": ["b.example"]}, "flask_apps[1].name: already used by flask_apps[0]"),
        (
            {"name": "b", "domains": ["c.example", "A.example"]},
            "flask_apps[1].domains[1]: already used by flask_apps[0]",
        ),
    ],
)
def test_two_apps_that_collide(change: dict[str, Any], error: str) -> None:
    assert find_errors(SHOP, {**SHOP, **change}) == [error]


def test_one_default_vhost() -> None:
    apps = [{**SHOP, "name": name, "domains": []} for name in ("a", "b")]
    assert find_errors(*apps) == [
        "flask_apps[1].domains: missing, but flask_apps[0] has none either, and a host has one default vhost"
    ]


@pytest.mark.parametrize("apps", [{"name": "shop"}, "shop", None])
def test_no_list(apps: Any) -> None:
    with pytest.raises(
        SpecError, match=r"1 error in the inventory, nothing was changed:\n  - flask_apps: expected a list"
    ):
        resolve(apps)


def test_one_app_says_its_own_path() -> None:
    with pytest.raises(SpecError, match=r"- app_app\.name: missing"):
        resolve_one({**SHOP, "name": None}, "app_app")


def test_every_reserved_name_is_refused() -> None:
    assert {name for name in RESERVED_NAMES if find_errors({**SHOP, "name": name})} == RESERVED_NAMES


def test_defaults() -> None:
    given = copy.deepcopy(SHOP)
    app = resolve([given])[0]
    assert given == SHOP
    assert set(app) == set(APP)
    assert app["source"] == {"path": "."}
    assert {
        key: app[key] for key in ("server", "workers", "threads", "env", "secrets", "shared_paths", "keep_releases")
    } == {
        "server": "gunicorn",
        "workers": "auto",
        "threads": "auto",
        "env": {},
        "secrets": {},
        "shared_paths": ["instance"],
        "keep_releases": 5,
    }
    assert app["health"] == {"path": "/", "status": None, "timeout": 60, "headers": {}}
    assert app["checks"] == {"tests": None, "import": True, "pip_check": True, "audit": False}
    assert app["tls"]["mode"] == "self_signed"
    assert app["python"]["interpreter"] == "/usr/bin/python3"
    assert [key for key, field in APP.items() if field.planned and app[key]] == []


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"git": "https://e.org/a.git", "version": "v1", "subdir": "web", "exclude": ["*.md"]}},
        {"source": {"archive": "https://e.org/a.tar", "checksum": "sha256:" + "0" * 64}},
        {"source": {"package": "httpbin[mainapp]==0.10.4"}, "wsgi": "httpbin:app"},
        {"tls": {"mode": "files", "certificate": "/c", "key": "/k"}},
        {"domains": ["*.shop.example", "shop.example", "localhost"]},
        {"gunicorn": {"timeout": 5, "workers": 3, "graceful_timeout": 9}},
        {"limits": {"MemoryMax": "1G"}, "unit": {"Nice": 5, "BindPaths": ["/a", "/b"]}},
        {"health": {"path": "/healthz", "status": [200, 204], "headers": {"X-A": 1}}},
        {"static": [{"url": "/static", "path": "shop/static"}], "workers": 3, "threads": 1},
        {"unit": {"Environment": '"A=%n \\\\x20 b" C=\u00fc', "ExecStartPre": ["-/bin/true \\\\ a"], "Nice": ""}},
        {"limits": {"CPUQuota": "150%", "LimitNOFILE": "1024:4096"}},
        {"health": {"path": "/a?b=%C3%A9&c=~!$'()*+,;:@", "headers": {"X_!#$%&'*+.^`|~-1": "\u00e9"}}},
        {"shared_paths": ["two words", "gr\u00f6\u00dfe/\u00fc", "a+b@c,d"]},
        {"static": [{"url": "/gr\u00f6\u00dfe/", "path": "./gr\u00f6\u00dfe/"}]},
        {"domains": ["a." * 126 + "a"]},
        {"tls": {"mode": "none"}, "domains": []},
        # Tabs between words.
        {"uwsgi": {"log-format": "%(addr)\t%(uri)"}, "unit": {"ReadWritePaths": "/a\t/b"}},
        {"nginx": {"directives": {"gzip_types": "text/css\ttext/xml"}, "headers": {"X-A": "a;\tb"}}},
        {"mod_wsgi": {"ErrorDocument": "404\t/404"}, "health": {"headers": {"X-A": "a;\tb"}}},
        {"container": {"label": None, "dns": ["192.0.2.1"], "init": True, "memory-swappiness": 5}},
    ],
)
def test_what_is_allowed(change: dict[str, Any]) -> None:
    assert resolve([{**SHOP, **change}])


#: What may have several lines: it is quoted, or it is for a shell, or raw by its purpose.
LINES = """
env secrets gunicorn checks.tests release_commands[] hooks.before_stage[] hooks.after_stage[] hooks.before_live[]
hooks.after_live[] hooks.on_failure[] nginx.snippets[] nginx.snippets
""".split()


def _texts(fields: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Every place of an app that takes a text: its path, and a function that makes the app's keys of a text."""
    for name, field in fields.items():
        yield from _texts_of(field, f"{prefix}{name}", lambda value, name=name: {name: value})


def _texts_of(field: Field, path: str, put: Callable[[Any], Any]) -> Iterator[tuple[str, Callable[[str], Any]]]:
    kinds = field.kind.split("|")
    if {"str", "scalar"} & set(kinds):
        yield path, put
    if "list" in kinds:
        yield from _texts_of(field.items or Field("scalar", ""), f"{path}[]", lambda value: put([value]))
    if field.fields:
        for name, inner in field.fields.items():
            yield from _texts_of(inner, f"{path}.{name}", lambda value, name=name: put({name: value}))
    elif "dict" in kinds:
        yield from _texts_of(field.values or Field("scalar", ""), path, lambda value: put({"A": value}))
        yield from _texts_of(
            field.values or Field("scalar", ""), f"{path} (deep)", lambda value: put({"A": [{"b": value}]})
        )


@pytest.mark.parametrize("character", ["\n", "\r", "\x85", "\u2028", "\x1b", "\0"])
def test_no_text_has_a_line_break_that_is_not_said_to_have_some(character: str) -> None:
    """A key that comes later is safe too, unless it says otherwise."""
    places = dict(_texts(APP))
    assert len(places) > 40
    for path, put in places.items():
        found = check(SCHEMA, {**SHOP, **put(f"a{character}b")}, "x")[1]
        if character != "\0" and path in LINES:
            assert not [error for error in found if "line" in error or "control" in error], path
        else:
            assert found, path
            assert character not in "".join(found), path


def test_lines_where_they_are_wanted() -> None:
    given: dict[str, Any] = {
        "env": {"A": "a\nb\r\n"},
        "secrets": {"KEY": "-----BEGIN\n-----END\n"},
        "gunicorn": {"access_log_format": "a\tb", "raw_env": ["A=1\n"], "logconfig_dict": {"a": {"b": ["c\nd"]}}},
        "release_commands": ["set -e\nflask db upgrade\n"],
        "hooks": {"after_live": ["a\nb"]},
        "checks": {"tests": "a\nb\n"},
        "nginx": {"snippets": "location /a {\n}\n", "directives": {"a": "b c"}},
    }
    app = resolve([{**SHOP, **given}])[0]
    assert {key: app[key] for key in ("env", "secrets", "gunicorn", "release_commands")} == {
        key: given[key] for key in ("env", "secrets", "gunicorn", "release_commands")
    }
    assert resolve([{**SHOP, "nginx": {"snippets": ["a;\n", "b;\n"]}}])


def test_variables_are_text() -> None:
    app = resolve([{**SHOP, "env": {"A": True, "B": False, "C": 1, "D": 1.5, "E": "x"}, "secrets": {"F": 2}}])[0]
    assert app["env"] == {"A": "true", "B": "false", "C": "1", "D": "1.5", "E": "x"}
    assert app["secrets"] == {"F": "2"}
