# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role nginx knows: the keys of a site, the sites of an app, and how a configuration is tried before it is used.

The first half runs on the controller and is pure. The second half runs on the host: it copies the configuration beside
itself, overlays what would change, lets nginx judge the copy, and only then replaces files, each with one rename.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import posixpath
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.lock import root_directory
from ansible_collections.flaskops.server.plugins.module_utils.schema import Field, Schema, check, unwritable
from ansible_collections.flaskops.server.plugins.module_utils.shared import outermost

#: What every file of ours carries, so that nobody's own file is ever overwritten or removed.
MARK = "Managed by Ansible: flaskops.server.nginx"

#: Where the sites are, below nginx's configuration directory.
SITES = "sites-enabled"

#: Where the certificates that the host makes for itself are, below nginx's configuration directory.
SELF_SIGNED = "self-signed"

# --- The keys of a site ------------------------------------------------------------------------------------------------

_SERVER = r"(unix:/[^\s;{}\"'$]+|\[[0-9A-Fa-f:.]+\]:\d{1,5}|[A-Za-z0-9_.-]+:\d{1,5})( [a-z_]+(=[^\s;{}\"']+)?)*"
_HOST_NAME = r"(\*\.|\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*(\.\*)?"
_TIME = r"\d+(ms|s|m|h|d)?"
_SIZE = r"\d+[kKmMgG]?"


def _each(check_one: Callable[[str], str | None]) -> Callable[[Any], str | None]:
    """Return a rule for a string or a list of strings."""

    def rule(value: Any) -> str | None:
        for item in [value] if isinstance(value, str) else value:
            wrong = check_one(item) if isinstance(item, str) else "expected a string or a list of strings"
            if wrong:
                return wrong
        return None

    return rule


def _upstream(value: str) -> str | None:
    if re.fullmatch(_SERVER, value):
        return None
    hint = " (without a scheme)" if "://" in value else ""
    return f"expected unix:/PATH or HOST:PORT{hint}, optionally followed by nginx's parameters of a server"


def _server_name(value: str) -> str | None:
    """Host names, wildcards at either end, IP addresses, and ``~`` with a regular expression, as nginx takes them."""
    if value.startswith("~"):
        return (
            "expected a regular expression without quotes, spaces and line breaks"
            if re.search(r"[\s\"';]", value)
            else None
        )
    if re.fullmatch(_HOST_NAME, value) or _is_address(value.strip("[]")):
        return None
    try:
        ascii_name = value.encode("idna").decode()
    except UnicodeError:
        ascii_name = value
    if ascii_name != value and re.fullmatch(_HOST_NAME, ascii_name):
        return f"expected the name as browsers send it: {ascii_name}"
    return "expected a host name, *.NAME, an address, or ~ and a regular expression"


def _plain_path(value: str) -> str | None:
    if not value.startswith("/") or ".." in value.split("/"):
        return "expected an absolute path without .."
    return (
        "expected a path without spaces, quotes and any of $ ; { } \\" if re.search(r"[\s\"'$;{}\\]", value) else None
    )


def _scalars_or_null(value: Mapping[str, Any]) -> str | None:
    for key, item in value.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", str(key)):
            return "expected names of headers, made of letters, digits and hyphens"
        if item is not None and not isinstance(item, (str, int, float, bool)):
            return f"expected a string for {key}, or nothing to leave the header out"
        if isinstance(item, str) and unwritable(item):
            return f"expected one line for {key}, without control characters"
    return None


def directive_mistake(value: Any) -> str | None:
    """Say what keeps a dict from being nginx directives: a name takes a scalar, a list (repeated), a dict (a block) or nothing."""
    if not isinstance(value, Mapping):
        return "expected a dictionary of nginx directives"
    for name, item in value.items():
        if not isinstance(name, str) or not name.strip() or unwritable(name):
            return "expected names of nginx directives"
        if any(
            isinstance(one, str) and unwritable(one) for one in (item if isinstance(item, (list, tuple)) else [item])
        ):
            return f"expected one line for {name}, without control characters; several lines go in snippets"
        if isinstance(item, Mapping):
            wrong = directive_mistake(item)
            if wrong:
                return wrong
        elif isinstance(item, (list, tuple)):
            if any(isinstance(one, (list, tuple, Mapping)) or one is None for one in item):
                return f"expected a list of plain values for {name}"
        elif item is not None and not isinstance(item, (str, int, float, bool)):
            return f"expected a value, a list or a dictionary for {name}"
    return None


