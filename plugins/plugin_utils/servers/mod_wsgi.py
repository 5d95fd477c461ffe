# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of mod_wsgi's and httpd's own settings, so that a misspelt one is refused before anything is touched.

An option of WSGIDaemonProcess is in small letters (``request-timeout``), a directive of httpd has a capital one
(``TimeOut``).
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
#: mod_wsgi holds the two together.
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

_RELEASE = "the release says which code runs, and in which Python"
_SYSTEMD = "systemd keeps the process and says who it is"
_JOURNAL = "the journal takes what the app and its server say"
_SOCKET = "the socket belongs to the release: nginx and the health proof find it there"
_DISK = "nothing is served from the disk: use static"
_NGINX = "nginx does this: use nginx"
_OLD = "an old name of another one"
_SECTION = "it is of use only where a file includes others"

#: Settings that belong to the release or to systemd, and what to write instead.
RESERVED: Mapping[str, str] = {
    # Options of WSGIDaemonProcess.
    "chroot": "it takes root; the sandbox says what the app sees",
    "group": "the app's own group is used",
    "home": _RELEASE,
    "newrelic-config-file": "mod_wsgi 5 does nothing with it",
    "newrelic-environment": "mod_wsgi 5 does nothing with it",
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
    **dict.fromkeys(("KeepAlive", "KeepAliveTimeout", "MaxKeepAliveRequests"), "nginx keeps connections, not the app"),
    **dict.fromkeys(("HostnameLookups", "Protocols", "ProtocolsHonorOrder"), _NGINX),
    **dict.fromkeys(("NameVirtualHost", "ServerAlias", "ServerPath"), "set domains"),
    **dict.fromkeys(("DocumentRoot", "AccessFileName", "AllowOverride", "AllowOverrideList", "Options"), _DISK),
    **dict.fromkeys(("Include", "IncludeOptional"), "a release holds all of its configuration"),
    **dict.fromkeys(("LoadFile", "LoadModule"), "nginx or the app does what other modules of httpd would"),
    **dict.fromkeys(("DefaultType", "MaxClients", "MaxRequestsPerChild", "Port"), _OLD),
    **dict.fromkeys(("Error", "UnDefine"), _SECTION),
    **dict.fromkeys(("AuthMerging", "AuthzSendForbiddenOnFailure", "Require"), "nginx or the app says who may come in"),
    **dict.fromkeys(("WSGIAccessScript", "WSGIAuthGroupScript", "WSGIAuthUserScript"), "the app says who may come in"),
    "WSGIGroupAuthoritative": "the app says who may come in",
    **dict.fromkeys(("ForceType", "SetHandler", "SetInputFilter", "SetOutputFilter"), "the app answers every request"),
    **dict.fromkeys(
        ("WSGIApplicationGroup", "WSGICallableObject", "WSGIDispatchScript", "WSGIHandlerScript"), "set wsgi"
    ),
    **dict.fromkeys(("WSGIImportScript", "WSGIScriptAlias", "WSGIScriptAliasMatch"), "set wsgi"),
    **dict.fromkeys(
        ("WSGIDaemonProcess", "WSGIProcessGroup", "WSGIRestrictProcess"), "write its options by their names"
    ),
    **dict.fromkeys(("WSGILazyInitialization", "WSGIRestrictEmbedded"), "the app runs in processes of its own"),
    **dict.fromkeys(("WSGINewRelicConfigFile", "WSGINewRelicEnvironment"), "mod_wsgi 5 does nothing with it"),
    **dict.fromkeys(("WSGIPythonEggs", "WSGIPythonHome"), _RELEASE),
    "WSGICaseSensitivity": "paths are what the disk says they are",
    "WSGIPythonPath": "set PYTHONPATH in env",
    "WSGIScriptReloading": "a release never changes; deploy a new one",
}


def _check_value(name: str, value: Any) -> str | None:
    if name in OPTIONS:
        # It is written in double quotes.
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
    # A backslash at the end would take the next line with it.
    return isinstance(value, str) and not unwritable(value) and not value.endswith("\\")


SERVER = Server(
    name="mod_wsgi",
    options=Field(
        "dict", "Options of `WSGIDaemonProcess` and directives of httpd. They win over the collection's.", default={}
    ),
    packages=("mod_wsgi==5.0.2",),
    settings=(*sorted(OPTIONS), *sorted(DIRECTIVES)),
    one_setting="an option of WSGIDaemonProcess or a directive of httpd",
    reserved=RESERVED,
    check_value=_check_value,
    graceful_setting="GracefulShutdownTimeout",
    starts="resuming normal operations",
    # That a worker has died is not always the last that httpd says.
)
