# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The public interface ``flask_apps``: its keys, their defaults, and what is refused."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.from_apps import sites_of_apps
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import NGINX_OPTIONS, SITE, SitesError
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.container import NO_LIMITS
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, Schema, check, nearest

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

#: What an app can be built from.
SOURCES = ("path", "git", "archive", "package", "image")

#: systemd's resource limits (systemd.resource-control(5), systemd.exec(5)); everything else of [Service] goes in ``unit``.
LIMITS = (
    "AllowedCPUs CPUQuota CPUWeight IOReadBandwidthMax IOWeight IOWriteBandwidthMax LimitAS LimitCORE LimitCPU LimitDATA "
    "LimitFSIZE LimitMEMLOCK LimitNOFILE LimitNPROC LimitRSS LimitSTACK MemoryHigh MemoryLow MemoryMax MemoryMin "
    "MemorySwapMax Nice OOMScoreAdjust TasksMax"
).split()

#: Values of [Service] that the release's contract rests on.
RESERVED_DIRECTIVES: Mapping[str, str] = {
    "ExecStart": "the server's start is the server's; see its own dict of settings",
    "Type": "the server says when it has started",
    "User": "the app's own user is used",
    "Group": "the app's own group is used",
    "RuntimeDirectory": "the instance's socket lives there",
    "WorkingDirectory": "the release's code",
}

#: The most characters of a host name (RFC 1035).
LONGEST_HOST_NAME = 253
#: The name of a header (RFC 9110, token).
HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

#: A command for a shell, which may have several lines.
COMMAND = Field("str", "A command.", multiline=True)
COMMANDS = Field("list", "Commands, run by a shell as the app's user in the release.", default=[], items=COMMAND)

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
    "subdir": Field("str", "The app's directory below the source.", rule=lambda value: _inside(value)),
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

HEALTH = {
    "path": Field(
        "str",
        "What is asked; a redirect on the app's own hosts is followed, and the last answer counts.",
        default="/",
        pattern=r"/\S*",
        rule=lambda value: _in_ascii(value),
    ),
    "status": Field(
        "int|list",
        "The status, or a list of them, that means healthy. Default: any below 500.",
        items=Field("int", "A status."),
    ),
    "timeout": Field("int", "Seconds from start until it must have answered.", default=60, minimum=1, maximum=3600),
    "headers": Field(
        "dict",
        "Headers to send.",
        default={},
        keys=HEADER_NAME,
        values=Field("scalar", "A value.", rule=lambda value: _in_latin_1(value)),
    ),
}

CHECKS = {
    "tests": Field("str", "A command that must succeed in the staged release, as the app's user.", multiline=True),
    "import": Field("bool", "Import the module and look the callable up, beside the starting instance.", default=True),
    "pip_check": Field("bool", "The installed packages must agree with each other.", default=True),
    "audit": Field("bool", "Look for known vulnerabilities.", default=False),
}

HOOKS = {
    "before_stage": Field("list", "Before anything is done, in the live release.", default=[], items=COMMAND),
    "after_stage": Field("list", "In the staged release, before it starts.", default=[], items=COMMAND),
    "before_live": Field("list", "In the proved release, before visitors get it.", default=[], items=COMMAND),
    "after_live": Field("list", "In the live release.", default=[], items=COMMAND),
    "on_failure": Field("list", "In the release that still serves.", default=[], items=COMMAND),
}

TLS = {
    "mode": Field(
        "str",
        "Where the certificate comes from.",
        default="self_signed",
        choices=("acme", "self_signed", "files", "none"),
    ),
    "certificate": Field("str", "With `files`: the chain, a path on the host."),
    "key": Field("str", "With `files`: the key, a path on the host."),
}

#: A process can be given any text but NUL.
VARIABLES = Field("scalar", "A value.", multiline=True)
#: A value of a line in a unit file.
DIRECTIVE = Field("scalar", "A value.", rule=lambda value: _directive(value))

