# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""uWSGI: its options are listed here, so that a misspelt one is refused before anything changes on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, unwritable

#: Every option of pyuwsgi 2.0.30 that an app may set, as `uwsgi --help` prints them; a unit test holds this list
#: together with the pinned version.
SETTINGS = frozenset(
    """
    abstract-socket add-cache-item add-header after-request-call after-request-hook alarm alarm-backlog alarm-cheap
    alarm-fd alarm-freq alarm-list alarm-listen-queue alarm-log alarm-lq alarm-metric alarm-msg-size alarm-segfault
    alarms-list allowed-modifiers async attach-control-daemon attach-daemon attach-daemon2 auto-procname auto-weight
    autoload backlog-alarm backtrace-depth binary-append-data binary-path blacklist body-read-warning
    brutal-reload-on-fd buffer-size cache cache-blocksize cache-expire-freq cache-no-expire cache-report-freed-items
    cache-store cache-store-sync cache-sync cache-udp-node cache-udp-server cache-use-last-modified cache2
    call-as-emperor call-as-emperor1 call-as-emperor2 call-as-emperor4 call-as-root call-as-user call-as-user-atexit
    call-as-vassal call-as-vassal1 call-as-vassal3 call-asap call-in-jail call-post-app call-post-jail call-pre-app
    call-pre-jail carbon carbon-freq carbon-hostname-dots carbon-id carbon-idle-avg carbon-max-retry carbon-name-resolve
    carbon-no-workers carbon-resolve-names carbon-retry-delay carbon-root carbon-timeout carbon-use-metrics
    catch-exceptions cgroup cgroup-dir-mode cgroup-opt chdir chdir2 cheaper cheaper-algo cheaper-algo-list
    cheaper-algos-list cheaper-busyness-backlog-alert cheaper-busyness-backlog-multiplier
    cheaper-busyness-backlog-nonzero cheaper-busyness-backlog-step cheaper-busyness-max cheaper-busyness-min
    cheaper-busyness-multiplier cheaper-busyness-penalty cheaper-busyness-verbose cheaper-initial cheaper-list
    cheaper-overload cheaper-rss-limit-hard cheaper-rss-limit-soft cheaper-step check-cache check-interval check-mount
    check-mountpoint check-static check-static-docroot chunked-input-limit chunked-input-timeout clock clock-list
    clocks-list close-on-exec close-on-exec2 collect-header connect-and-read cpu-affinity cron cron-harakiri cron2
    daemons-honour-stdin declare-option declare-option2 del-header disable-logging disable-sendfile
    disable-write-exception dlopen drop-after-apps drop-after-init early-emperor early-envdir emperor-broodlord
    emperor-curse-tolerance emperor-extra-ext emperor-extra-extension emperor-freq emperor-graceful-shutdown
    emperor-magic-exec emperor-max-throttle emperor-no-blacklist emperor-nofollow emperor-on-demand-dir
    emperor-on-demand-directory emperor-on-demand-exec emperor-on-demand-ext emperor-on-demand-extension emperor-pidfile
    emperor-procname emperor-proxy-socket emperor-required-heartbeat emperor-stats emperor-stats-server emperor-throttle
    emperor-tyrant emperor-tyrant-nofollow emperor-use-clone emperor-wrapper emperor-wrapper-fallback
    emperor-wrapper-override enable-metrics enable-proxy-protocol enable-threads end-blacklist end-for end-if
    end-whitelist endfor endif env envdir error-page-403 error-page-404 error-page-500 error-route error-route-host
    error-route-if error-route-if-not error-route-label error-route-qs error-route-referer error-route-remote-addr
    error-route-remote-user error-route-run error-route-status error-route-uri error-route-user-agent evil-reload-on-as
    evil-reload-on-rss exception-handler exec-as-emperor exec-as-root exec-as-user exec-as-user-atexit exec-as-vassal
    exec-asap exec-in-jail exec-post-app exec-post-jail exec-pre-app exec-pre-jail fastcgi-modifier1 fastcgi-modifier2
    fastrouter-buffer-size fastrouter-cheap fastrouter-events fastrouter-fallback fastrouter-fallback-on-no-key
    fastrouter-gid fastrouter-gracetime fastrouter-harakiri fastrouter-post-buffering fastrouter-post-buffering-dir
    fastrouter-processes fastrouter-quiet fastrouter-resubscribe fastrouter-resubscribe-bind fastrouter-ss
    fastrouter-stats fastrouter-stats-server fastrouter-subscription-fallback-key fastrouter-subscription-server
    fastrouter-subscription-slot fastrouter-timeout fastrouter-to fastrouter-uid fastrouter-use-base
    fastrouter-use-cache fastrouter-use-code-string fastrouter-use-pattern fastrouter-use-socket fastrouter-workers
    fastrouter-zerg fd-safe file-serve-mode file-write fileserve-mode final-route final-route-host final-route-if
    final-route-if-not final-route-label final-route-qs final-route-referer final-route-remote-addr
    final-route-remote-user final-route-run final-route-status final-route-uri final-route-user-agent flock flock-wait
    flock-wait2 flock2 for for-glob for-readline for-times force-cwd force-gateway forkbomb-delay freebind fs-signal
    ftok gevent gevent-early-monkey-patch gevent-monkey-patch gevent-wait-for-hub harakiri harakiri-graceful-signal
    harakiri-graceful-timeout harakiri-no-arh harakiri-queue-threshold harakiri-verbose heartbeat honour-range
    honour-stdin hook-accepting hook-accepting-once hook-accepting1 hook-accepting1-once hook-as-emperor hook-as-gateway
    hook-as-mule hook-as-root hook-as-user hook-as-user-atexit hook-as-vassal hook-asap hook-emperor-lost
    hook-emperor-reload hook-emperor-start hook-emperor-stop hook-in-jail hook-master-start hook-post-app hook-post-fork
    hook-post-jail hook-pre-app hook-pre-jail hook-touch http-auto-chunked http-auto-gzip http-buffer-size http-cheap
    http-chunked-input http-connect-timeout http-enable-proxy-protocol http-events http-fallback http-gid http-gracetime
    http-harakiri http-headers-timeout http-keepalive http-manage-expect http-manage-rtsp http-manage-source
    http-modifier1 http-modifier2 http-processes http-quiet http-raw-body http-resubscribe http-server-name-as-http-host
    http-socket-modifier1 http-socket-modifier2 http-ss http-stats http-stats-server http-stud-prefix
    http-subscription-fallback-key http-subscription-server http-timeout http-to http-uid http-use-base http-use-cache
    http-use-code-string http-use-pattern http-use-socket http-var http-websockets http-workers http-zerg idle if-dir
    if-directory if-env if-exists if-file if-hostname if-hostname-match if-not-dir if-not-env if-not-exists if-not-file
    if-not-hostname if-not-hostname-match if-not-opt if-not-plugin if-not-reload if-opt if-plugin if-reload ifdir ifenv
    ifexists ifplugin ignore-script-name ignore-sigpipe ignore-write-errors imperial-monitor-list imperial-monitors-list
    import inject-after inject-before iprint ksm lazy lazy-apps limit-as limit-nproc limit-post listen
    listen-queue-alarm load-file-in-cache load-file-in-cache-gzip lock-engine locks log-4xx log-5xx log-alarm
    log-backupname log-big log-date log-drain log-encoder log-filter log-format log-format-strftime log-ioerror
    log-master log-master-bufsize log-master-req-stream log-master-stream log-maxsize log-micros log-prefix log-reopen
    log-req-encoder log-req-route log-route log-sendfile log-slow log-socket log-syslog log-truncate log-x-forwarded-for
    log-zero logdate logfile-chmod logfile-chown logformat logformat-strftime logger logger-list logger-req loggers-list
    logto logto2 loop loop-list loops-list lq-alarm manage-script-name max-apps max-fd max-requests max-requests-delta
    max-vars max-worker-lifetime max-worker-lifetime-delta mem-collector-freq memory-report metric metric-alarm
    metric-dir metric-dir-restore metric-threshold metrics-dir metrics-dir-restore metrics-no-cores mime-file mimefile
    min-worker-lifetime mode mount-as-emperor mount-as-root mount-as-vassal mount-asap mount-check mount-in-jail
    mount-post-jail mount-pre-jail mountpoint-check mule mule-harakiri mule-msg-size mule-reload-mercy mules multicast
    multicast-loop multicast-ttl nagios namespace-keep-mount need-plugin need-plugins never-swap no-default-app
    no-defer-accept no-fd-passing no-harakiri-after-req-hook no-harakiri-arh no-orphans not-alarm-log not-log-alarm
    notify-socket offload-thread offload-threads optimize paste-logger pcre-jit persistent-ipcsem ping-timeout plugin
    plugin-dir plugin-list plugins plugins-dir plugins-list post-buffering post-buffering-bufsize post-pymodule-alias
    print print-sym print-symbol prio privileged-binary-patch privileged-binary-patch-arg processes procname
    procname-append procname-master procname-prefix procname-prefix-spaced profiler propagate-touch pull-header
    py-call-osafterfork py-call-uwsgi-fork-hooks py-import py-sharedarea py-tracebacker pyargv pyimport pymodule-alias
    python-import python-raw python-version queue queue-blocksize queue-store queue-store-sync raw-modifier1
    raw-modifier2 rawrouter-buffer-size rawrouter-cheap rawrouter-events rawrouter-fallback rawrouter-gracetime
    rawrouter-harakiri rawrouter-max-retries rawrouter-processes rawrouter-quiet rawrouter-ss rawrouter-stats
    rawrouter-stats-server rawrouter-subscription-server rawrouter-subscription-slot rawrouter-timeout rawrouter-to
    rawrouter-use-base rawrouter-use-cache rawrouter-use-code-string rawrouter-use-pattern rawrouter-use-socket
    rawrouter-workers rawrouter-xclient rawrouter-zerg rbtimer re-fork re-fork-as-root re-fork-post-jail reaper refork
    refork-as-root refork-post-jail reload-mercy reload-on-as reload-on-exception reload-on-exception-repr
    reload-on-exception-type reload-on-exception-value reload-on-fd reload-on-rss reload-os-env rem-header
    remap-modifier req-logger resolve response-header-collect response-headers-limit response-route response-route-host
    response-route-if response-route-if-not response-route-label response-route-qs response-route-referer
    response-route-remote-addr response-route-remote-user response-route-run response-route-status response-route-uri
    response-route-user-agent route route-host route-if route-if-not route-label route-qs route-referer
    route-remote-addr route-remote-user route-run route-uri route-user-agent router-list routers-list rpc-max rrdtool
    rrdtool-freq rrdtool-lib rsyslog-packet-size rsyslog-split-messages safe-fd scgi-modifier1 scgi-modifier2
    segfault-alarm set set-ph set-placeholder setns setns-preopen setns-skip setns-socket setns-socket-skip
    shared-import shared-py-import shared-pyimport shared-python-import sharedarea shutdown-sockets signal-bufsize
    signal-rbtimer signal-timer signals-bufsize single-interpreter skip-atexit skip-atexit-teardown skip-zero
    smart-attach-daemon smart-attach-daemon2 snmp snmp-community so-keepalive so-send-timeout so-write-timeout
    socket-rcvbuf socket-send-timeout socket-sndbuf socket-timeout socket-write-timeout spooler spooler-chdir
    spooler-external spooler-freq spooler-frequency spooler-harakiri spooler-import spooler-max-tasks spooler-ordered
    spooler-processes spooler-py-import spooler-pyimport spooler-python-import spooler-quiet st start-unsubscribed
    start_response-nodelay static-cache-paths static-cache-paths-name static-check static-expires static-expires-mtime
    static-expires-path-info static-expires-path-info-mtime static-expires-type static-expires-type-mtime
    static-expires-uri static-expires-uri-mtime static-gzip static-gzip-all static-gzip-dir static-gzip-ext
    static-gzip-prefix static-gzip-suffix static-index static-map static-map2 static-safe static-skip-ext stats-http
    stats-min stats-minified stats-no-cores stats-no-metrics stats-push stats-pusher-default-freq
    stats-pushers-default-freq subscribe subscribe-freq subscribe-to subscribe-with-modifier1 subscribe2
    subscription-algo subscription-dotsplit subscription-notify-socket subscription-tolerance
    subscriptions-credentials-check subscriptions-use-credentials symcall-post-fork symcall-register-rpc
    symcall-use-next tcp-fast-open tcp-fast-open-client tcp-fastopen tcp-fastopen-client tcp-nodelay thread-stack-size
    thread-stacksize threaded-logger threads threads-stack-size threads-stacksize thunder-lock timer touch-exec
    touch-logreopen touch-logrotate touch-mules-reload touch-signal touch-spoolers-reload udp ugreen ugreen-stacksize
    umount-as-emperor umount-as-root umount-as-vassal umount-asap umount-in-jail umount-post-jail umount-pre-jail unenv
    unique-cron unprivileged-binary-patch unprivileged-binary-patch-arg unsubscribe-on-graceful-reload upload-progress
    use-abort vacuum vassal-set vassal-sos vassal-sos-backlog vassals-include vassals-include-before vassals-inherit
    vassals-inherit-before vassals-set vassals-start-hook vassals-stop-hook wait-for-dir wait-for-file wait-for-fs
    wait-for-fs-timeout wait-for-iface wait-for-iface-timeout wait-for-interface wait-for-interface-timeout
    wait-for-mountpoint wait-for-socket wait-for-socket-timeout wait-iface wait-iface-timeout wait-interface
    wait-interface-timeout websocket-max-size websocket-ping-freq websocket-pong-tolerance websockets-max-size
    websockets-ping-freq websockets-pong-tolerance weight whitelist worker-mount worker-reload-mercy workers
    write-errors-exception-only write-errors-tolerance wsgi-accept-buffer wsgi-accept-buffers wsgi-disable-file-wrapper
    wsgi-env-behavior wsgi-env-behaviour wsgi-strict zerg-fallback
    """.split()
)

