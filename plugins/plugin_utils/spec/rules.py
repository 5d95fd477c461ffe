# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules between the keys of an app."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.from_apps import sites_of_apps
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SITE, SitesError
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import TLS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.parts import PART_RULES
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import check, nearest

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
    "ExecStart": "the app's server sets it; use the server's settings (gunicorn, uwsgi, ...)",
    "Type": "the server tells systemd when it is ready",
    "User": "the app runs as its own user",
    "Group": "the app runs as its own group",
    "RuntimeDirectory": "the instance's socket is there",
    "WorkingDirectory": "it is the release's code",
}


def _check_source(app: Mapping[str, Any], path: str) -> list[str]:
    source = app["source"]
    kinds = [kind for kind in SOURCES if source[kind]]
    errors = []
    if len(kinds) != 1:
        listed = f"got {' and '.join(kinds)}" if kinds else "got none"
        errors.append(f"{path}.source: expected exactly one of {', '.join(SOURCES)}, {listed}")
    for option, needs in (("version", "git"), ("checksum", "archive")):
        if source[option] and not source[needs]:
            errors.append(f"{path}.source.{option}: only allowed with {needs}")
    if source["archive"] and "://" in source["archive"] and not source["checksum"]:
        errors.append(f"{path}.source.checksum: missing, expected sha256:... because the archive is downloaded")
    return errors


def _check_image(app: Mapping[str, Any], path: str) -> list[str]:
    running = [name for name, server in SERVERS.items() if server.runtime == "image"]
    if not app["source"]["image"] or app["server"] in running:
        return []
    return [f"{path}.server: expected {' or '.join(running)} because source.image is set, got {app['server']}"]


def _check_callable(app: Mapping[str, Any], path: str) -> list[str]:
    if app["wsgi"] or app["source"]["image"]:
        return []
    return [f"{path}.wsgi: missing, expected module:callable or a factory call such as shop:create_app()"]


def _check_settings(server: str, app: Mapping[str, Any], path: str) -> list[str]:
    return SERVERS[server].find_errors(app[server], f"{path}.{server}")


def _check_limits(app: Mapping[str, Any], path: str) -> list[str]:
    return [
        f"{path}.limits.{name}: unknown resource limit{nearest(name, LIMITS)}"
        for name in app["limits"]
        if name not in LIMITS
    ]


def _check_server_limits(app: Mapping[str, Any], path: str) -> list[str]:
    refused = SERVERS[app["server"]].no_limits
    return [f"{path}.limits.{name}: {refused[name]}" for name in app["limits"] if name in refused]


def _check_unit(app: Mapping[str, Any], path: str) -> list[str]:
    return [
        f"{path}.unit.{name}: cannot be set here, {RESERVED_DIRECTIVES[name]}"
        for name in app["unit"]
        if name in RESERVED_DIRECTIVES
    ]


def _check_tls(app: Mapping[str, Any], path: str) -> list[str]:
    tls = app["tls"]
    if tls["mode"] == "files":
        return [
            f"{path}.tls.{key}: missing, expected a path on the host" for key in ("certificate", "key") if not tls[key]
        ]
    return [f"{path}.tls.{key}: only allowed with mode: files" for key in ("certificate", "key") if tls[key]]


def _check_site(app: Mapping[str, Any], path: str) -> list[str]:
    """Return what the role nginx would refuse, before the release is live instead of after."""
    try:
        [site] = sites_of_apps([app])
    except SitesError as error:
        return [f"{path}.static: {line.removeprefix('flask_apps: ')}" for line in error.errors]
    if site["tls"]["mode"] in TLS["mode"].planned_choices:
        # The key's own check refuses it.
        site["tls"] = {"mode": "none"}
    errors = []
    for line in check(SITE, site, path)[1]:
        where, _unused, wrong = line.removeprefix(path).partition(": ")
        where = re.sub(r"\.paths\b.*$", ".path", where.replace(".server_names", ".domains"))
        if where.split(".")[1].split("[")[0] not in ("domains", "static", "tls"):
            where = f".nginx{where}"
        errors.append(f"{path}{where}: {wrong}")
    return list(dict.fromkeys(errors))


def _check_variables(app: Mapping[str, Any], path: str) -> list[str]:
    twice = sorted(set(app["env"]) & set(app["secrets"]))
    return [f"{path}.secrets.{name}: is also set in env, remove one of them" for name in twice]


#: A rule is skipped if a key that it reads has an error already: one rule for each subject.
RULES: tuple[Callable[[Mapping[str, Any], str], list[str]], ...] = (
    _check_source,
    _check_image,
    _check_callable,
    # The settings of other servers too: an app may switch servers and back.
    *(partial(_check_settings, server) for server in SERVERS),
    _check_limits,
    _check_server_limits,
    _check_unit,
    _check_tls,
    _check_site,
    _check_variables,
    *PART_RULES,
)
