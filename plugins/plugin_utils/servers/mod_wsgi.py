# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""mod_wsgi: its settings are listed here, so that a misspelt one is refused before anything changes on a host.

Options of WSGIDaemonProcess are in lower case (``request-timeout``), directives of httpd in camel case (``TimeOut``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, unwritable

#: Every option of WSGIDaemonProcess in mod_wsgi 5.0
#: (https://modwsgi.readthedocs.io/en/master/configuration-directives/WSGIDaemonProcess.html).
OPTIONS = frozenset(
    """
    connect-timeout cpu-priority cpu-time-limit deadlock-timeout display-name eviction-timeout graceful-timeout
    header-buffer-size inactivity-timeout lang listen-backlog locale maximum-requests memory-limit queue-timeout
    receive-buffer-size request-timeout response-buffer-size response-socket-timeout restart-interval send-buffer-size
    server-metrics shutdown-timeout socket-timeout stack-size startup-timeout umask virtual-memory-limit
    """.split()
)

#: Every directive that the release's httpd knows outside of sections; ``apache2 -L`` lists them, and the scenario
#: mod_wsgi compares the two.
DIRECTIVES = frozenset(
    """
    AcceptFilter AcceptPathInfo AddDefaultCharset AllowEncodedSlashes AsyncRequestWorkerFactor CGIPassAuth CGIVar
    ContentDigest CoreDumpDirectory Define EnableMMAP EnableSendfile ErrorDocument ExtendedStatus FileETag
    FlushMaxPipelined FlushMaxThreshold GracefulShutdownTimeout HttpProtocolOptions LimitInternalRecursion
    LimitRequestBody LimitRequestFields LimitRequestFieldSize LimitRequestLine LimitXMLRequestBody LogLevel
    MaxConnectionsPerChild MaxMemFree MaxRangeOverlaps MaxRangeReversals MaxRanges MaxRequestWorkers MaxSpareThreads
    MergeSlashes MergeTrailers MinSpareThreads Mutex QualifyRedirectURL RLimitCPU RLimitMEM RLimitNPROC ReadBufferSize
    ReceiveBufferSize RegexDefaultOptions RegisterHttpMethod SeeRequestTail SendBufferSize ServerAdmin ServerLimit
    ServerName ServerSignature ServerTokens StartServers StrictHostCheck ThreadLimit ThreadStackSize ThreadsPerChild
    TimeOut TraceEnable UseCanonicalName UseCanonicalPhysicalPort WSGIAcceptMutex WSGIChunkedRequest
    WSGIDestroyInterpreter WSGIDontWriteBytecode WSGIEnableSendfile WSGIErrorOverride WSGIIgnoreActivity
    WSGIMapHEADToGET WSGIPassApacheRequest WSGIPassAuthorization WSGIPythonHashSeed WSGIPythonOptimize
    WSGIPythonWarnings WSGIRestrictSignal WSGIRestrictStdin WSGIRestrictStdout WSGIServerMetrics
    WSGITrustedProxies WSGITrustedProxyHeaders WSGIVerboseDebugging WatchdogInterval
    """.split()
)

_RELEASE = "the release controls which code and which Python run"
_SYSTEMD = "systemd supervises the process and sets its user and directories"
_JOURNAL = "the app and its server log to the journal"
_SOCKET = "the release controls the socket: nginx and the health check connect to it"
_DISK = "httpd serves no files; set static"
_NGINX = "nginx does this; set nginx"
_OLD = "it is the old name of another directive; use the new one"
_SECTION = "it is useful only in a file that includes others"

#: Settings that the release or systemd controls, with the reason or what to set instead.
RESERVED: Mapping[str, str] = {
    # Options of WSGIDaemonProcess.
    "chroot": "it needs root; systemd sandboxes the app",
    "group": "the app's own group is used",
    "home": _RELEASE,
    "newrelic-config-file": "it has no effect in mod_wsgi 5",
    "newrelic-environment": "it has no effect in mod_wsgi 5",
    "processes": "set workers",
    "python-eggs": _RELEASE,
    "python-home": _RELEASE,
    "python-path": "set PYTHONPATH in env",
    "script-group": "the app's own group is used",
    "script-user": "the app's own user is used",
    "socket-user": "the app's own user is used",
    "supplementary-groups": "set SupplementaryGroups in unit",
    "threads": "set threads of the app",
    "user": "the app's own user is used",
    # Directives.
    **dict.fromkeys(("Group", "User", "ChrootDir", "Suexec"), "the app's own user and group are used"),
    **dict.fromkeys(("DefaultRuntimeDir", "PidFile", "ScoreBoardFile", "ServerRoot"), _SYSTEMD),
    **dict.fromkeys(("ErrorLog", "ErrorLogFormat", "GlobalLog"), _JOURNAL),
    **dict.fromkeys(("BufferedLogs", "CustomLog", "LogFormat", "LogIOTrackTTFB", "TransferLog"), _JOURNAL),
    **dict.fromkeys(("Listen", "ListenBacklog", "ListenCoresBucketsRatio", "ListenTCPDeferAccept"), _SOCKET),
    **dict.fromkeys(("ListenUnix", "Protocol", "WSGISocketPrefix", "WSGISocketRotation"), _SOCKET),
    **dict.fromkeys(
        ("KeepAlive", "KeepAliveTimeout", "MaxKeepAliveRequests"), "nginx keeps connections open, not the app"
    ),
    **dict.fromkeys(("HostnameLookups", "Protocols", "ProtocolsHonorOrder"), _NGINX),
    **dict.fromkeys(("NameVirtualHost", "ServerAlias", "ServerPath"), "set domains"),
    **dict.fromkeys(("DocumentRoot", "AccessFileName", "AllowOverride", "AllowOverrideList", "Options"), _DISK),
    **dict.fromkeys(("Include", "IncludeOptional"), "a release has all of its configuration in one place"),
    **dict.fromkeys(("LoadFile", "LoadModule"), "no other modules are loaded; nginx or the app does their job"),
    **dict.fromkeys(("DefaultType", "MaxClients", "MaxRequestsPerChild", "Port"), _OLD),
    **dict.fromkeys(("Error", "UnDefine"), _SECTION),
    **dict.fromkeys(("AuthMerging", "AuthzSendForbiddenOnFailure", "Require"), "nginx or the app controls access"),
    **dict.fromkeys(("WSGIAccessScript", "WSGIAuthGroupScript", "WSGIAuthUserScript"), "the app controls access"),
    "WSGIGroupAuthoritative": "the app controls access",
    **dict.fromkeys(("ForceType", "SetHandler", "SetInputFilter", "SetOutputFilter"), "the app answers every request"),
    **dict.fromkeys(
        ("WSGIApplicationGroup", "WSGICallableObject", "WSGIDispatchScript", "WSGIHandlerScript"), "set wsgi"
    ),
    **dict.fromkeys(("WSGIImportScript", "WSGIScriptAlias", "WSGIScriptAliasMatch"), "set wsgi"),
    **dict.fromkeys(("WSGIDaemonProcess", "WSGIProcessGroup", "WSGIRestrictProcess"), "set its options by their names"),
    **dict.fromkeys(("WSGILazyInitialization", "WSGIRestrictEmbedded"), "the app runs in separate processes"),
    **dict.fromkeys(("WSGINewRelicConfigFile", "WSGINewRelicEnvironment"), "it has no effect in mod_wsgi 5"),
    **dict.fromkeys(("WSGIPythonEggs", "WSGIPythonHome"), _RELEASE),
    "WSGICaseSensitivity": "file systems on Linux are case-sensitive",
    "WSGIPythonPath": "set PYTHONPATH in env",
    "WSGIScriptReloading": "a release never changes; deploy a new one",
}


def _check_value(name: str, value: Any) -> str | None:
    if name in OPTIONS:
        # It is rendered in double quotes.
        if _is_number(value) or (_is_one_line(value) and '"' not in value):
            return None
        return "expected a number, or a text of one line without double quotes"
    values = value if isinstance(value, (list, tuple)) else [value]
    if all(_is_number(item) or isinstance(item, bool) or _is_one_line(item) for item in values):
        return None
    return "expected a number, true, false, a text of one line, or a list of them"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_one_line(value: Any) -> bool:
    # A backslash at the end would join the next line.
    return isinstance(value, str) and not unwritable(value) and not value.endswith("\\")


SERVER = Server(
    name="mod_wsgi",
    options=Field(
        "dict", "Options of `WSGIDaemonProcess` and directives of httpd. They win over the collection's.", default={}
    ),
    packages=("mod_wsgi==5.0.2",),
    settings=(*sorted(OPTIONS), *sorted(DIRECTIVES)),
    setting_noun="an option of WSGIDaemonProcess or a directive of httpd",
    reserved=RESERVED,
    check_value=_check_value,
    graceful_setting="GracefulShutdownTimeout",
    starts="resuming normal operations",
    # A message about a worker that died is not always among the last lines that httpd logs.
)
