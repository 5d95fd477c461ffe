"""Asks nginx itself, on the host, as visitors, a load balancer and a curious neighbour would."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

SHOP = "https://shop.example.org"
LOG = "/var/log/nginx/access.log"


class Answer:
    """What curl got: ``status``, ``headers`` (lower case; a repeated one joined by a comma), ``body``, ``code`` (curl's)."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        head, _unused, self.body = output.replace("\r\n", "\n").partition("\n\n")
        while self.body.startswith("HTTP/"):
            head, _unused, self.body = self.body.partition("\n\n")
        status, *lines = head.splitlines() or [""]
        self.protocol = status.split(" ")[0]
        self.status = int(status.split(" ")[1]) if status else 0
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _unused, value = line.partition(":")
            known = self.headers.get(name.lower())
            self.headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"

    @property
    def seen(self) -> dict[str, str]:
        """The headers that the application got, in lower case."""
        return {name.lower(): value for name, value in json.loads(self.body)["headers"]}


@pytest.fixture
def ask(host):
    """Return a function that asks the host's nginx for a URL, whatever name is in it; further arguments are curl's."""

    def function(url: str, *arguments: str) -> Answer:
        name = re.sub(r"^\w+://([^/:]+).*$", r"\1", url)
        resolved = " ".join(f"--resolve {name}:{port}:127.0.0.1" for port in (80, 443))
        quoted = " ".join(f"'{argument}'" for argument in arguments)
        done = host.run(f"curl --silent --insecure --include --max-time 20 {resolved} {quoted} '{url}'")
        return Answer(done.rc, done.stdout)

    return function


@pytest.fixture
def seen(host) -> dict[str, Any]:
    """What the side effects left behind."""
    return json.loads(host.file("/var/tmp/nginx-seen.json").content_string)


# --- Which site answers, and how ---------------------------------------------------------------------------------------


def test_http_is_redirected_to_https_and_to_the_first_name(ask):
    for name in ("shop.example.org", "www.shop.example.org"):
        answer = ask(f"http://{name}/cart?id=1&x=%2F")
        assert answer.status == 308
        assert answer.headers["location"] == f"{SHOP}/cart?id=1&x=%2F"


def test_other_names_are_redirected_over_https_too(ask):
    answer = ask("https://www.shop.example.org/cart")
    assert (answer.status, answer.headers["location"]) == (308, f"{SHOP}/cart")


def test_https_answers_with_http2(ask):
    answer = ask(f"{SHOP}/")
    assert (answer.status, answer.protocol) == (200, "HTTP/2")
    assert json.loads(answer.body)["path"] == "/"


def test_http1_is_spoken_too(ask):
    assert ask(f"{SHOP}/", "--http1.1").protocol == "HTTP/1.1"


def test_unknown_hosts_get_no_answer(ask):
    over_http = ask("http://unknown.example.org/")
    assert over_http.status == 0
    assert over_http.code in (52, 56), "an empty reply, or the connection reset"
    over_https = ask("https://unknown.example.org/")
    assert (over_https.status, over_https.code) == (0, 35), "35: the handshake was refused"
    # A visitor who shakes hands as one host and asks for another.
    assert ask(f"{SHOP}/", "--header", "Host: unknown.example.org", "--http1.1").status == 0


def test_a_wildcard_name(ask):
    assert ask("http://anything.wild.example.org/").status == 200


def test_somebodys_own_site_is_left_alone(ask):
    assert ask("http://own.example.org/").body == "own\n"


def test_the_distributions_site_is_gone(host):
    assert not host.file("/etc/nginx/sites-enabled/default").exists
    assert host.file("/etc/nginx/sites-available/default").exists


def test_snippets_and_directives(ask):
    assert ask("http://plain.example.org/snippet").body == "from a snippet\n"
    answer = ask("http://plain.example.org/directive")
    assert (answer.body, answer.headers["content-type"]) == ("from a directive\n", "text/plain")


# --- What the application is told --------------------------------------------------------------------------------------


def test_the_application_is_told_who_asks_and_for_what(ask):
    seen = ask(f"{SHOP}/").seen
    assert seen["host"] == seen["x-forwarded-host"] == "shop.example.org"
    assert seen["x-forwarded-for"] == seen["x-real-ip"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-port"] == "443"
    assert re.fullmatch(r"[0-9a-f]{32}", seen["x-request-id"])
    plain = ask("http://plain.example.org/").seen
    assert (plain["x-forwarded-proto"], plain["x-forwarded-port"]) == ("http", "80")


LIES = {
    "X-Forwarded-For": "8.8.8.8",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example.org",
    "X-Forwarded-Port": "1",
    "X-Real-IP": "8.8.8.8",
    "X-Request-ID": "visitors-own",
    "Forwarded": "for=8.8.8.8;proto=https",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "Proxy": "evil",
}


def lies() -> list[str]:
    return [part for name, value in LIES.items() for part in ("--header", f"{name}: {value}")]


def test_what_a_visitor_says_of_itself_does_not_arrive(ask):
    seen = ask("http://plain.example.org/", *lies()).seen
    assert seen["x-forwarded-for"] == seen["x-real-ip"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == seen["host"] == "plain.example.org"
    assert seen["x-forwarded-port"] == "80"
    assert seen["x-request-id"] != "visitors-own"
    for name in ("forwarded", "x-forwarded-prefix", "x-forwarded-protocol", "x-forwarded-ssl", "proxy"):
        assert name not in seen


def test_a_trusted_proxy_is_believed(ask):
    seen = ask("http://plain.example.org/", "--interface", "127.0.0.2", *lies()).seen
    assert seen["x-forwarded-for"] == "8.8.8.8"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("https", "443")
    assert seen["x-forwarded-host"] == "evil.example.org"
    assert seen["x-request-id"] == "visitors-own"
    assert "x-forwarded-prefix" not in seen


def test_the_port_of_the_address_bar_is_kept(ask):
    seen = ask(f"{SHOP}/", "--header", "Host: shop.example.org:8443").seen
    assert seen["host"] == seen["x-forwarded-host"] == "shop.example.org:8443"
    assert seen["x-forwarded-port"] == "8443"


def test_a_whole_url_in_the_request_line_cannot_smuggle_another_host(ask):
    answer = ask(
        "http://plain.example.org/",
        "--request-target",
        "http://plain.example.org/",
        "--header",
        "Host: limited.example.org",
    )
    assert answer.seen["host"] == "plain.example.org"


# --- Bodies, streams, websockets ---------------------------------------------------------------------------------------


def test_an_upload_of_5_megabytes(host, ask):
    host.run("head -c 5242880 /dev/zero > /var/tmp/five")
    answer = ask(f"{SHOP}/upload", "--data-binary", "@/var/tmp/five", "--header", "Expect:")
    assert answer.status == 200
    assert json.loads(answer.body)["received"] == 5242880


def test_limits_of_the_body(host, ask):
    host.run("head -c 5242880 /dev/zero > /var/tmp/five; head -c 11000000 /dev/zero > /var/tmp/eleven")
    assert ask(f"{SHOP}/", "--data-binary", "@/var/tmp/eleven", "--header", "Expect:").status == 413, "nginx_http: 10m"
    assert ask("http://plain.example.org/", "--data-binary", "@/var/tmp/five", "--header", "Expect:").status == 413, (
        "the site: 1m"
    )


def test_a_stream_is_not_held_back(host):
    command = (
        "curl --silent --insecure --no-buffer --resolve shop.example.org:443:127.0.0.1 https://shop.example.org/stream"
    )
    script = f'{command} | while read -r line; do if [ "$line" ]; then echo "$(date +%s.%N) $line"; fi; done'
    lines = host.check_output(script).splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [f"data: {number}" for number in range(5)]
    times = [float(line.split(" ")[0]) for line in lines]
    assert times[-1] - times[0] > 0.8, "they came one by one"


def test_a_websocket_is_passed_on(host):
    script = (
        "import socket; c = socket.create_connection(('127.0.0.1', 80), 5); "
        "c.sendall(b'GET /upgrade HTTP/1.1\\r\\nHost: plain.example.org\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n'); "
        "print(c.recv(1000).decode()); c.sendall(b'ping'); print(c.recv(100).decode())"
    )
    answer = host.check_output(f'python3 -c "{script}"')
    assert "101 Switching Protocols" in answer
    assert answer.endswith("ping")


def test_no_connection_to_the_application_is_kept(ask):
    assert ask(f"{SHOP}/").seen["connection"] == "close"


def test_text_is_compressed(ask):
    assert ask(f"{SHOP}/large", "--header", "Accept-Encoding: gzip", "--output", "/dev/null").code == 0
    answer = ask(f"{SHOP}/large", "--header", "Accept-Encoding: gzip", "--head", "--request", "GET")
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()


def test_too_many_requests_are_refused(ask):
    statuses = [ask("http://limited.example.org/").status for _unused in range(5)]
    assert 429 in statuses


# --- Headers and TLS ---------------------------------------------------------------------------------------------------


def test_headers_of_every_answer(ask):
    for path in ("/", "/static/shop.css", "/static/missing"):
        headers = ask(f"{SHOP}{path}").headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
        assert headers["x-shop"] == 'open "now"'
        assert headers["server"] == "nginx", "without its version"
        assert "strict-transport-security" not in headers, (
            "a browser could not get past a self-signed certificate any more"
        )


def test_the_applications_own_header_wins(ask):
    assert ask(f"{SHOP}/own-header").headers["x-frame-options"] == "DENY"


def test_hsts_over_https_with_a_real_certificate(ask):
    assert ask("https://files.example.org/").headers["strict-transport-security"] == "max-age=31536000"
    over_http = ask("http://files.example.org/")
    assert over_http.status == 200, "tls.redirect is false"
    assert "strict-transport-security" not in over_http.headers


def handshake(host, name: str, *arguments: str) -> str:
    return host.run(
        f"openssl s_client -connect 127.0.0.1:443 -servername {name} {' '.join(arguments)} < /dev/null 2>&1"
    ).stdout


def test_each_site_has_its_certificate(host):
    assert "subject=CN = files.example.org" in handshake(host, "files.example.org").replace("CN=", "CN = ")
    assert "subject=CN = shop.example.org" in handshake(host, "shop.example.org").replace("CN=", "CN = ")


def test_the_self_signed_certificate(host):
    certificate = host.file("/etc/nginx/self-signed/shop.crt")
    key = host.file("/etc/nginx/self-signed/shop.key")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)
    assert certificate.mode == 0o644
    text = host.check_output(f"openssl x509 -noout -text -in {certificate.path}")
    assert "DNS:shop.example.org, DNS:www.shop.example.org" in text
    assert "id-ecPublicKey" in text
    assert "CA:FALSE" in text


def test_a_client_can_be_told_to_trust_it(host):
    command = "curl --silent --fail --output /dev/null --cacert /etc/nginx/self-signed/shop.crt"
    assert host.run(f"{command} --resolve shop.example.org:443:127.0.0.1 {SHOP}/").rc == 0


@pytest.mark.parametrize(("version", "accepted"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_versions_of_tls(host, version: str, accepted: bool):
    answer = handshake(host, "shop.example.org", f"-{version}", "-cipher", "'DEFAULT@SECLEVEL=0'")
    assert ("Verify return code" in answer and "Cipher is (NONE)" not in answer) is accepted


# --- Static files ------------------------------------------------------------------------------------------------------


def test_static_files_come_from_the_live_release(ask):
    answer = ask(f"{SHOP}/static/shop.css")
    assert answer.body == "/* new */"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "cache-control" not in answer.headers


def test_a_file_of_the_release_before_is_still_found(ask):
    assert ask(f"{SHOP}/static/only-old.css").body == "/* of the release before */"


def test_a_module_has_its_type(ask):
    assert ask(f"{SHOP}/static/module.mjs").headers["content-type"] == "application/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    ["/static/missing.css", "/static/", "/static", "/static/.secret", "/static/../.secret", "/static/%2e%2e/http.sock"],
)
def test_what_is_not_served(ask, path: str):
    answer = ask(f"{SHOP}{path}", "--path-as-is")
    # What leads out of the directory is none of its paths: the application answers.
    assert answer.status == 404 or json.loads(answer.body)["path"] == path


@pytest.mark.parametrize("path", ["/media/photo.txt", "/media/album/photo.txt", "/static/uploads/photo.txt"])
def test_what_was_uploaded_is_served(ask, path: str):
    answer = ask(f"{SHOP}{path}")
    assert (answer.status, answer.body) == (200, "uploaded\n")
    head = ask(f"{SHOP}{path}", "--head")
    assert (head.status, head.headers["content-length"]) == (200, "9")
    part = ask(f"{SHOP}{path}", "--range", "2-4")
    assert (part.status, part.body) == (206, "loa")
    assert ask(f"{SHOP}{path}", "--header", f"If-Modified-Since: {answer.headers['last-modified']}").status == 304


@pytest.mark.parametrize("place", ["/media", "/static/uploads"])
@pytest.mark.parametrize("name", ["file", "file/", "chain", "beside", "directory/passwd", "directory/", "file%0A"])
def test_no_link_is_followed_where_the_application_can_make_one(ask, place: str, name: str):
    assert ask(f"{SHOP}{place}/{name}", "--path-as-is").status in (403, 404)


def test_a_static_file_that_became_a_link_is_not_followed(ask):
    for path in ("/one.txt", "/one.txt/"):
        assert ask(f"{SHOP}{path}").status in (403, 404)


def test_a_link_of_the_release_is_followed(ask):
    assert ask(f"{SHOP}/static/linked.css").body == "/* new */"


# --- Logs --------------------------------------------------------------------------------------------------------------


def log_of(host, wanted: str) -> dict[str, Any]:
    for _unused in range(20):
        entries = [json.loads(line) for line in host.file(LOG).content_string.splitlines() if line.startswith("{")]
        found = [entry for entry in entries if entry["uri"] == wanted]
        if found:
            return found[-1]
        time.sleep(0.1)
    raise AssertionError(f"{wanted} is not in the log")


def test_the_access_log_has_one_json_object_a_line(host, ask):
    answer = ask(f"{SHOP}/log?q=%22quoted%22", "--user-agent", 'a "curious" \\ one')
    entry = log_of(host, "/log?q=%22quoted%22")
    assert entry["request_id"] == answer.seen["x-request-id"]
    assert entry["site"] == "shop"
    assert entry["host"] == "shop.example.org"
    assert (entry["scheme"], entry["method"], entry["status"], entry["protocol"]) == ("https", "GET", 200, "HTTP/2.0")
    assert entry["client"] == "127.0.0.1"
    assert entry["user_agent"] == 'a "curious" \\ one'
    assert entry["bytes"] == len(answer.body)
    assert entry["upstream_status"] == 200
    for part in ("connect", "header", "response"):
        assert isinstance(entry[f"upstream_{part}_time"], float)
    assert isinstance(entry["duration"], float)


def test_the_log_of_what_no_application_answered(host, ask):
    ask("http://unknown.example.org/nobody")
    entry = log_of(host, "/nobody")
    assert (entry["status"], entry["site"], entry["upstream_status"], entry["upstream_response_time"]) == (
        444,
        "-",
        None,
        None,
    )


def test_every_line_of_the_log_parses_even_of_nonsense(host):
    host.run(
        "printf '\\001\\002nonsense\\r\\n\\r\\n' | timeout 2 python3 -c 'import socket,sys; "
        'c=socket.create_connection(("127.0.0.1",80)); c.sendall(sys.stdin.buffer.read()); c.recv(100)\''
    )
    host.run(
        "printf 'GET /old\\r\\n' | timeout 2 python3 -c 'import socket,sys; "
        'c=socket.create_connection(("127.0.0.1",80)); c.sendall(sys.stdin.buffer.read()); c.recv(100)\''
    )
    time.sleep(0.2)
    lines = host.file(LOG).content_string.splitlines()
    ours = [json.loads(line) for line in lines if line.startswith("{")]
    assert {400} <= {entry["status"] for entry in ours}


def test_the_log_is_rotated(host):
    debug = host.run("logrotate --debug /etc/logrotate.d/nginx")
    assert f"considering log {LOG}" in debug.stdout + debug.stderr


# --- What was provoked -------------------------------------------------------------------------------------------------


def test_a_broken_snippet_is_refused_with_nginxs_words(seen):
    message = seen["broken"]
    assert 'unknown directive "proxy_pas" in /etc/nginx/sites-enabled/broken.conf:' in message
    assert re.search(r"> +\d+ +proxy_pas http://nowhere;", message), "the line itself is shown"
    assert "candidate" not in message


def test_what_is_refused_touches_nothing(seen):
    assert sorted(seen["before"]) == sorted(seen["after"])


def test_a_file_of_somebody_else_is_not_overwritten(seen):
    assert "/etc/nginx/sites-enabled/taken.conf is there and was not written by this role" in seen["taken"]


def test_all_errors_are_told_at_once(seen):
    message = seen["errors"]
    assert message.startswith("5 errors in the sites, nothing was changed")
    assert "nginx_sites[0].server_name: unknown key, did you mean server_names?" in message
    assert "nginx_sites[0].upstream: expected unix:/PATH or HOST:PORT (without a scheme)" in message
    assert "nginx_sites[1].tls.mode: expected one of self_signed, files, none, did you mean files?" in message
    assert "nginx_sites[2] (three): is a default server, as nginx_sites[0] (one) is" in message


def test_a_certificate_is_made_anew_only_for_other_names(seen):
    assert seen["first"] == seen["same"]
    assert seen["other"] != seen["first"]
    assert "DNS:a.example.org, DNS:b.example.org" in seen["other"]


def test_a_configuration_that_nginx_cannot_take_is_told(seen):
    assert "goes on with the old one" in seen["squatted"]
    assert "bind() to 0.0.0.0:8099 failed" in seen["squatted"]


def test_an_absent_site_leaves_nothing(host, ask):
    for path in ("sites-enabled/extra.conf", "self-signed/extra.crt", "self-signed/extra.key"):
        assert not host.file(f"/etc/nginx/{path}").exists
    assert ask("https://a.example.org/").code == 35


def test_the_rest_of_a_killed_run_is_gone(host):
    assert not host.file("/run/flaskops-nginx.reload").exists
    assert host.check_output("find /etc -name '*candidate*'") == ""


def test_reloads_never_restarted_it(host):
    state = host.check_output("systemctl show --property=ActiveEnterTimestampMonotonic nginx")
    assert state == host.file("/run/nginx-before").content_string.strip()
    before = set(host.file("/run/workers-before").content_string.split())
    assert not before & set(host.check_output('pgrep --parent "$(cat /run/nginx.pid)"').split()), "the workers are new"


def test_the_configuration_is_sound(host):
    done = host.run("nginx -t")
    assert done.rc == 0
    assert "[warn]" not in done.stderr


def test_it_runs_and_starts_at_boot(host):
    nginx = host.service("nginx")
    assert nginx.is_running
    assert nginx.is_enabled


def test_the_distributions_configuration_is_kept_aside(host):
    assert "include /etc/nginx/sites-enabled/*;" in host.file("/etc/nginx/nginx.conf.orig").content_string