APP = {
    "name": Field("str", "Unit, user, paths.", required=True, pattern=NAME, rule=lambda value: _not_reserved(value)),
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
        items=Field("str", "A host name.", rule=lambda value: _host_name(value)),
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
                "path": Field("str", "A directory of the app.", required=True, rule=lambda value: _inside(value)),
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
    # They are written as Python, which can say any text.
    "gunicorn": Field("dict", "Any setting of Gunicorn, by its own name.", default={}, multiline=True),
    "uwsgi": Field("dict", "Any option of uWSGI, by its own name.", default={}),
    "mod_wsgi": Field("dict", "Any option of `WSGIDaemonProcess`, and any directive of httpd.", default={}),
    "container": Field("dict", "Any option of `podman run` and `docker run`, by its long name.", default={}),
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
        values=Field("scalar|list", "A value.", items=DIRECTIVE, rule=lambda value: _directive(value)),
    ),
    "health": Field("dict", "`path`, `status`, `timeout`, `headers`.", default={}, fields=HEALTH),
    "checks": Field("dict", "`tests`, `import`, `pip_check`, `audit`.", default={}, fields=CHECKS),
    "release_commands": Field(
        "list",
        "Run once per fleet after every host has proved the release, before any goes live.",
        default=[],
        items=COMMAND,
    ),
    "hooks": Field(
        "dict",
        "Commands at `before_stage`, `after_stage`, `before_live`, `after_live`, `on_failure`.",
        default={},
        fields=HOOKS,
    ),
    "watch": Field(
        "dict",
        "After going live, real traffic is watched and the release taken back.",
        fields={
            "seconds": Field("int", "How long.", default=60, minimum=1),
            "max_error_rate": Field("number", "The share of 5xx answers.", default=0.05, minimum=0, maximum=1),
        },
    ),
    "processes": Field("list", "Background workers.", default=[]),
    "schedule": Field("list", "systemd timers.", default=[]),
    "tls": Field("dict", "`mode`: `acme`, `self_signed`, `files`, `none`.", default={}, fields=TLS),
    "nginx": Field("dict", "Limits, headers, rate limit, extra snippets.", default={}, fields=NGINX_OPTIONS),
    "keep_releases": Field("int", "How many to keep for rollback.", default=5, minimum=1, maximum=1000),
}

#: Keys of the interface that no role serves yet: saying so beats accepting and ignoring them.
NOT_YET = ("watch", "processes", "schedule")


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


def _in_ascii(value: str) -> str | None:
    if value.isascii():
        return None
    return f"expected ASCII, write it percent-encoded: {quote(value, safe=string.punctuation, errors='replace')}"


def _in_latin_1(value: Any) -> str | None:
    try:
        str(value).encode("latin-1")
    except UnicodeEncodeError:
        return "expected characters that a header can hold (ISO 8859-1)"
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


def _source(app: Mapping[str, Any], path: str) -> list[str]:
    source = app["source"]
    given = [kind for kind in SOURCES if source[kind]]
    mistakes = []
    if len(given) != 1:
        listed = f"got {' and '.join(given)}" if given else "got none"
        mistakes.append(f"{path}.source: expected exactly one of {', '.join(SOURCES)}, {listed}")
    for option, needs in (("version", "git"), ("checksum", "archive")):
        if source[option] and not source[needs]:
            mistakes.append(f"{path}.source.{option}: goes with {needs}")
    if source["archive"] and "://" in source["archive"] and not source["checksum"]:
        mistakes.append(
            f"{path}.source.checksum: missing, expected sha256:... because the archive is fetched from a URL"
        )
    return mistakes


def _image(app: Mapping[str, Any], path: str) -> list[str]:
    if not app["source"]["image"] or SERVERS[app["server"]].runtime == "image":
        return []
    return [f"{path}.server: expected container because source.image is given, got {app['server']}"]


def _callable(app: Mapping[str, Any], path: str) -> list[str]:
    if app["wsgi"] or app["source"]["image"]:
        return []
    return [f"{path}.wsgi: missing, expected module:callable or a factory call such as shop:create_app()"]


def _settings(server: str, app: Mapping[str, Any], path: str) -> list[str]:
    return SERVERS[server].mistakes(app[server], f"{path}.{server}")


def _limits(app: Mapping[str, Any], path: str) -> list[str]:
    return [
        f"{path}.limits.{name}: not a resource limit of systemd{nearest(name, LIMITS)}"
        for name in app["limits"]
        if name not in LIMITS
    ] + [
        f"{path}.limits.{name}: a container has no such limit, use {NO_LIMITS[name]}"
        for name in app["limits"]
        if name in NO_LIMITS and SERVERS[app["server"]].runtime == "image"
    ]


def _unit(app: Mapping[str, Any], path: str) -> list[str]:
    return [
        f"{path}.unit.{name}: cannot be set here, {RESERVED_DIRECTIVES[name]}"
        for name in app["unit"]
        if name in RESERVED_DIRECTIVES
    ]


def _tls(app: Mapping[str, Any], path: str) -> list[str]:
    tls = app["tls"]
    if tls["mode"] == "acme":
        return [f"{path}.tls.mode: acme is not available in this version, use self_signed, files or none"]
    if tls["mode"] == "files":
        return [
            f"{path}.tls.{key}: missing, expected a path on the host" for key in ("certificate", "key") if not tls[key]
        ]
    return [f"{path}.tls.{key}: goes with mode files" for key in ("certificate", "key") if tls[key]]


