"""A load client that counts exactly what visitors would have noticed while an application is redeployed.

It sends requests of several kinds at once, from threads: short ones (a new connection each), keep-alive ones (with idle
pauses between), POST bodies that are small, large, or sent slowly, slow answers and streams. Nothing is retried: what
fails is counted, with its kind. The one thing that is no failure is a kept-alive connection that the server closed
while it was idle, because every HTTP client opens another one then; it is counted apart, as ``cut``.

Only the standard library is used, Python 3.11 or newer. As a module::

    with Load(Target("127.0.0.1", 8080), [Lane("short", "/"), Lane("post", "/echo")], rate=100) as load:
        redeploy()
    assert load.summary.failed == 0

As a command, until the stop file appears, a signal comes or the time is over::

    client.py --host 172.17.0.2 --port 443 --tls --name shop.test --short / --keep-alive /version --post /echo \\
        --slow '/slow?seconds=2' --rate 100 --seconds 600 --stop-file /tmp/stop --ready-file /tmp/ready --out load.json
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Literal, Self, get_args
from urllib.parse import parse_qs, urlsplit

Kind = Literal["short", "keep-alive", "post", "large", "slow-body", "slow", "stream"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FAILURES = ("refused", "reset", "closed", "timeout", "tls", "status", "short_body", "wrong_body", "other")
"""What can go wrong. ``closed`` is a connection closed before the answer's first byte, ``status`` one outside 200-399,
``short_body`` an answer that ends early, ``wrong_body`` one that is not what was asked for."""

CUT_WITHIN = 0.5
"""Seconds. A reused connection that fails this soon after the request was sent had been closed while it was idle; one
that fails later had been read, and is a failure."""

SAMPLES = 50
"""How many failures are kept with their details; all of them are counted."""


@dataclass(frozen=True)
class Target:
    """Where to connect, and under which name: ``name`` is the Host header and, with ``tls``, the SNI name."""

    host: str
    port: int
    tls: bool = False
    name: str | None = None


@dataclass(frozen=True)
class Lane:
    """One kind of request to one path, sent by ``workers`` threads with ``pause`` seconds (on average) between.

    ``expect`` is a text that a good answer contains. ``size`` is the length of a POST body in bytes, ``seconds`` how
    long a slow body takes to send. ``None`` means the kind's own default.
    """

    kind: Kind
    path: str
    workers: int = 2
    pause: float | None = None
    expect: str | None = None
    size: int | None = None
    seconds: float = 2.0

    PAUSES: ClassVar[dict[str, float]] = {"keep-alive": 0.5, "large": 0.5, "stream": 0.1}
    SIZES: ClassVar[dict[str, int]] = {"post": 512, "large": 2 * 1024 * 1024, "slow-body": 16 * 1024}

    def mean_pause(self) -> float:
        """Return the seconds to rest between two requests, on average."""
        return self.PAUSES.get(self.kind, 0.0) if self.pause is None else self.pause

    def body_size(self) -> int | None:
        """Return the length of the body in bytes, ``None`` for a request without one."""
        return self.SIZES.get(self.kind) if self.size is None or self.kind not in self.SIZES else self.size

    def asked_delay(self) -> float:
        """Return the seconds that this lane asks to be kept waiting: a slow body, or ``?seconds=`` in the path."""
        if self.kind == "slow-body":
            return self.seconds
        asked = parse_qs(urlsplit(self.path).query).get("seconds", ["0"])[0]
        return float(asked) if self.kind in ("slow", "stream") else 0.0


@dataclass
class LaneCount:
    """What one kind of request met. ``longest_wait`` is in seconds, without the delay that was asked for."""

    requests: int = 0
    failed: int = 0
    longest_wait: float = 0.0


@dataclass
class Sighting:
    """How often a release answered, and when it did first and last (seconds since the start)."""

    count: int
    first: float
    last: float


@dataclass
class Summary:
    """What happened, as it goes into the JSON file. Times are in seconds."""

    started: float
    seconds: float = 0.0
    requests: int = 0
    failed: int = 0
    cut: int = 0
    longest_wait: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, LaneCount] = field(default_factory=dict)
    versions: dict[str, Sighting] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.failures.items())) or "none"
        return (
            f"{self.requests} requests in {self.seconds:.1f} s, {self.failed} failed ({kinds}), "
            f"{self.cut} idle connections cut, longest wait {self.longest_wait:.2f} s, "
            f"versions {', '.join(self.versions) or 'none'}"
        )


class RequestError(Exception):
    """A request that failed; ``kind`` is one of FAILURES."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class IdleCutError(Exception):
    """The server had closed a kept-alive connection before this request reached it."""


