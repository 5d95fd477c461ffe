"""An application for the tests: it answers every kind of request, shows how it was deployed, and breaks on demand.

What goes wrong is decided by ``behaviour.py``; README.md lists the variants.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import behaviour
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

HERE = Path(__file__).absolute().parent
LONGEST = 120.0


def create_app() -> Flask:
    """Build the application; PROBE_START_SECONDS delays it."""
    time.sleep(float(os.environ.get("PROBE_START_SECONDS", "0")))
    if starting := getattr(behaviour, "starting", None):
        starting()
    app = Flask(__name__)

    @app.get("/")
    def index() -> ResponseReturnValue:
        return f"probe {version()}\n", {"Content-Type": "text/plain"}

    @app.get("/version")
    def show_version() -> ResponseReturnValue:
        return {"app": "probe", "version": version(), "pid": os.getpid(), "python": platform.python_version()}

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        health = getattr(behaviour, "health", None)
        body, status = health() if health else ("ok", int(os.environ.get("PROBE_HEALTH_STATUS", "200")))
        answer = Response(f"{body}\n", status, mimetype="text/plain")
        if answered := getattr(behaviour, "answered", None):
            answer.call_on_close(answered)
        return answer

    @app.get("/slow")
    def slow() -> ResponseReturnValue:
        """Answer after ``seconds``."""
        time.sleep(min(LONGEST, request.args.get("seconds", 1.0, type=float)))
        return {"version": version()}

    @app.post("/echo")
    def echo() -> ResponseReturnValue:
        """Say what was received, read piece by piece."""
        digest, length = hashlib.sha256(), 0
        while piece := request.stream.read(65536):
            digest.update(piece)
            length += len(piece)
        return {"sha256": digest.hexdigest(), "length": length}

    @app.get("/stream")
    def stream() -> ResponseReturnValue:
        """Send ``lines`` lines over ``seconds``; the last one is ``end``."""
        lines = request.args.get("lines", 5, type=int)
        pause = min(LONGEST, request.args.get("seconds", 0.0, type=float)) / max(1, lines)

        def body() -> Iterator[str]:
            for number in range(lines):
                time.sleep(pause)
                yield f"{number}\n"
            yield "end\n"

        return Response(body(), mimetype="text/plain")

    @app.get("/whoami")
    def whoami() -> ResponseReturnValue:
        """The request as the application sees it."""
        return {
            "url": request.url,
            "scheme": request.scheme,
            "host": request.host,
            "remote_addr": request.remote_addr,
            "headers": dict(request.headers),
        }

    @app.get("/process")
    def process() -> ResponseReturnValue:
        """Who runs the application, and from where."""
        return {"uid": os.getuid(), "gid": os.getgid(), "code": str(HERE), "venv": sys.prefix, "cwd": str(Path.cwd())}

    @app.get("/setting/<name>")
    def setting(name: str) -> ResponseReturnValue:
        """A setting or a secret as it reached the process; only names that begin with PROBE_."""
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), name)
        if not name.startswith("PROBE_"):
            return {"error": "only PROBE_ names are shown"}, 403
        return {
            "environment": os.environ.get(name),
            "credential": credential.read_text() if credential.is_file() else None,
        }

    @app.get("/installed/<name>")
    def installed(name: str) -> ResponseReturnValue:
        """The version of a package in the virtualenv."""
        try:
            return {"name": name, "installed": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            return {"name": name, "installed": None}, 404

    @app.get("/writable")
    def writable() -> ResponseReturnValue:
        """Whether the process can make a file in the directory ``path`` (relative: to the code)."""
        path = HERE / request.args.get("path", ".") / f".probe-{os.getpid()}"
        try:
            path.touch()
            path.unlink()
        except OSError as error:
            return {"path": str(path.parent), "writable": False, "error": str(error)}
        return {"path": str(path.parent), "writable": True}

    return app


def version() -> str:
    """PROBE_VERSION, else the first line of the file VERSION."""
    return os.environ.get("PROBE_VERSION") or (HERE / "VERSION").read_text().strip()


if getattr(behaviour, "WITHOUT_CALLABLE", False):
    del create_app