def _site(app: Mapping[str, Any], path: str) -> list[str]:
    """What the role nginx would refuse once the release is live."""
    try:
        [site] = sites_of_apps([app])
    except SitesError as error:
        return [f"{path}.static: {mistake.removeprefix('flask_apps: ')}" for mistake in error.mistakes]
    if site["tls"]["mode"] == "acme":
        # It is refused by itself.
        site["tls"] = {"mode": "none"}
    mistakes = []
    for mistake in check(SITE, site, path)[1]:
        where, _, wrong = mistake.removeprefix(path).partition(": ")
        where = re.sub(r"\.paths\b.*$", ".path", where.replace(".server_names", ".domains"))
        if where.split(".")[1].split("[")[0] not in ("domains", "static", "tls"):
            where = f".nginx{where}"
        mistakes.append(f"{path}{where}: {wrong}")
    return list(dict.fromkeys(mistakes))


def _variables(app: Mapping[str, Any], path: str) -> list[str]:
    twice = sorted(set(app["env"]) & set(app["secrets"]))
    return [f"{path}.secrets.{name}: is in env too" for name in twice]


def _not_yet(app: Mapping[str, Any], path: str) -> list[str]:
    return [f"{path}.{key}: not available in this version" for key in NOT_YET if app[key]]


def _audit(app: Mapping[str, Any], path: str) -> list[str]:
    return [f"{path}.checks.audit: not available in this version"] if app["checks"]["audit"] else []


#: One rule for each thing: a rule is left out where a key that it reads has a mistake already.
RULES: tuple[Callable[[Mapping[str, Any], str], list[str]], ...] = (
    _source,
    _image,
    _callable,
    # Those of other servers too: an app may move, and back.
    *(partial(_settings, server) for server in SERVERS),
    _limits,
    _unit,
    _tls,
    _site,
    _variables,
    _not_yet,
    _audit,
)

SCHEMA = Schema(APP, rules=RULES)


class SpecError(Exception):
    """The inventory is wrong; the message lists every mistake with its path."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(
            f"{count} in the inventory, nothing was touched:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes)
        )


def resolve(apps: Any, path: str = "flask_apps") -> list[dict[str, Any]]:
    """Check the apps of a host and fill in every default.

    :raises SpecError: with all mistakes of all apps.
    """
    if not isinstance(apps, (list, tuple)):
        raise SpecError([f"{path}: expected a list of apps"])
    mistakes: list[str] = []
    resolved = []
    for index, given in enumerate(apps):
        app, wrong = check(SCHEMA, given, f"{path}[{index}]")
        mistakes.extend(wrong)
        resolved.append(app)
    mistakes.extend(_between(resolved, path))
    if mistakes:
        raise SpecError(mistakes)
    return [_plain(app) for app in resolved]


def resolve_one(app: Any, path: str) -> dict[str, Any]:
    """Check a single app, as the app-level roles take it.

    :raises SpecError: with all mistakes.
    """
    checked, mistakes = check(SCHEMA, app, path)
    if mistakes:
        raise SpecError(mistakes)
    return _plain(checked)


def _between(apps: list[dict[str, Any]], path: str) -> list[str]:
    mistakes = []
    seen: dict[tuple[str, str], int] = {}
    for index, app in enumerate(apps):
        keys = [("name", "name", app.get("name"))]
        keys += [
            ("domain", f"domains[{position}]", domain) for position, domain in enumerate(_strings(app.get("domains")))
        ]
        for kind, where, value in keys:
            if not isinstance(value, str):
                continue
            first = seen.setdefault((kind, value.lower()), index)
            if first != index:
                mistakes.append(f"{path}[{index}].{where}: used by {path}[{first}] too")
    defaults = [index for index, app in enumerate(apps) if app.get("domains") == []]
    mistakes += [
        f"{path}[{index}].domains: missing, {path}[{defaults[0]}] is the default vhost already"
        for index in defaults[1:]
    ]
    return mistakes


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _plain(app: dict[str, Any]) -> dict[str, Any]:
    """Give environment variables the one form that a process sees: text."""
    for key in ("env", "secrets"):
        app[key] = {name: as_text(value) for name, value in app[key].items()}
    app["source"] = {key: value for key, value in app["source"].items() if value not in (None, [])}
    return app


def as_text(value: Any) -> str:
    """Return a YAML scalar as an environment variable holds it: booleans as ``true`` and ``false``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_credential_url(url: str | None) -> bool:
    """Say whether a URL carries a user or a password."""
    return bool(url and re.match(r"[a-z+]+://[^/@]+@", url))
