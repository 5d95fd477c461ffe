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
        return "expected a relative path inside the app's directory"
    return None


def _plain_path(value: str) -> str | None:
    # A colon divides the parts of a container's volume; the others mean something to a shell, to systemd or to nginx.
    found = re.search(r"[:$`\"'\\]", value)
    return "expected a path without colons, quotes, $ and \\" if found else None


def _directive(value: Any) -> str | None:
    if isinstance(value, str) and value.rstrip().endswith("\\"):
        return "expected no backslash at the end: systemd would join the next line to it"
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
        return f"is reserved, '-e app={ALL}' means all apps; choose another name"
    return "is the name of a system user or service, choose another name" if value in RESERVED_NAMES else None


SOURCE = {
    "path": Field(
        "str",
        "Directory on the controller. In a git checkout: tracked and untracked files, without ignored ones. Elsewhere: "
        "everything except caches and virtualenvs.",
    ),
    "git": Field(
        "str", "Repository to deploy from. The controller fetches it; hosts need neither git nor credentials."
    ),
    "version": Field("str", "With `git`: the tag, branch or commit to deploy. Default: the repository's HEAD."),
    "archive": Field("str", "Tar or zip file with the app: a path on the controller or a URL."),
    "checksum": Field(
        "str",
        "With `archive`: its digest, `sha256:...`. Required for a URL; an archive that does not match is refused.",
        pattern=r"sha256:[0-9a-f]{64}",
    ),
    "package": Field(
        "str", "Pinned requirement to install from the package index, such as `httpbin[mainapp]==0.10.4`."
    ),
    "image": Field(
        "str",
        "Container image to run: `registry.example.org/shop:1.4`, one with a digest, or an archive, `docker-archive:shop.tar`.",
    ),
    "subdir": Field("str", "Directory of the app inside the source. Default: the source's root.", rule=_inside),
    "exclude": Field(
        "list", "Patterns of files to leave out of the release.", default=[], items=Field("str", "A pattern.")
    ),
}

PYTHON = {
    "interpreter": Field(
        "str", "Python to build the virtualenv with: a path, or a command on the host.", default="/usr/bin/python3"
    ),
    "requirements": Field(
        "str|list",
        "File or files to install from. Default: the first that exists of `uv.lock`, `pylock.toml`, `requirements.txt` and "
        "`pyproject.toml`.",
        items=Field("str", "A file."),
    ),
    "extras": Field("list", "Extras of the project to install with it.", default=[], items=Field("str", "An extra.")),
    "require_hashes": Field(
        "bool", "Require a hash for every package. A requirement without one is refused.", default=False
    ),
    "constraints": Field("str", "Constraints file, a path in the app."),
    "index_url": Field(
        "str",
        "URL of the package index. Default: `python_index_url` of the host, else PyPI. Credentials in it are kept secret.",
    ),
    "find_links": Field("str", "Directory on the host, or URL, with more packages to install from."),
    "offline": Field("bool", "Install from `find_links` only, without a package index.", default=False),
    "system_packages": Field(
        "bool", "Give the virtualenv access to the Python packages of the distribution.", default=False
    ),
}

TLS = {
    "mode": Field(
        "str",
        "Source of the certificate. With `none`, the app is served over HTTP only.",
        default="self_signed",
        choices=("acme", "self_signed", "files", "none"),
        planned_choices=("acme",),
    ),
    "certificate": Field("str", "With `files`: path of the certificate chain on the host."),
    "key": Field("str", "With `files`: path of the private key on the host."),
}

#: A process can be given any text but NUL.
VARIABLES = Field("scalar", "A value.", multiline=True)
#: A value of a line in a unit file.
DIRECTIVE = Field("scalar", "A value.", rule=_directive)

