# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The nginx sites of a host: their keys, their rules, and the variables of the templates."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.nginx.certificates import SELF_SIGNED
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import SITES
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import is_address
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import (
    Field,
    Schema,
    SchemaError,
    check_list,
    unwritable,
    used_twice,
)

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


def _check_upstream(value: str) -> str | None:
    if re.fullmatch(_SERVER, value):
        return None
    hint = " (without a scheme)" if "://" in value else ""
    return f"expected unix:/PATH or HOST:PORT{hint}, optionally followed by nginx's parameters of a server"


def _check_server_name(value: str) -> str | None:
    """Return what is wrong with a host name, a wildcard at either end, an IP address, or ``~`` and a regular expression."""
    if value.startswith("~"):
        return (
            "expected a regular expression without quotes, spaces and line breaks"
            if re.search(r"[\s\"';]", value)
            else None
        )
    if re.fullmatch(_HOST_NAME, value) or is_address(value.strip("[]")):
        return None
    try:
        ascii_name = value.encode("idna").decode()
    except UnicodeError:
        ascii_name = value
    if ascii_name != value and re.fullmatch(_HOST_NAME, ascii_name):
        return f"expected the name as browsers send it: {ascii_name}"
    return "expected a host name, *.NAME, an address, or ~ and a regular expression"


def check_path(value: str) -> str | None:
    """Return what is wrong with a path that is rendered without quotes."""
    if not value.startswith("/") or ".." in value.split("/"):
        return "expected an absolute path without .."
    return (
        "expected a path without spaces, quotes and any of $ ; { } \\" if re.search(r"[\s\"'$;{}\\]", value) else None
    )


def _check_headers(value: Mapping[str, Any]) -> str | None:
    for key, item in value.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", str(key)):
            return "expected names of headers, made of letters, digits and hyphens"
        if item is not None and not isinstance(item, (str, int, float, bool)):
            return f"expected a string for {key}, or nothing to leave the header out"
        if isinstance(item, str) and unwritable(item):
            return f"expected one line for {key}, without control characters"
    return None


def check_directives(value: Any) -> str | None:
    """Return what is wrong with nginx directives: a name takes a scalar, a list (repeats it), a dict (a block) or nothing."""
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
            wrong = check_directives(item)
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
    "default": Field(
        "bool",
        "Make this the default server: it answers for host names that no other site has. Default: true if it has no names itself.",
    ),
    "headers": Field(
        "dict",
        "Response headers, in addition to `nginx_headers`. The app's own headers win. Null removes one.",
        default={},
        rule=_check_headers,
    ),
    "upstream_headers": Field(
        "dict",
        "Request headers to send to the app, in addition to `X-Forwarded-*` and the like. Null removes one.",
        default={},
        rule=_check_headers,
    ),
    "client_max_body_size": Field(
        "int|str",
        "Largest request body: bytes, or a number with k, m or g. Larger requests get 413. Default: that of `nginx_http`, `20m`.",
        pattern=_SIZE,
        minimum=0,
    ),
    "timeouts": Field(
        "dict",
        "Time limits for the app, in seconds or with a unit (`30s`, `2m`). An app that is slower gets its visitors a 504.",
        default={},
        fields={
            "connect": Field("int|str", "Time to wait for the app to accept a connection.", pattern=_TIME, minimum=1),
            "send": Field("int|str", "Time to wait between two writes of the request.", pattern=_TIME, minimum=1),
            "read": Field("int|str", "Time to wait between two reads of the response.", pattern=_TIME, minimum=1),
        },
    ),
    "rate_limit": Field(
        "dict",
        "Limit the requests of one client to the app. Static files are not counted.",
        fields={
            "rate": Field("str", "Requests allowed, such as `10r/s` or `60r/m`.", required=True, pattern=r"\d+r/[sm]"),
            "burst": Field(
                "int", "Number of requests above the rate that are accepted at once.", default=20, minimum=0
            ),
            "status": Field(
                "int", "Status code returned to clients over the limit.", default=429, minimum=400, maximum=599
            ),
            "key": Field(
                "str",
                "nginx variable that identifies a client.",
                default="$binary_remote_addr",
                pattern=r"[^\s;{}\"']+",
            ),
        },
    ),
    "snippets": Field(
        "str|list",
        "Raw nginx configuration to put into the server block, such as more locations.",
        default=[],
        items=Field("str", "Text.", multiline=True),
        multiline=True,
    ),
    "directives": Field(
        "dict",
        "Directives for the server block, by nginx's names: a value, a list (repeats it) or a dict (a block).",
        default={},
        rule=check_directives,
    ),
    "redirect_to_canonical": Field("bool", "Redirect all other host names to the first.", default=False),
}