#: What a site and an app's ``nginx`` have in common.
NGINX_OPTIONS: dict[str, Field] = {
    "default": Field("bool", "Answers for hosts that no other site names. Default: true where it has no names itself."),
    "headers": Field(
        "dict",
        "Headers of the answer, over `nginx_headers`; the application's own of that name win. Null leaves one out.",
        default={},
        rule=_scalars_or_null,
    ),
    "upstream_headers": Field(
        "dict",
        "Headers of the request to the application, over the forwarded ones. Null leaves one out.",
        default={},
        rule=_scalars_or_null,
    ),
    "client_max_body_size": Field(
        "int|str", "The largest request body: a number of bytes, or with k, m, g.", pattern=_SIZE, minimum=0
    ),
    "timeouts": Field(
        "dict",
        "How long the application may take to accept, to take in, and to go on with an answer: seconds, or with a unit.",
        default={},
        fields={
            "connect": Field("int|str", "Until it accepts.", pattern=_TIME, minimum=1),
            "send": Field("int|str", "Between two parts of the request.", pattern=_TIME, minimum=1),
            "read": Field("int|str", "Between two parts of the answer.", pattern=_TIME, minimum=1),
        },
    ),
    "rate_limit": Field(
        "dict",
        "Requests that one client may make to the application; static files are not counted.",
        fields={
            "rate": Field("str", "Such as `10r/s` or `60r/m`.", required=True, pattern=r"\d+r/[sm]"),
            "burst": Field("int", "How many more are let through at once.", default=20, minimum=0),
            "status": Field("int", "The answer to what is too much.", default=429, minimum=400, maximum=599),
            "key": Field("str", "What a client is.", default="$binary_remote_addr", pattern=r"[^\s;{}\"']+"),
        },
    ),
    "snippets": Field(
        "str|list",
        "Raw nginx configuration for the server block, such as further locations.",
        default=[],
        items=Field("str", "Text.", multiline=True),
        multiline=True,
    ),
    "directives": Field(
        "dict",
        "Any directive of a server block: a value, a list (repeated) or a dict (a block).",
        default={},
        rule=directive_mistake,
    ),
    "redirect_to_canonical": Field("bool", "Redirect every other name to the first.", default=False),
}

SITE_FIELDS: dict[str, Field] = {
    "name": Field(
        "str", "What its files are called after.", required=True, pattern=r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
    ),
    "state": Field("str", "Absent removes the site.", default="present", choices=("present", "absent")),
    "server_names": Field(
        "list",
        "The hosts it answers for, the first is canonical.",
        default=[],
        items=Field("str", "A host.", rule=_server_name),
    ),
    "upstream": Field("str|list", "The application: `unix:/PATH` or `HOST:PORT`, or several.", rule=_each(_upstream)),
    "upstream_protocol": Field("str", "What the application speaks.", default="http", choices=("http", "uwsgi")),
    "static": Field(
        "list",
        "Files that nginx serves itself.",
        default=[],
        items=Field(
            "dict",
            "A place.",
            fields={
                "url": Field("str", "Where visitors find them.", required=True, pattern=r"/[^\s{};\"'$\\]*"),
                "paths": Field(
                    "list",
                    "Directories on the host, tried in this order.",
                    required=True,
                    items=Field("str", "A directory.", rule=_plain_path),
                ),
                "expires": Field(
                    "str",
                    "How long browsers may keep them (nginx's `expires`).",
                    pattern=r"-?\d+[smhdwMy]?|max|off|epoch",
                ),
                "symlinks": Field(
                    "str",
                    "Which symlinks are followed: all of them (`follow`), those that belong to the owner of what they "
                    "lead to (`owner`), or `none`.",
                    default="follow",
                    choices=("follow", "owner", "none"),
                ),
                "symlinks_from": Field(
                    "str",
                    "With `owner` and `none`: a directory above `paths`. Links on the way to it, and itself, are followed.",
                    rule=_plain_path,
                ),
            },
        ),
    ),
    "tls": Field(
        "dict",
        "Where the certificate comes from.",
        default={},
        fields={
            "mode": Field(
                "str",
                "`self_signed`: made on the host. `files`: `certificate` and `key`. `none`: no HTTPS.",
                default="self_signed",
                choices=("self_signed", "files", "none"),
            ),
            "certificate": Field("str", "The chain, a path on the host.", rule=_plain_path),
            "key": Field("str", "The key, a path on the host.", rule=_plain_path),
            "redirect": Field("bool", "Redirect HTTP to HTTPS.", default=True),
        },
    ),
    **NGINX_OPTIONS,
}


def _tls(site: Mapping[str, Any], path: str) -> list[str]:
    tls = site["tls"]
    if tls["mode"] == "files":
        return [
            f"{path}.tls.{key}: missing, expected a path on the host" for key in ("certificate", "key") if not tls[key]
        ]
    return [f"{path}.tls.{key}: goes with mode files" for key in ("certificate", "key") if tls[key]]


def _serves(site: Mapping[str, Any], path: str) -> list[str]:
    if site["state"] == "absent":
        return []
    mistakes = []
    if not any(site[key] for key in ("upstream", "static", "snippets", "directives")):
        mistakes.append(
            f"{path}.upstream: missing, expected unix:/PATH or HOST:PORT (or static, snippets or directives)"
        )
    if site["default"] is False and not site["server_names"]:
        mistakes.append(f"{path}.server_names: missing, expected at least one because default is false")
    if site["redirect_to_canonical"] and not (
        site["server_names"] and re.fullmatch(r"[A-Za-z0-9.-]+", site["server_names"][0])
    ):
        mistakes.append(f"{path}.server_names[0]: expected a plain host name to redirect to")
    urls: set[str] = set()
    for index, entry in enumerate(site["static"]):
        url = entry["url"].rstrip("/")
        if not entry["paths"]:
            mistakes.append(f"{path}.static[{index}].paths: expected at least one directory")
        if url in urls:
            mistakes.append(f"{path}.static[{index}].url: is there twice")
        if not url and site["upstream"]:
            mistakes.append(f"{path}.static[{index}].url: / belongs to the upstream, expected a path below it")
        if entry["symlinks_from"]:
            mistakes += _links_from(entry, f"{path}.static[{index}]")
        urls.add(url)
    return mistakes