APP = {
    "name": Field(
        "str",
        "Name of the app, its unit, its user and its directory, `/srv/NAME`. Cannot be changed later.",
        required=True,
        pattern=NAME,
        rule=_not_reserved,
    ),
    "source": Field(
        "dict",
        "Where the code comes from. Exactly one of `path`, `git`, `archive`, `package` and `image`.",
        required=True,
        fields=SOURCE,
    ),
    "wsgi": Field(
        "str",
        "The WSGI callable, `module:callable`, or a factory call such as `shop:create_app()`. Required unless `source.image` is set.",
        pattern=WSGI,
    ),
    "server": Field("str", "Server that runs the app.", default="gunicorn", choices=tuple(SERVERS)),
    "domains": Field(
        "list",
        "Host names of the app; the first is the canonical one. Without any, the app answers for every host name that no "
        "other app has; one app of a host can do so.",
        default=[],
        items=Field("str", "A host name.", rule=_host_name),
    ),
    "python": Field(
        "dict", "Interpreter of the app, and how its requirements are installed.", default={}, fields=PYTHON
    ),
    "env": Field(
        "dict",
        "Environment variables of the app. A change makes a new release.",
        default={},
        keys=VARIABLE,
        values=VARIABLES,
    ),
    "secrets": Field(
        "dict",
        "Environment variables that are secret: never printed, and stored where only root can read them. A change makes a "
        "new release.",
        default={},
        keys=VARIABLE,
        values=VARIABLES,
    ),
    "shared_paths": Field(
        "list",
        "Directories of the app that it can write and that all releases share. The rest of a release is read-only.",
        default=["instance"],
        items=Field("str", "A relative path.", rule=lambda value: _inside(value) or _plain_path(value)),
    ),
    "static": Field(
        "list",
        "Directories that nginx serves without asking the app. Files of the previous release stay available.",
        default=[],
        items=Field(
            "dict",
            "A directory and its URL.",
            fields={
                "url": Field(
                    "str",
                    "URL path below which the files are served, such as `/static`.",
                    required=True,
                    pattern=r"/[^\s{};\"'$\\]*",
                ),
                "path": Field("str", "Directory in the app with the files.", required=True, rule=_inside),
            },
        ),
    ),
    "workers": Field(
        "int|str",
        "Number of worker processes. `auto`: from the host's CPUs, memory and cgroup limits.",
        default="auto",
        choices=("auto",),
        minimum=1,
        maximum=512,
    ),
    "threads": Field(
        "int|str", "Number of threads per worker. `auto`: 4.", default="auto", choices=("auto",), minimum=1, maximum=512
    ),
    **{name: server.options for name, server in SERVERS.items()},
    "limits": Field(
        "dict",
        "Resource limits of systemd, by systemd's names (`MemoryMax`, `CPUQuota`, ...).",
        default={},
        values=DIRECTIVE,
    ),
    "unit": Field(
        "dict",
        "Additional directives for the unit's `[Service]` section. A list repeats a directive.",
        default={},
        keys=r"[A-Z][A-Za-z]+",
        values=Field("scalar|list", "A value.", items=DIRECTIVE, rule=_directive),
    ),
    **PART_KEYS,
    "release_commands": COMMANDS(
        "Commands to run on one host, after all hosts verified the release and before any goes live, such as a database "
        "migration. A deploy that is repeated runs them again. One that fails aborts the deploy."
    ),
    "watch": Field(
        "dict",
        "Watch real traffic after going live, and go back to the previous release if too many requests fail.",
        planned=True,
        fields={
            "seconds": Field("int", "Seconds to watch.", default=60, minimum=1),
            "max_error_rate": Field(
                "number",
                "Share of 5xx answers above which the release is taken back.",
                default=0.05,
                minimum=0,
                maximum=1,
            ),
        },
    ),
    "processes": Field("list", "Background workers to run beside the web server.", default=[], planned=True),
    "schedule": Field("list", "Commands to run on a schedule, as systemd timers.", default=[], planned=True),
    "tls": Field("dict", "HTTPS for the app's domains.", default={}, fields=TLS),
    "nginx": Field(
        "dict",
        "Settings of the app's nginx site: limits, headers, rate limit, snippets.",
        default={},
        fields=NGINX_OPTIONS,
    ),
    "keep_releases": Field(
        "int",
        "Number of releases to keep for rollbacks, the live one included. Older ones are removed.",
        default=5,
        minimum=1,
        maximum=1000,
    ),
}
