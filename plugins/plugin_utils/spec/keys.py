# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The keys of ``flask_apps``, their defaults, and what each takes by itself."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import NGINX_OPTIONS
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.parts import PART_KEYS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.values import COMMANDS

NAME = r"[a-z][a-z0-9-]{0,30}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
HOSTNAME = r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: A module, a colon, and a name or a call with literal arguments, as Gunicorn takes it.
WSGI = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?"

#: What stands for all apps where apps are named; no app can have this name.
ALL = "all"
#: Users and units that every Debian has, or that the collection's own parts use: an app of that name would take them over.
RESERVED_NAMES = frozenset(
    """
    apache2 autovt backup bin console-getty container-getty cron daemon dbus docker flaskops games getty gnats irc list lp mail
    man messagebus modprobe mysql news nginx nobody podman polkitd postgres postgresql proxy redis root serial-getty ssh
    sshd sync sys syslog systemd-network systemd-resolve systemd-timesync tcpdump user user-runtime-dir uucp uwsgi
    www-data
    """.split()
)

#: The most characters of a host name (RFC 1035).
LONGEST_HOST_NAME = 253


def _inside(value: str) -> str | None:
    if value.startswith("/") or ".." in value.split("/") or not value.strip("./"):
        return "expected a path below the app's directory"
    return None


def _plain_path(value: str) -> str | None:
    # A colon divides the parts of a container's volume; the others mean something to a shell, to systemd or to nginx.
    found = re.search(r"[:$`\"'\\]", value)
    return "expected a path without colons, quotes, $ and \\" if found else None


def _directive(value: Any) -> str | None:
    if isinstance(value, str) and value.rstrip().endswith("\\"):
        return "expected no backslash at its end: systemd would take the next line for a part of it"
    return None


def _host_name(value: str) -> str | None:
    if len(value) > LONGEST_HOST_NAME:
        return f"a host name has at most {LONGEST_HOST_NAME} characters"
    if re.fullmatch(HOSTNAME, value):
        return None
    words = f"expected a string matching {HOSTNAME}: letters, digits and hyphens between dots"
    try:
        sent = value.encode("idna").decode()
    except UnicodeError:
        return words
    return f"{words}; browsers send this name as {sent}" if sent != value and re.fullmatch(HOSTNAME, sent) else words


def _not_reserved(value: str) -> str | None:
    if value == ALL:
        return f"stands for all apps in '-e app={ALL}', choose another"
    return "is the name of a user or service of the system, choose another" if value in RESERVED_NAMES else None


SOURCE = {
    "path": Field(
        "str", "A directory on the controller; what git tracks or would track, else all but caches and virtualenvs."
    ),
    "git": Field("str", "A repository, fetched by the controller; servers need no git and no credentials."),
    "version": Field("str", "With `git`: a tag, a branch or a commit. Default: the repository's HEAD."),
    "archive": Field("str", "A tar or zip file, a path or a URL."),
    "checksum": Field("str", "With `archive`: `sha256:...`; required for a URL.", pattern=r"sha256:[0-9a-f]{64}"),
    "package": Field("str", "A pinned requirement from the package index, such as `httpbin[mainapp]==0.10.4`."),
    "image": Field(
        "str",
        "A container image: `registry.example.org/shop:1.4`, one by its digest, or an archive, `docker-archive:shop.tar`.",
    ),
    "subdir": Field("str", "The app's directory below the source.", rule=_inside),
    "exclude": Field("list", "Patterns of files to leave out.", default=[], items=Field("str", "A pattern.")),
}

PYTHON = {
    "interpreter": Field("str", "A path or a name found on the host.", default="/usr/bin/python3"),
    "requirements": Field(
        "str|list",
        "The file(s) to install from. Default: the first of `uv.lock`, `pylock.toml`, `requirements.txt`, `pyproject.toml`.",
        items=Field("str", "A file."),
    ),
    "extras": Field("list", "Extras of the project to install.", default=[], items=Field("str", "An extra.")),
    "require_hashes": Field("bool", "Refuse a requirement without a hash.", default=False),
    "constraints": Field("str", "A constraints file in the app."),
    "index_url": Field("str", "A package index; credentials in it are treated as a secret."),
    "find_links": Field("str", "A directory on the host, or a URL, with distributions."),
    "offline": Field("bool", "Use no index: `find_links` alone.", default=False),
    "system_packages": Field("bool", "Let the virtualenv see the distribution's Python packages.", default=False),
}