def _links_from(entry: Mapping[str, Any], path: str) -> list[str]:
    if entry["symlinks"] == "follow":
        return [f"{path}.symlinks_from: goes with symlinks owner or none"]
    # Of a path that is the directory itself, nginx looks at no link at all.
    start = entry["symlinks_from"].rstrip("/") + "/"
    return [
        f"{path}.paths[{index}]: expected a path below symlinks_from"
        for index, one in enumerate(entry["paths"])
        if not one.rstrip("/").startswith(start)
    ]


SITE = Schema(
    SITE_FIELDS,
    rules=(_tls, _serves),
    retired={"domains": "server_names", "proxy_pass": "upstream", "protocol": "upstream_protocol"},
)


class SitesError(Exception):
    """The sites are wrong; the message lists every mistake with its path."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(
            f"{count} in the sites, nothing was touched:\n" + "\n".join(f"  - {one}" for one in self.mistakes)
        )


def resolve_sites(given: Any, path: str = "nginx_sites") -> list[dict[str, Any]]:
    """Check the sites and give the templates all they need.

    Beside the keys of a site with their defaults, each has ``slug`` (its name as part of a variable's name), ``file``
    (below the configuration directory), ``default`` (decided), and, with HTTPS, ``certificate`` and ``key`` (as nginx is
    told them) and for the self-signed ``certificate_names``. Each of ``static`` has ``disable_symlinks`` as nginx is told it.

    :raises SitesError: with all mistakes of all sites.
    """
    if not isinstance(given, (list, tuple)):
        raise SitesError([f"{path}: expected a list of sites"])
    sites: list[dict[str, Any]] = []
    mistakes: list[str] = []
    for index, item in enumerate(given):
        site, wrong = check(SITE, item, f"{path}[{index}]")
        mistakes += wrong
        sites.append(site)
    mistakes += _between(sites, path)
    if mistakes:
        raise SitesError(mistakes)
    return [_complete(site) for site in sites]


#: Headers that the role sets itself: a site that writes one in another case means the same one.
_OWN_HEADERS = {
    name.lower(): name
    for name in """
    Connection Forwarded Host Proxy Referrer-Policy Strict-Transport-Security Upgrade X-Content-Type-Options
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto X-Forwarded-Protocol
    X-Forwarded-Scheme X-Forwarded-Ssl X-Frame-Options X-Real-IP X-Request-ID X-Scheme
    """.split()
}


def _complete(site: dict[str, Any]) -> dict[str, Any]:
    site["slug"] = slug(site["name"])
    site["file"] = f"{SITES}/{site['name']}.conf"
    site["default"] = _is_default(site)
    for key in ("upstream", "snippets"):
        site[key] = [site[key]] if isinstance(site[key], str) else site[key] or []
    for key in ("headers", "upstream_headers"):
        site[key] = {_OWN_HEADERS.get(name.lower(), name): value for name, value in site[key].items()}
    for entry in site["static"]:
        entry["disable_symlinks"] = _disable_symlinks(entry["symlinks"], entry["symlinks_from"])
    site["certificate"] = site["key"] = None
    site["certificate_names"] = []
    if site["tls"]["mode"] == "files":
        site["certificate"], site["key"] = site["tls"]["certificate"], site["tls"]["key"]
    elif site["tls"]["mode"] == "self_signed":
        site["certificate"] = f"{SELF_SIGNED}/{site['name']}.crt"
        site["key"] = f"{SELF_SIGNED}/{site['name']}.key"
        site["certificate_names"] = certificate_names(site["server_names"])
    return site


def _disable_symlinks(symlinks: str, start: str | None) -> str | None:
    """Return the value of nginx's ``disable_symlinks``, None where all links are followed."""
    if symlinks == "follow":
        return None
    value = {"owner": "if_not_owner", "none": "on"}[symlinks]
    return f"{value} from={start.rstrip('/')}" if start and start.rstrip("/") else value


def _is_default(site: Mapping[str, Any]) -> bool:
    """A site is the default server where it says so, and where it names no host."""
    return bool(site.get("default")) or (site.get("default") is None and site.get("server_names") == [])


def _between(sites: Sequence[Mapping[str, Any]], path: str) -> list[str]:
    mistakes = []
    seen: dict[tuple[str, str], int] = {}
    defaults = []
    for index, site in enumerate(sites):
        keys = []
        if isinstance(site.get("name"), str):
            keys.append(("name", "name", slug(site["name"])))
        if site.get("state") == "present":
            names = site.get("server_names")
            names = names if isinstance(names, list) else []
            keys += [
                ("host", f"server_names[{position}]", name.lower())
                for position, name in enumerate(names)
                if isinstance(name, str)
            ]
            if _is_default(site):
                defaults.append(index)
        for kind, where, value in keys:
            first = seen.setdefault((kind, value), index)
            if first != index:
                other = sites[first].get("name")
                mistakes.append(f"{path}[{index}].{where}: used by {path}[{first}] ({other}) too")
    mistakes += [
        f"{path}[{index}] ({sites[index].get('name')}): is a default server, as {path}[{defaults[0]}] "
        f"({sites[defaults[0]].get('name')}) is; give one of them server_names"
        for index in defaults[1:]
    ]
    return mistakes


def slug(name: str) -> str:
    """Return a site's name as part of the name of an nginx variable."""
    return re.sub(r"[^a-z0-9]", "_", name)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def certificate_names(server_names: Sequence[str]) -> list[str]:
    """Return what a certificate can say of nginx's server names: host names, leftmost wildcards, addresses.

    Empty where there is nothing to say: the host then puts its own name in.
    """
    names: list[str] = []
    for name in server_names:
        bare = name.strip("[]")
        if name.startswith("~") or name.endswith(".*") or name == "_":
            continue
        if _is_address(bare):
            names.append(str(ipaddress.ip_address(bare)))
        elif name.startswith("."):
            names += [name[1:].lower(), f"*{name.lower()}"]
        else:
            names.append(name.lower())
    return list(dict.fromkeys(names))


# --- The sites of apps -------------------------------------------------------------------------------------------------


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
    # What is added stands behind: a mistake is told by the place in the inventory.
    found, added = [], []
    for entry, url in zip(given, urls, strict=True):
        path = posixpath.normpath(entry["path"].strip("/"))
        common = {"url": entry["url"], "expires": entry.get("expires")}
        if any(_is_below(path, one) for one in outer):
            found.append(_shared(path, home, common))
            continue
        below = posixpath.normpath(f"app/{path}")
        paths = [f"{home}/live/{below}", f"{home}/live/bridge/{below}", f"{home}/live/bridge/bridge/{below}"]
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
    wrong = _plain_path(f"/{path}")
    if wrong:
        raise SitesError([f"flask_apps: {path!r} is in a shared path and served as {common['url']}: {wrong}"])
    shared = f"{home}/shared"
    return _given({**common, "paths": [f"{shared}/{path}"], "symlinks": "none", "symlinks_from": shared})


def _is_below(path: str, other: str) -> bool:
    """Say whether a normalised path is another one, or lies below it."""
    return other == "." or path == other or path.startswith(f"{other}/")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


# --- On the host: the text ---------------------------------------------------------------------------------------------

_CONDITION = re.compile(r"[ \t]*#:((?: (?:nginx(?:<|>=)[0-9.]+|ipv6))+)[ \t]*$")


def version_of(text: str) -> tuple[int, ...] | None:
    """Return the first dotted number of a text (``nginx version: nginx/1.22.1``), as numbers."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else None


def for_host(text: str, version: tuple[int, ...] | None, ipv6: bool) -> str:
    """Keep the lines that this host's nginx can take.

    A line that ends in ``#: nginx>=1.25.1``, ``#: nginx<1.25.1`` or ``#: ipv6`` (or several of them) stays, without that
    mark, only where all of it holds. An unknown version counts as newer than any.
    """

    def holds(condition: str) -> bool:
        if condition == "ipv6":
            return ipv6
        operator, number = re.fullmatch(r"nginx(<|>=)(.*)", condition).groups()  # type: ignore[union-attr]
        newer = version is None or version >= tuple(int(part) for part in number.split("."))
        return newer if operator == ">=" else not newer

    lines = []
    for line in text.splitlines():
        found = _CONDITION.search(line)
        if found is None:
            lines.append(line)
        elif all(holds(condition) for condition in found.group(1).split()):
            lines.append(line[: found.start()])
    return "\n".join(lines) + "\n" if lines else ""


def explain(output: str, candidate: str, root: str, context: int = 2) -> str:
    """Return nginx's message as it would read about the real directory, with the lines that it complains about."""
    message = output.replace(candidate, root).strip()
    shown = []
    for path, number in dict.fromkeys(re.findall(r" in (\S+):(\d+)\s*$", output, re.MULTILINE)):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        at = int(number)
        first = max(1, at - context)
        shown.append(f"{path.replace(candidate, root)}:")
        shown += [
            f"{'>' if index == at else ' '} {index:4} {line}"
            for index, line in enumerate(lines[first - 1 : at + context], start=first)
        ]
    return "\n".join([message, *shown])


# --- On the host: certificates -----------------------------------------------------------------------------------------

#: A self-signed certificate is made anew when it has less than this left, in seconds.
RENEW_BEFORE = 30 * 24 * 3600


@dataclass(frozen=True)
class SelfSigned:
    """A certificate that the host makes for itself.

    :param certificate: its path below the configuration directory.
    :param key: the path of its key, there too.
    :param names: host names, wildcards and addresses.
    :param days: how long it is valid.
    """

    certificate: str
    key: str
    names: tuple[str, ...]
    days: int


def alternative_names(text: str) -> set[str]:
    """Return the names in the output of ``openssl x509 -ext subjectAltName``."""
    names = set()
    for kind, value in re.findall(r"(DNS|IP Address):([^,\s]+)", text):
        names.add(str(ipaddress.ip_address(value)) if kind == "IP Address" else value.lower())
    return names


def certificate_config(names: Sequence[str]) -> str:
    """Return an openssl configuration that makes a server's certificate for these names and nothing else."""
    listed = ",".join(f"IP:{name}" if _is_address(name) else f"DNS:{name}" for name in names)
    short = next((name for name in names if len(name) <= 64), "self-signed")
    return (
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = server\n"
        f"[subject]\nCN = {short}\n"
        "[server]\n"
        f"subjectAltName = {listed}\n"
        "basicConstraints = critical,CA:FALSE\n"
        "keyUsage = critical,digitalSignature\n"
        "extendedKeyUsage = serverAuth\n"
        "subjectKeyIdentifier = hash\n"
    )


def is_current(wanted: SelfSigned, root: Path, openssl: str) -> bool:
    """Say whether the host's certificate is there with its key, names what it should, and has not nearly run out."""
    certificate, key = root / wanted.certificate, root / wanted.key
    if not (certificate.is_file() and key.is_file()):
        return False
    done = subprocess.run(
        [openssl, "x509", "-in", str(certificate), "-noout", "-checkend", str(RENEW_BEFORE), "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and alternative_names(done.stdout) == set(wanted.names)


def make_certificate(wanted: SelfSigned, root: Path, openssl: str) -> None:
    """Make a certificate and its key (EC, P-256) below a directory, the key readable by its owner alone.

    :raises NginxError: with openssl's message.
    """
    certificate, key = root / wanted.certificate, root / wanted.key
    _make_directory(certificate.parent)
    for path in (certificate, key):
        path.unlink(missing_ok=True)
    # The key's file is there, closed to all others, before openssl writes into it.
    os.close(os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(certificate_config(wanted.names))
        config.flush()
        command = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-sha256",
        ]
        command += ["-days", str(wanted.days), "-config", config.name, "-keyout", str(key), "-out", str(certificate)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NginxError(f"openssl made no certificate for {', '.join(wanted.names)}: {done.stderr.strip()}")
    key.chmod(0o600)
    certificate.chmod(0o644)


# --- On the host: the change -------------------------------------------------------------------------------------------


class NginxError(Exception):
    """The configuration was not changed; the message says why."""


@dataclass(frozen=True)
class File:
    """What a file below the configuration directory should be.

    :param content: its text; None where it should not be there.
    :param mode: its permissions.
    :param owned: refuse to touch a file that does not carry our mark.
    :param backup: keep the first foreign version beside it, as ``NAME.orig``.
    :param link: with no content: remove only a symlink to this path (below the configuration directory).
    """

    path: str
    content: str | None = None
    mode: int = 0o644
    owned: bool = False
    backup: bool = False
    link: str | None = None


@dataclass
class Change:
    """One file that differs from what it should be.

    :param shown: before and after, for people; empty for keys.
    """

    path: str
    mode: int = 0o644
    content: bytes | None = None
    shown: tuple[str, str] = ("", "")
    only_mode: bool = False


def plan_files(root: Path, files: Sequence[File]) -> list[Change]:
    """Compare the files with what is on the host.

    :raises NginxError: where a file that should carry our mark is somebody else's.
    """
    changes = []
    for wanted in files:
        path = root / wanted.path
        current = _read(path)
        if wanted.content is None:
            if not os.path.lexists(path) or (wanted.link is not None and not _links_to(path, root / wanted.link)):
                continue
            if wanted.owned and MARK not in current[0]:
                continue
            changes.append(Change(wanted.path, shown=(_described(path, current[0]), "")))
            continue
        if wanted.owned and current[1] is not None and MARK not in current[0]:
            raise NginxError(
                f"{path} is there and was not written by this role: rename the site, or move the file away"
            )
        if current != (wanted.content, wanted.mode):
            changes.append(
                Change(
                    wanted.path,
                    wanted.mode,
                    wanted.content.encode(),
                    (current[0], wanted.content),
                    only_mode=current[0] == wanted.content and current[1] is not None,
                )
            )
            if (
                wanted.backup
                and current[1] is not None
                and MARK not in current[0]
                and not (root / f"{wanted.path}.orig").exists()
            ):
                changes.append(
                    Change(
                        f"{wanted.path}.orig", stat.S_IMODE(path.stat().st_mode), path.read_bytes(), ("", current[0])
                    )
                )
    return changes


def _read(path: Path) -> tuple[str, int | None]:
    """Return a regular file's text and permissions; "" and None where there is none."""
    try:
        information = path.lstat()
        if not stat.S_ISREG(information.st_mode):
            return "", None if not path.is_symlink() else -1
        return path.read_text(encoding="utf-8", errors="replace"), stat.S_IMODE(information.st_mode)
    except FileNotFoundError:
        return "", None


def _described(path: Path, text: str) -> str:
    return f"link to {os.readlink(path)}\n" if path.is_symlink() else text


def _links_to(path: Path, target: Path) -> bool:
    return path.is_symlink() and os.path.realpath(path) == os.path.realpath(target)


def plan_certificates(root: Path, certificates: Sequence[SelfSigned], openssl: str | None) -> list[SelfSigned]:
    """Return the certificates that have to be made, all of them where openssl is not there to look."""
    return [wanted for wanted in certificates if openssl is None or not is_current(wanted, root, openssl)]


def plan_modes(root: Path, certificates: Sequence[SelfSigned]) -> list[Change]:
    """Close the keys of ours that somebody has opened to others."""
    keys = [wanted.key for wanted in certificates if (root / wanted.key).is_file()]
    return [
        Change(key, 0o600, shown=(f"mode {mode:04o}\n", "mode 0600\n"), only_mode=True)
        for key in keys
        if (mode := stat.S_IMODE((root / key).stat().st_mode)) != 0o600
    ]


# --- On the host: sites that the inventory no longer has ----------------------------------------------------------------

_CLAIM = re.compile(r"(?:^|[;{}])[ \t]*(listen|server_name)[ \t]+([^;]+);", re.MULTILINE)
#: How the role redirects all of a server to one name; what people write in snippets looks different.
_REDIRECT = re.compile(r"(?<=^    location / \{\n)(        return 308 (?:\$scheme|https)://)([^$:/;\s]+)", re.MULTILINE)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Claims:
    """What a configuration answers for.

    :param names: host names as nginx compares them; ``.NAME`` stands for two.
    :param defaults: the addresses that it is the default server of, such as ``80`` and ``[::]:443``.
    """

    names: frozenset[str]
    defaults: frozenset[str]


@dataclass(frozen=True)
class Stale:
    """A site's file that has to give something up.

    :param change: what becomes of the file.
    :param names: the names that it loses, each with the file that has it now.
    :param default: the file that is the default server in its place; None where it goes on, or never was.
    :param kept: what it still answers for; empty where the file goes.
    """

    change: Change
    names: dict[str, str]
    default: str | None
    kept: tuple[str, ...]


def claims_of(text: str) -> Claims:
    """Return what a configuration answers for, told by its ``server_name`` and ``listen`` directives."""
    names: set[str] = set()
    defaults = set()
    for directive, value in _CLAIM.findall(text):
        words = [word.strip("\"'") for word in value.split()]
        if directive == "server_name":
            names.update(one for word in words if word not in ("_", "") for one in _compared(word))
        elif "default_server" in words:
            defaults.add(_address(words[0]))
    return Claims(frozenset(names), frozenset(defaults))


def _compared(name: str) -> list[str]:
    if name.startswith("~"):
        return [name]
    name = name.lower()
    return [name[1:], f"*{name}"] if name.startswith(".") else [name]


def _address(listen: str) -> str:
    return re.sub(r"^(\*|0\.0\.0\.0):", "", listen)


def without_claims(text: str, taken: Claims) -> str:
    """Take names, and the place of the default server, out of a site's file as the role writes it.

    A server that is left without both goes, and with the last one all of the file: then nothing is returned. Where the
    canonical name goes, the next one takes its place, so that nobody is redirected to a site that is another's now.
    """
    head, servers = _servers(text)
    if not servers:
        return text
    old = next((found.group(2) for server in servers if (found := _REDIRECT.search(server))), None)
    if old is not None and old.lower() in taken.names:
        servers = _with_canonical(servers, old, taken)
    kept = [server for server in (_without(server, taken) for server in servers) if server]
    return "\n\n".join([head, *kept]) + "\n" if kept else ""


def _servers(text: str) -> tuple[str, list[str]]:
    """Return what stands before the first server block, and these; their first and last lines alone are not indented."""
    parts = re.split(r"^(server \{\n.*?^\}\n?)", text, flags=re.MULTILINE | re.DOTALL)
    head = "\n\n".join(part.strip("\n") for part in parts[::2] if part.strip())
    return head, [part.strip("\n") for part in parts[1::2]]


def _names(server: str) -> list[str]:
    found = re.search(r"^    server_name (.+);$", server, re.MULTILINE)
    return found.group(1).split() if found else []


def _left(names: Sequence[str], taken: Claims) -> list[str]:
    """Return the names that are not taken; of ``.NAME`` one half can be left."""
    left = []
    for name in names:
        halves = [one for one in _compared(name) if one not in taken.names]
        left += [name] if len(halves) == len(_compared(name)) else halves
    return left


def _with_canonical(servers: Sequence[str], old: str, taken: Claims) -> list[str]:
    """Give a site whose canonical name is taken another one, of those that were redirected to it."""
    other = next(
        (one for one in servers if (found := _REDIRECT.search(one)) and found.group(1).endswith("$scheme://")), ""
    )
    left = _left(_names(other), taken)
    new = next((name for name in left if _PLAIN_NAME.fullmatch(name)), None)
    # Without a plain name to redirect to, all are served.
    own, redirected = ([new], [name for name in left if name != new]) if new else (left, [])
    result = []
    for server in servers:
        if server == other:
            if redirected:
                result.append(_REDIRECT.sub(rf"\g<1>{new}", _named(server, redirected)))
        elif _REDIRECT.search(server):
            result.append(_REDIRECT.sub(rf"\g<1>{new or '$host'}", server))
        elif [name.lower() for name in _names(server)] == [old.lower()]:
            result.append(_named(server, own or [old]))
        else:
            result.append(server)
    return result


def _without(server: str, taken: Claims) -> str:
    """Return a server block without what is taken, nothing where that was all."""
    before = claims_of(server)
    names = _names(server)
    left = _left(names, taken)
    for address in before.defaults & taken.defaults:
        found = rf"^(    listen (?:\*:|0\.0\.0\.0:)?{re.escape(address)}(?: [^;]*?)?) default_server\b"
        server = re.sub(found, r"\1", server, flags=re.MULTILINE)
    after = claims_of(server)
    if (left, after.defaults) == (names, before.defaults):
        return server
    if not [name for name in left if name != "_"] and not after.defaults:
        return ""
    return _named(server, left or ["_"])


def _named(server: str, names: Sequence[str]) -> str:
    return re.sub(
        r"^    server_name .+;$", lambda _: f"    server_name {' '.join(names)};", server, count=1, flags=re.MULTILINE
    )


def plan_stale(root: Path, files: Sequence[File]) -> list[Stale]:
    """Find the role's own files of sites that are not asked for any more and would still answer for one that is.

    What they alone answer for they keep: their application may still run. Files without our mark are not looked at.

    :param root: the configuration directory.
    :param files: all files that are asked for, and those that are to go.
    """
    claims = {wanted.path: claims_of(wanted.content) for wanted in files if wanted.content is not None}
    owners = {name: path for path, has in reversed(claims.items()) for name in has.names}
    defaults = {address: path for path, has in reversed(claims.items()) if _is_site(path) for address in has.defaults}
    taken = Claims(frozenset(owners), frozenset(defaults))
    found = []
    for path, text in _left_out(root, files):
        place = f"{SITES}/{path.name}"
        has = claims_of(text)
        lost, gone = has.names & taken.names, has.defaults & taken.defaults
        after = without_claims(text, taken) if lost or gone else text
        if after == text:
            continue
        kept = claims_of(after)
        change = Change(
            place,
            stat.S_IMODE(path.stat().st_mode),
            after.encode("utf-8", "surrogateescape") if after else None,
            (_printable(text), _printable(after)),
        )
        answers = (*sorted(kept.names), *(["hosts that no site names"] if kept.defaults else []))
        default = defaults[min(gone)] if gone else None
        found.append(Stale(change, {name: owners[name] for name in sorted(lost)}, default, answers if after else ()))
    return found


#: The servers of nginx.conf that turn away hosts which no site names; the template writes them so.
_CATCH_ALL = re.compile(
    r"\n(?:    # Hosts that no site names get no answer\.\n)?    server \{\n(?:        .*\n)+?    \}\n", re.MULTILINE
)


def without_catch_all(root: Path, files: Sequence[File]) -> list[File]:
    """Leave our own default servers out of nginx.conf where a site that is not asked for has that place.

    It may be of another inventory, or its application may still run; only another site takes the place from it.
    """
    taken = {
        address
        for file in files
        if file.content and _is_site(file.path)
        for address in claims_of(file.content).defaults
    }
    held = {address for _, text in _left_out(root, files) for address in claims_of(text).defaults} - taken

    def yields(found: re.Match[str]) -> str:
        return "" if claims_of(found.group()).defaults & held else found.group()

    return [
        file
        if file.content is None or _is_site(file.path)
        else replace(file, content=_CATCH_ALL.sub(yields, file.content))
        for file in files
    ]


def _is_site(path: str) -> bool:
    return path.startswith(f"{SITES}/")


def _left_out(root: Path, files: Sequence[File]) -> Iterator[tuple[Path, str]]:
    """Yield the role's own files of sites that are neither asked for nor to go, with their text."""
    known = {wanted.path for wanted in files}
    for path in sorted((root / SITES).glob("[!.]*")):
        if f"{SITES}/{path.name}" in known or path.is_symlink() or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if text.startswith(f"# {MARK}"):
            yield path, text


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def told(stale: Stale, root: Path, check_mode: bool = False) -> str:
    """Say what a site's file gave up, who has it now, and what to do."""
    name = Path(stale.change.path).stem
    lost: dict[str, list[str]] = {}
    for host, path in stale.names.items():
        lost.setdefault(path, []).append(host)
    if stale.default:
        lost.setdefault(stale.default, []).append("hosts that no site names")
    owners = [
        f"{_and(hosts)} (now of {f'the site {Path(path).stem}' if _is_site(path) else path})"
        for path, hosts in lost.items()
    ]
    would = "would be" if check_mode else "was"
    done = (
        f"This {would} taken out of it; it goes on answering for {_and(stale.kept)}."
        if stale.kept
        else f"It answered for nothing else and {would} removed."
    )
    return (
        f"{root / stale.change.path} belongs to the site {name}, which is no longer in nginx_sites, and still answered for "
        f"{_and(owners)}. {done} An application behind it is not stopped. To remove the old site for good, add "
        f"{{name: {name}, state: absent}} to nginx_sites."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- On the host: putting it in place ----------------------------------------------------------------------------------

CANDIDATE = ".candidate-"


#: Seconds that a run waits for another one that changes nginx's configuration.
PATIENCE = 60.0


@contextmanager
def locked(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Let one process at a time change nginx's configuration; the kernel frees the lock of one that died.

    :param path: the lock's file, in a directory of its own that nobody else can look into.
    :param patience: seconds to wait for another process.
    :raises NginxError: when they are over.
    :raises OSError: where the directory is not this user's alone.
    """
    root_directory(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        _wait_for_lock(path, descriptor, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(path: Path, descriptor: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            process = f"process {holder}" if holder.isdigit() else "another process"
            raise NginxError(
                f"{process} is changing nginx's configuration and was not done after {patience:.0f} s ({path} is its "
                "lock); nothing was changed here and nginx goes on as it is. Wait until that run has ended, or end "
                "it, and run this again"
            ) from error


def remove_leftovers(root: Path) -> None:
    """Remove what runs that were killed have left: candidate directories, and files not renamed into place yet.

    Call it with the lock held, so that nobody else's candidate is in use.
    """
    for left in root.parent.glob(f"{root.name}{CANDIDATE}*"):
        shutil.rmtree(left)
    for left in root.rglob(f".*{CANDIDATE}*"):
        left.unlink()


@contextmanager
def candidate_of(root: Path) -> Iterator[Path]:
    """Copy a configuration beside itself, where its relative links hold too, and remove the copy at the end."""
    candidate = Path(tempfile.mkdtemp(prefix=f"{root.name}{CANDIDATE}", dir=root.parent))
    try:
        shutil.copytree(root, candidate, symlinks=True, dirs_exist_ok=True, ignore=_only_plain)
        candidate.chmod(0o700)
        yield candidate
    finally:
        shutil.rmtree(candidate, ignore_errors=True)


def _only_plain(directory: str, names: list[str]) -> list[str]:
    """Name what cannot be copied: sockets, pipes and devices."""
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    return [
        name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
    ]


def overlay(candidate: Path, changes: Sequence[Change]) -> None:
    """Apply the changes to a copy, never through a link that leads out of it."""
    for change in changes:
        path = candidate / change.path
        _own_directories(candidate, path.parent)
        if change.only_mode:
            path.chmod(change.mode)
            continue
        path.unlink(missing_ok=True)
        if change.content is not None:
            _make_directory(path.parent)
            path.write_bytes(change.content)
            path.chmod(change.mode)


def _own_directories(candidate: Path, directory: Path) -> None:
    """Turn every linked directory on the way into a copy of its own."""
    for part in reversed([directory, *directory.parents]):
        if candidate in part.parents and part.is_symlink():
            target = part.resolve()
            part.unlink()
            if target.is_dir():
                shutil.copytree(target, part, symlinks=True, ignore=_only_plain)


def try_configuration(nginx: str, conf: Path) -> tuple[bool, str]:
    """Ask nginx whether it would take a configuration; returns the answer and its words."""
    done = subprocess.run([nginx, "-t", "-c", str(conf)], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def install(root: Path, changes: Sequence[Change], verify: Callable[[], str | None]) -> None:
    """Put the changes in place, one rename each; all are taken back where one fails or the result does not verify.

    :param verify: returns what is wrong with the result, None where nothing is.
    :raises NginxError: with what was wrong, after everything was taken back.
    """
    with tempfile.TemporaryDirectory(prefix=f"{root.name}{CANDIDATE}", dir=root.parent) as kept:
        undo: list[Callable[[], None]] = []
        try:
            for index, change in enumerate(changes):
                undo.append(_put(root / change.path, change, Path(kept) / str(index)))
            wrong = verify()
            if wrong:
                raise NginxError(wrong)
        except BaseException:
            for step in reversed(undo):
                step()
            raise


def _put(path: Path, change: Change, keep: Path) -> Callable[[], None]:
    """Replace or remove one file; returns what takes it back."""
    existed = os.path.lexists(path)
    if change.only_mode:
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(change.mode)
        return lambda: path.chmod(before)
    if existed:
        shutil.copy2(path, keep, follow_symlinks=False)
    if change.content is None:
        path.unlink(missing_ok=True)
    else:
        _make_directory(path.parent)
        _write(path, change.content, change.mode)

    def back() -> None:
        if existed:
            aside = path.with_name(f".{path.name}{CANDIDATE}back")
            shutil.copy2(keep, aside, follow_symlinks=False)
            os.replace(aside, path)
        else:
            path.unlink(missing_ok=True)

    return back


def _make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, open to readers whatever the umask is."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(0o755)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, whole."""
    aside = path.with_name(f".{path.name}{CANDIDATE}new")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def made_certificates(candidate: Path, wanted: Sequence[SelfSigned], openssl: str) -> list[Change]:
    """Make the certificates in the candidate and return them as changes, the key's text in none of them."""
    changes = []
    for one in wanted:
        _own_directories(candidate, (candidate / one.certificate).parent)
        make_certificate(one, candidate, openssl)
        changes.append(Change(one.key, 0o600, (candidate / one.key).read_bytes()))
        shown = f"self-signed certificate for {', '.join(one.names)}\n"
        changes.append(Change(one.certificate, 0o644, (candidate / one.certificate).read_bytes(), ("", shown)))
    return changes


# --- On the host: the reload -------------------------------------------------------------------------------------------


def workers_of(master: int, proc: Path = Path("/proc")) -> set[int]:
    """Return the worker processes of an nginx that are not on their way out."""
    workers = set()
    for process in proc.glob("[0-9]*"):
        try:
            # The name, in parentheses, can hold anything: the parent is the second field after it.
            parent = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            title = (process / "cmdline").read_bytes().decode(errors="replace") if parent == master else ""
        except (OSError, ValueError, IndexError):
            continue
        if "worker process" in title and "shutting down" not in title:
            workers.add(int(process.name))
    return workers


def wait_for_new_workers(
    master: int, old: set[int], timeout: float, gave_up: Callable[[], bool], proc: Path = Path("/proc")
) -> bool:
    """Wait (seconds) until the master runs workers that are all new; False where it keeps the old ones.

    :param gave_up: says whether the master has said that it will not have new ones.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        workers = workers_of(master, proc)
        if workers and not workers & old:
            return True
        if gave_up():
            return False
        time.sleep(0.05)
    return False


def errors_since(log: Path, size: int) -> list[str]:
    """Return the grave errors that were logged after the log had a certain size (bytes)."""
    try:
        with log.open("rb") as handle:
            handle.seek(size)
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if "[emerg]" in line]


def is_final(errors: Sequence[str]) -> bool:
    """Say whether nginx has given a configuration up: to bind an address, it tries several times."""
    return any("bind() to" not in line for line in errors)
