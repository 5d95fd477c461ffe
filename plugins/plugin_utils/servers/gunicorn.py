# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gunicorn: its settings are listed here, so that a misspelt one is refused before anything changes on a host."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

PACKAGES = ("gunicorn==27.0.1",)

#: Every setting of Gunicorn 27 that YAML can express (https://docs.gunicorn.org/en/stable/settings.html);
#: a unit test holds this list together with the installed Gunicorn.
SETTINGS = frozenset(
    """
    access_log_format accesslog asgi_disconnect_grace_period asgi_lifespan asgi_loop backlog ca_certs capture_output
    casefold_http_method cert_reqs certfile chdir ciphers control_socket control_socket_disable control_socket_mode
    default_proc_name dirty_apps dirty_graceful_timeout dirty_threads dirty_timeout dirty_workers
    disable_redirect_access_to_syslog do_handshake_on_connect dogstatsd_tags enable_backlog_metric
    enable_stdio_inheritance errorlog forwarded_allow_ips forwarder_headers graceful_timeout header_map
    http2_cleartext http2_initial_window_size http2_max_concurrent_streams http2_max_frame_size
    http2_max_header_list_size http_parser http_protocols keepalive keyfile limit_request_field_size
    limit_request_fields limit_request_line logconfig logconfig_dict logconfig_json logger_class loglevel max_requests
    max_requests_jitter permit_obsolete_folding permit_unconventional_http_method
    permit_unconventional_http_version preload_app proc_name protocol proxy_allow_ips proxy_protocol
    raw_env root_path secure_scheme_headers sendfile ssl_version statsd_host statsd_prefix
    strip_header_spaces suppress_ragged_eofs syslog syslog_addr syslog_facility syslog_prefix threads timeout
    tmp_upload_dir umask uwsgi_allow_ips websocket_max_message_size worker_class worker_connections worker_tmp_dir
    workers
    """.split()
)

#: Settings that the release or systemd controls, with the reason or what to set instead.
RESERVED: Mapping[str, str] = {
    "bind": "the release controls the socket: nginx and the health check connect to it",
    "check_config": "it stops Gunicorn from serving",
    "config": "the release has its own configuration file",
    "daemon": "systemd supervises the process, which must stay in the foreground",
    "group": "the app's own group is used",
    "initgroups": "systemd sets the groups",
    "paste": "set wsgi",
    "pidfile": "systemd tracks the process without one",
    "print_config": "it stops Gunicorn from serving",
    "pythonpath": "set PYTHONPATH in env",
    "raw_paste_global_conf": "set wsgi",
    "reload": "a release never changes; deploy a new one",
    "reload_engine": "a release never changes; deploy a new one",
    "reload_extra_files": "a release never changes; deploy a new one",
    "reuse_port": "a unix socket has no port",
    "spew": "it logs every executed line with its values, secrets included",
    "user": "the app's own user is used",
    "wsgi_app": "set wsgi",
}

#: Settings whose value is a Python function.
HOOKS = frozenset(
    """
    child_exit dirty_post_fork dirty_worker_exit dirty_worker_init nworkers_changed on_dirty_starting on_exit on_reload
    on_starting post_fork post_request post_worker_init pre_exec pre_fork pre_request ssl_context when_ready
    worker_abort worker_exit worker_int
    """.split()
)

#: Its arbiter exits with this when a worker could not start; the worker has logged why.
NOISE = ("gunicorn.errors.HaltServer",)
#: What it logs when it starts a worker, and when one has died.
STARTS, DIES = "Booting worker", "exited with code 70"

SERVER = Server(
    name="gunicorn",
    # They are rendered as Python source, which can express any text.
    options=Field(
        "dict", "Settings of Gunicorn, by Gunicorn's names. They win over the collection's.", default={}, multiline=True
    ),
    packages=PACKAGES,
    settings=sorted(SETTINGS),
    setting_noun="a setting of Gunicorn",
    reserved=RESERVED,
    hooks=HOOKS,
    graceful_setting="graceful_timeout",
    noise=NOISE,
    starts=STARTS,
    dies=DIES,
)