#: Options that the release or systemd controls, by the reason or what to set instead.
_RESERVED: Mapping[str, str] = {
    "the release controls the socket: nginx and the health check connect to it, and two releases run side by side "
    "during a deploy": """
        chmod chmod-socket chown-socket fastcgi-nph-socket fastcgi-socket fastrouter http http-socket http11-socket
        httprouter map-socket protocol puwsgi-socket raw-socket rawrouter reuse-port scgi-nph-socket scgi-socket
        shared-socket socket socket-protocol undeferred-shared-socket uwsgi-socket zerg zerg-pool zerg-server zergpool
    """,
    "every release has its own, /run/APP/RELEASE/stats.sock": "stats stats-server",
    "set wsgi": """
        callable eval file module mount paste pecan pump py-programname py-program-name python-worker-override pyrun
        symcall vhost vhost-host web3 wsgi wsgi-file wsgi-lite worker-exec worker-exec2
    """,
    "the release has its own virtualenv": "home no-site py-executable py-sys-executable pyhome venv virtualenv",
    "set PYTHONPATH in env": "pp python-path pythonpath",
    "the release has its own configuration file": """
        config config-py fallback-config include inherit ini ini-paste ini-paste-logged js json xml xmlconfig yaml yml
    """,
    "a release never changes; deploy a new one": """
        fs-brutal-reload fs-reload py-auto-reload py-auto-reload-ignore py-autoreload python-auto-reload
        python-autoreload touch-chain-reload touch-reload touch-workers-reload
    """,
    "systemd supervises the process, which must stay in the foreground": "daemonize daemonize2 emperor farm master-as-root master-fifo",
    "systemd tracks the process without one": "pidfile pidfile2 safe-pidfile safe-pidfile2",
    "the app's own user and group are used": "add-gid gid immediate-gid immediate-uid no-initgroups uid",
    "systemd sets it: UMask in unit": "umask",
    "systemd sandboxes the process": "chroot jailed namespace namespace-net ns ns-net pivot-root pivot_root unshare unshare2",
    "it drops open requests": "die-on-term no-threads-wait",
    "systemd would restart an instance that exits": "die-on-idle",
    "the unit depends on it": "exit-on-reload master need-app strict",
    "it stops uWSGI from serving": """
        binsh build-plugin cflags cgi-mode cheap command-mode dot-h dump-options exit extract get help no-server pause ping
        py pyshell pyshell-oneshot python reload resume show-config signal stop suspend test usage version
    """,
}
RESERVED: Mapping[str, str] = {name: reason for reason, names in _RESERVED.items() for name in names.split()}


def _check_value(_unused: str, value: Any) -> str | None:
    if _is_writable(value):
        return None
    return "expected a text of one line, a number, true or false, or a list of them"


def _is_writable(value: Any) -> bool:
    """Whether a value can be written in uWSGI's configuration file."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(item, (str, int, float)) and not unwritable(str(item)) for item in values)


SERVER = Server(
    name="uwsgi",
    options=Field("dict", "Options of uWSGI, by uWSGI's names. They win over the collection's.", default={}),
    packages=("pyuwsgi==2.0.30.post1",),
    settings=sorted(SETTINGS),
    setting_noun="an option of uWSGI",
    reserved=RESERVED,
    check_value=_check_value,
    graceful_setting="worker-reload-mercy",
    starts="spawned uWSGI worker",
    dies="DAMN ! worker",
)