TLS = {
    "mode": Field(
        "str",
        "Where the certificate comes from.",
        default="self_signed",
        choices=("acme", "self_signed", "files", "none"),
        planned_choices=("acme",),
    ),
    "certificate": Field("str", "With `files`: the chain, a path on the host."),
    "key": Field("str", "With `files`: the key, a path on the host."),
}

#: A process can be given any text but NUL.
VARIABLES = Field("scalar", "A value.", multiline=True)
#: A value of a line in a unit file.
DIRECTIVE = Field("scalar", "A value.", rule=_directive)

APP = {
    "name": Field("str", "Unit, user, paths.", required=True, pattern=NAME, rule=_not_reserved),
    "source": Field(
        "dict",
        "Exactly one of `path`, `git` (+ `version`), `archive` (+ `checksum`), `package`, `image`; `subdir`, `exclude`.",
        required=True,
        fields=SOURCE,
    ),
    "wsgi": Field("str", "`module:callable` or a factory call; required but for `image`.", pattern=WSGI),
    "server": Field("str", "What runs the callable.", default="gunicorn", choices=tuple(SERVERS)),
    "domains": Field(
        "list",
        "Host names, the first is canonical. None: the default vhost.",
        default=[],
        items=Field("str", "A host name.", rule=_host_name),
    ),
    "python": Field("dict", "The interpreter and what is installed.", default={}, fields=PYTHON),
    "env": Field("dict", "Settings, as environment variables.", default={}, keys=VARIABLE, values=VARIABLES),
    "secrets": Field(
        "dict",
        "Settings that are never printed nor world-readable, as environment variables.",
        default={},
        keys=VARIABLE,
        values=VARIABLES,
    ),
    "shared_paths": Field(
        "list",
        "Directories of the app that are kept across releases.",
        default=["instance"],
        items=Field("str", "A relative path.", rule=lambda value: _inside(value) or _plain_path(value)),
    ),
    "static": Field(
        "list",
        "Files that nginx serves itself, those of the release before too.",
        default=[],
        items=Field(
            "dict",
            "A place.",
            fields={
                "url": Field("str", "Where.", required=True, pattern=r"/[^\s{};\"'$\\]*"),
                "path": Field("str", "A directory of the app.", required=True, rule=_inside),
            },
        ),
    ),
    "workers": Field(
        "int|str",
        "Processes; `auto`: from vCPUs, memory and cgroup limits.",
        default="auto",
        choices=("auto",),
        minimum=1,
        maximum=512,
    ),
    "threads": Field(
        "int|str", "Threads in each; `auto`: 4.", default="auto", choices=("auto",), minimum=1, maximum=512
    ),
    **{name: server.options for name, server in SERVERS.items()},
    "limits": Field(
        "dict",
        "systemd's resource limits, by their own names (`MemoryMax`, `CPUQuota`, ...).",
        default={},
        values=DIRECTIVE,
    ),
    "unit": Field(
        "dict",
        "Any further directive of `[Service]`; a list repeats it.",
        default={},
        keys=r"[A-Z][A-Za-z]+",
        values=Field("scalar|list", "A value.", items=DIRECTIVE, rule=_directive),
    ),
    **PART_KEYS,
    "release_commands": COMMANDS("Run once per fleet after every host has proved the release, before any goes live."),
    "watch": Field(
        "dict",
        "After going live, real traffic is watched and the release taken back.",
        planned=True,
        fields={
            "seconds": Field("int", "How long.", default=60, minimum=1),
            "max_error_rate": Field("number", "The share of 5xx answers.", default=0.05, minimum=0, maximum=1),
        },
    ),
    "processes": Field("list", "Background workers.", default=[], planned=True),
    "schedule": Field("list", "systemd timers.", default=[], planned=True),
    "tls": Field("dict", "`mode`: `acme`, `self_signed`, `files`, `none`.", default={}, fields=TLS),
    "nginx": Field("dict", "Limits, headers, rate limit, extra snippets.", default={}, fields=NGINX_OPTIONS),
    "keep_releases": Field("int", "How many to keep for rollback.", default=5, minimum=1, maximum=1000),
}