SITE_FIELDS: dict[str, Field] = {
    "name": Field(
        "str", "Name of the site and its files.", required=True, pattern=r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
    ),
    "state": Field(
        "str", "Whether the site exists. `absent` removes its files.", default="present", choices=("present", "absent")
    ),
    "server_names": Field(
        "list",
        "Host names of the site; the first is the canonical one.",
        default=[],
        items=Field("str", "A host.", rule=_check_server_name),
    ),
    "upstream": Field(
        "str|list",
        "Address of the application, `unix:/PATH` or `HOST:PORT`, or a list of addresses.",
        rule=_each(_check_upstream),
    ),
    "upstream_protocol": Field(
        "str", "Protocol that the application speaks.", default="http", choices=("http", "uwsgi")
    ),
    "static": Field(
        "list",
        "Directories that nginx serves without asking the application.",
        default=[],
        items=Field(
            "dict",
            "Directories and their URL.",
            fields={
                "url": Field(
                    "str", "URL path below which the files are served.", required=True, pattern=r"/[^\s{};\"'$\\]*"
                ),
                "paths": Field(
                    "list",
                    "Directories on the host. The first that has the file wins.",
                    required=True,
                    items=Field("str", "A directory.", rule=check_path),
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
                    rule=check_path,
                ),
            },
        ),
    ),
    "tls": Field(
        "dict",
        "Source of the certificate.",
        default={},
        fields={
            "mode": Field(
                "str",
                "`self_signed`: made on the host. `files`: `certificate` and `key`. `none`: no HTTPS.",
                default="self_signed",
                choices=("self_signed", "files", "none"),
            ),
            "certificate": Field("str", "Path of the certificate chain on the host.", rule=check_path),
            "key": Field("str", "Path of the private key on the host.", rule=check_path),
            "redirect": Field("bool", "Redirect HTTP to HTTPS.", default=True),
        },
    ),
    **NGINX_OPTIONS,
}


def _check_tls(site: Mapping[str, Any], path: str) -> list[str]:
    tls = site["tls"]
    if tls["mode"] == "files":
        return [
            f"{path}.tls.{key}: missing, expected a path on the host" for key in ("certificate", "key") if not tls[key]
        ]
    return [f"{path}.tls.{key}: only allowed with mode: files" for key in ("certificate", "key") if tls[key]]


def _check_content(site: Mapping[str, Any], path: str) -> list[str]:
    if site["state"] == "absent":
        return []
    errors = []
    if not any(site[key] for key in ("upstream", "static", "snippets", "directives")):
        errors.append(f"{path}.upstream: missing, expected unix:/PATH or HOST:PORT (or static, snippets or directives)")
    if site["default"] is False and not site["server_names"]:
        errors.append(f"{path}.server_names: missing, expected at least one because default is false")
    if site["redirect_to_canonical"] and not (
        site["server_names"] and re.fullmatch(r"[A-Za-z0-9.-]+", site["server_names"][0])
    ):
        errors.append(f"{path}.server_names[0]: expected a plain host name to redirect to")
    urls: set[str] = set()
    for index, entry in enumerate(site["static"]):
        url = entry["url"].rstrip("/")
        if not entry["paths"]:
            errors.append(f"{path}.static[{index}].paths: expected at least one directory")
        if url in urls:
            errors.append(f"{path}.static[{index}].url: used by an earlier entry too")
        if not url and site["upstream"]:
            errors.append(f"{path}.static[{index}].url: / belongs to the upstream, expected a path below it")
        if entry["symlinks_from"]:
            errors += _check_symlinks_from(entry, f"{path}.static[{index}]")
        urls.add(url)
    return errors