class Load:
    """Requests being sent; a context manager, or ``start()`` and ``finish()``.

    ``rate`` limits all lanes together, in requests a second; ``seconds`` and ``most`` bound the run in time and in
    requests; ``timeout`` (seconds) bounds each wait of a request.
    """

    def __init__(
        self,
        target: Target,
        lanes: Sequence[Lane],
        *,
        rate: float | None = 100.0,
        seconds: float = 3600.0,
        most: int | None = None,
        timeout: float = 15.0,
    ) -> None:
        if not lanes:
            raise ValueError("nothing to do: no lane was given")
        self.target = target
        self.lanes = list(lanes)
        self.rate = rate
        self.seconds = seconds
        self.most = most
        self.timeout = timeout
        self.summary = Summary(started=time.time())
        self.answered = threading.Event()
        self.over = threading.Event()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._next_slot = 0.0
        self._taken = 0
        self._failures: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def start(self) -> Self:
        """Send until ``finish()``, or until the time or the number of requests is used up."""
        self.summary = Summary(started=time.time())
        self._began = time.monotonic()
        for lane in self.lanes:
            for number in range(lane.workers):
                name = f"{lane.kind} {lane.path} {number}"
                self._threads.append(threading.Thread(target=self._work, args=(lane,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def finish(self) -> Summary:
        """Send nothing more, let what is on its way end, and return what happened."""
        self.over.set()
        for thread in self._threads:
            thread.join()
        with self._lock:
            self.summary.seconds = self._now()
            self.summary.failed = sum(self._failures.values())
            self.summary.failures = dict(self._failures)
            self.summary.statuses = dict(self._statuses)
        return self.summary

    def wait(self, done: Callable[[], bool] = lambda: False, poll: float = 0.1) -> Summary:
        """Return the summary once the bounds are reached or ``done()`` says so, asked every ``poll`` seconds."""
        while any(thread.is_alive() for thread in self._threads) and not done():
            time.sleep(poll)
        return self.finish()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _may_send(self) -> bool:
        """Wait for the next free slot of the rate; false when the run is over."""
        with self._lock:
            if self.most is not None and self._taken >= self.most:
                return False
            self._taken += 1
            slot = max(self._next_slot, self._now())
            self._next_slot = slot + (1 / self.rate if self.rate else 0)
        if slot >= self.seconds or self.over.wait(max(0.0, slot - self._now())):
            with self._lock:
                self._taken -= 1
            return False
        return True

    def _work(self, lane: Lane) -> None:
        """Send one lane's requests, one after the other, on this thread."""
        worker = Worker(self.target, lane, self.timeout, self._context)
        while self._may_send():
            begun = time.monotonic()
            error: RequestError | None = None
            status: int | None
            try:
                status, body = worker.send()
            except IdleCutError:
                with self._lock:
                    self.summary.cut += 1
                    self._taken -= 1
                continue
            except RequestError as caught:
                error, status, body = caught, worker.status, b""
            except Exception as bug:  # a thread that dies would count nothing from here on
                error, status, body = RequestError("other", repr(bug)), worker.status, b""
                worker.close()
            self._record(lane, max(0.0, time.monotonic() - begun - lane.asked_delay()), status, body, error)
            if (pause := lane.mean_pause()) and self.over.wait(random.uniform(0, 2 * pause)):
                break
        worker.close()

    def _record(self, lane: Lane, wait: float, status: int | None, body: bytes, error: RequestError | None) -> None:
        version = None if error else find_version(body)
        with self._lock:
            now = self._now()
            kind = self.summary.kinds.setdefault(lane.kind, LaneCount())
            kind.requests += 1
            self.summary.requests += 1
            kind.longest_wait = max(kind.longest_wait, wait)
            self.summary.longest_wait = max(self.summary.longest_wait, wait)
            if status is not None:
                self._statuses[str(status)] += 1
            if version is not None:
                seen = self.summary.versions.setdefault(version, Sighting(0, now, now))
                seen.count += 1
                seen.last = now
            if error is not None:
                kind.failed += 1
                self._failures[error.kind] += 1
                if len(self.summary.samples) < SAMPLES:
                    sample = {"at": round(now, 3), "lane": lane.kind, "path": lane.path, "kind": error.kind}
                    self.summary.samples.append({**sample, "detail": str(error), "waited": round(wait, 3)})
        if error is None:
            self.answered.set()


class Worker:
    """One thread's client: it holds the kept-alive connection, where its lane keeps one."""

    def __init__(self, target: Target, lane: Lane, timeout: float, context: ssl.SSLContext) -> None:
        self.target = target
        self.lane = lane
        self.timeout = timeout
        self.context = context
        self.connection: http.client.HTTPConnection | None = None
        self.status: int | None = None
        self.body = os.urandom(lane.body_size() or 0)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send(self) -> tuple[int, bytes]:
        """Send one request and check its answer.

        Returns the status and the body. Raises RequestError when it failed, IdleCutError when a kept-alive connection
        turned out to be closed.
        """
        self.status = None
        reused = self.connection is not None
        if self.connection is not None and has_ended(self.connection.sock):
            self.close()
            raise IdleCutError
        sent = time.monotonic()
        try:
            if self.connection is None:
                self.connection = self._connect()
            sent = self._write(self.connection)
            with self.connection.getresponse() as response:
                self.status = response.status
                answer = response.read()
                if response.will_close or self.lane.kind != "keep-alive":
                    self.close()
            self._check(response.status, response.headers.get_content_type(), answer)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            kind = failure_kind(error)
            early = self.status is None and time.monotonic() - sent < CUT_WITHIN
            if reused and early and kind in ("closed", "reset"):
                raise IdleCutError from error
            raise RequestError(kind, f"{type(error).__name__}: {error}") from error
        return response.status, answer

    def _connect(self) -> http.client.HTTPConnection:
        """Open a connection to the target, with the name it is to be called by."""
        opened = socket.create_connection((self.target.host, self.target.port), timeout=self.timeout)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(self.target.host, self.target.port, timeout=self.timeout)
        connection.auto_open = 0
        connection.sock = opened
        if self.target.tls:
            try:
                name = self.target.name or self.target.host
                connection.sock = self.context.wrap_socket(opened, server_hostname=name)
            except BaseException:
                opened.close()
                raise
        return connection

    def _write(self, connection: http.client.HTTPConnection) -> float:
        """Send the request and return when its first bytes went out (seconds of the monotonic clock)."""
        size = self.lane.body_size()
        connection.putrequest("GET" if size is None else "POST", self.lane.path, skip_host=True)
        connection.putheader("Host", self.target.name or f"{self.target.host}:{self.target.port}")
        connection.putheader("User-Agent", "flaskops-load")
        connection.putheader("Connection", "keep-alive" if self.lane.kind == "keep-alive" else "close")
        if size is not None:
            connection.putheader("Content-Type", "application/octet-stream")
            connection.putheader("Content-Length", str(size))
        sent = time.monotonic()
        connection.endheaders()
        pieces = 20 if self.lane.kind == "slow-body" else 1
        step = max(1, -(-len(self.body) // pieces))
        try:
            for start in range(0, len(self.body), step):
                if pieces > 1:
                    time.sleep(self.lane.seconds / pieces)
                connection.send(self.body[start : start + step])
        except (BrokenPipeError, ConnectionResetError):
            # The server stopped reading; when it said why, that is the better answer.
            if not is_readable(connection.sock):
                raise
        return sent

    def _check(self, status: int, content_type: str, answer: bytes) -> None:
        """Raise RequestError when an answer that came whole is not a good one."""
        if not 200 <= status < 400:
            raise RequestError("status", f"{status}: {answer[:200].decode('utf-8', 'replace')}")
        if self.lane.expect is not None and self.lane.expect.encode() not in answer:
            raise RequestError("wrong_body", f"no {self.lane.expect!r} in {answer[:200]!r}")
        if content_type != "application/json":
            return
        try:
            document = json.loads(answer)
        except ValueError as error:
            raise RequestError("wrong_body", f"not JSON: {answer[:200]!r}") from error
        if self.lane.body_size() is not None and isinstance(document, dict) and "sha256" in document:
            right = {"sha256": hashlib.sha256(self.body).hexdigest(), "length": len(self.body)}
            got = {key: document.get(key) for key in right}
            if got != right:
                raise RequestError("wrong_body", f"sent {right}, the server got {got}")


def is_readable(connected: socket.socket) -> bool:
    """Say whether reading would return at once: something was received, or the other side ended the connection."""
    poll = select.poll()
    poll.register(connected, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def has_ended(connected: socket.socket) -> bool:
    """Say whether the other side closed an idle connection."""
    if not is_readable(connected):
        return False
    if isinstance(connected, ssl.SSLSocket):
        timeout = connected.gettimeout()
        connected.settimeout(0)
        try:
            # Session tickets make a TLS socket readable without any application data.
            return connected.recv(1) == b""
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            connected.settimeout(timeout)
    try:
        return connected.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def failure_kind(error: BaseException) -> str:
    """Return which of FAILURES an exception of the standard library stands for."""
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (http.client.IncompleteRead, "short_body"),
        (http.client.RemoteDisconnected, "closed"),
        (http.client.BadStatusLine, "short_body"),
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (TimeoutError, "timeout"),
        (ssl.SSLEOFError, "closed"),
        (ssl.SSLError, "tls"),
    )
    return next((kind for known, kind in kinds if isinstance(error, known)), "other")


def find_version(body: bytes) -> str | None:
    """Return the release that an answer names: ``version`` in a JSON object."""
    if not body.startswith(b"{"):
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return None
    version = document.get("version") if isinstance(document, dict) else None
    return None if version is None else str(version)


def run(
    target: Target,
    lanes: Sequence[Lane],
    *,
    seconds: float,
    rate: float | None = 100.0,
    most: int | None = None,
    timeout: float = 15.0,
) -> Summary:
    """Send for ``seconds``, or until ``most`` requests went out, and return what happened. Parameters as for Load."""
    return Load(target, lanes, rate=rate, seconds=seconds, most=most, timeout=timeout).start().wait()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Send requests of every kind and count what fails.")
    parser.add_argument("--host", required=True, help="address to connect to")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls", action="store_true", help="HTTPS; the certificate is not verified")
    parser.add_argument("--name", help="Host header and SNI name (default: the address)")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="PATH", help=f"{kind} requests to PATH")
    parser.add_argument("--expect", nargs=2, action="append", default=[], metavar=("PATH", "TEXT"))
    parser.add_argument("--workers", type=int, default=2, help="threads for each path (default: 2)")
    parser.add_argument("--pause", type=float, help="seconds between two requests of a thread (default: by kind)")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, all together; 0: no limit")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long at most")
    parser.add_argument("--most", type=int, help="how many requests at most")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds that one wait of a request may take")
    parser.add_argument("--large-bytes", type=int, help="length of a large body")
    parser.add_argument("--slow-seconds", type=float, default=2.0, help="how long a slow body takes to send")
    parser.add_argument("--stop-file", type=Path, help="stop when this file exists")
    parser.add_argument("--ready-file", type=Path, help="written with the process id after the first good answer")
    parser.add_argument("--out", type=Path, help="write the JSON summary here (default: standard output)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a request failed")
    options = parser.parse_args(arguments)
    if not any(getattr(options, kind.replace("-", "_")) for kind in KINDS):
        parser.error("name at least one path, such as --short /")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(arguments)
    expected = dict(options.expect)
    lanes = [
        Lane(
            kind,
            path,
            workers=options.workers,
            pause=options.pause,
            expect=expected.get(path),
            size=options.large_bytes if kind == "large" else None,
            seconds=options.slow_seconds,
        )
        for kind in KINDS
        for path in getattr(options, kind.replace("-", "_"))
    ]
    load = Load(
        Target(options.host, options.port, options.tls, options.name),
        lanes,
        rate=options.rate or None,
        seconds=options.seconds,
        most=options.most,
        timeout=options.timeout,
    )
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    def done() -> bool:
        if options.ready_file and load.answered.is_set() and not options.ready_file.exists():
            replace(options.ready_file, f"{os.getpid()}\n")
        return stopped.is_set() or bool(options.stop_file and options.stop_file.exists())

    summary = load.start().wait(done)
    if options.out:
        replace(options.out, summary.to_json())
        print(summary)
    else:
        print(summary.to_json(), end="")
    return 1 if options.strict and summary.failed else 0


def replace(path: Path, text: str) -> None:
    """Write a file so that nobody reads half of it."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