def _check_symlinks_from(entry: Mapping[str, Any], path: str) -> list[str]:
    if entry["symlinks"] == "follow":
        return [f"{path}.symlinks_from: only allowed with symlinks: owner or none"]
    # If the path is the directory itself, nginx checks no links at all.
    start = entry["symlinks_from"].rstrip("/") + "/"
    return [
        f"{path}.paths[{index}]: expected a path below symlinks_from"
        for index, directory in enumerate(entry["paths"])
        if not directory.rstrip("/").startswith(start)
    ]


SITE = Schema(
    SITE_FIELDS,
    rules=(_check_tls, _check_content),
    retired={"domains": "server_names", "proxy_pass": "upstream", "protocol": "upstream_protocol"},
)


class SitesError(SchemaError):
    """The sites have errors."""

    where = "the sites"


def resolve_sites(raw: Any, path: str = "nginx_sites") -> list[dict[str, Any]]:
    """Check the sites and add everything that the templates need.

    A site gets the defaults of its keys, and: ``slug`` (its name as part of a variable's name), ``file`` (its path below
    the configuration directory), ``default`` (true or false), with HTTPS ``certificate`` and ``key`` (paths for nginx), and
    with a self-signed certificate ``certificate_names``. Each entry of ``static`` gets ``disable_symlinks``, the directive's
    value.

    :raises SitesError: with all errors of all sites.
    """
    sites, errors = check_list(SITE, raw, path, "sites", _find_conflicts)
    if errors:
        raise SitesError(errors)
    return [_complete(site) for site in sites]


#: Headers that the role sets: a site may write them in another case.
_OWN_HEADERS = {
    name.lower(): name
    for name in """
    Connection Forwarded Host Proxy Referrer-Policy Strict-Transport-Security Upgrade X-Content-Type-Options
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto X-Forwarded-Protocol
    X-Forwarded-Scheme X-Forwarded-Ssl X-Frame-Options X-Real-IP X-Request-ID X-Scheme
    """.split()
}


def _complete(site: dict[str, Any]) -> dict[str, Any]:
    """Add to a checked site what the templates need."""
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
    """Return the value of nginx's ``disable_symlinks``; None if all links are followed."""
    if symlinks == "follow":
        return None
    value = {"owner": "if_not_owner", "none": "on"}[symlinks]
    return f"{value} from={start.rstrip('/')}" if start and start.rstrip("/") else value


def _is_default(site: Mapping[str, Any]) -> bool:
    """Whether a site is the default server: if it is set, or if the site has no host names."""
    return bool(site.get("default")) or (site.get("default") is None and site.get("server_names") == [])


def _find_conflicts(sites: Sequence[Mapping[str, Any]], path: str) -> list[str]:
    errors = [
        f"{path}[{index}].{where}: already used by {path}[{first}] ({sites[first].get('name')})"
        for index, where, first in used_twice(map(_list_uses, sites))
    ]
    defaults = [index for index, site in enumerate(sites) if site.get("state") == "present" and _is_default(site)]
    errors += [
        f"{path}[{index}] ({sites[index].get('name')}): is a default server, as {path}[{defaults[0]}] "
        f"({sites[defaults[0]].get('name')}) is; give one of them server_names"
        for index in defaults[1:]
    ]
    return errors


def _list_uses(site: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what only one site may use."""
    if isinstance(site.get("name"), str):
        yield "name", "name", slug(site["name"])
    names = site.get("server_names")
    for position, name in enumerate(names if isinstance(names, list) and site.get("state") == "present" else []):
        if isinstance(name, str):
            yield "host", f"server_names[{position}]", name.lower()


def slug(name: str) -> str:
    """Return a site's name as part of the name of an nginx variable."""
    return re.sub(r"[^a-z0-9]", "_", name)


def certificate_names(server_names: Sequence[str]) -> list[str]:
    """Return those of nginx's server names that a certificate can hold: host names, leftmost wildcards, addresses.

    If there are none, the host uses its own name.
    """
    names: list[str] = []
    for name in server_names:
        bare = name.strip("[]")
        if name.startswith("~") or name.endswith(".*") or name == "_":
            continue
        if is_address(bare):
            names.append(str(ipaddress.ip_address(bare)))
        elif name.startswith("."):
            names += [name[1:].lower(), f"*{name.lower()}"]
        else:
            names.append(name.lower())
    return list(dict.fromkeys(names))
