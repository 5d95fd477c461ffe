"""A small tea shop: a catalogue, a cart in the session, orders in a database.

Settings come from the environment (see README.md); ``create_app()`` is the only entry point.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from . import database, status, store

ROOT = Path(__file__).absolute().parent.parent


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Build the application.

    ``config`` overrides the environment, key by key; tests pass ``TESTING`` and ``DATABASE_URL`` there.
    Raises RuntimeError when no secret key is set, except for tests and ``flask --debug``.
    """
    app = Flask(__name__, instance_path=str(ROOT / "instance"))
    app.config.from_mapping(
        SECRET_KEY=read_secret("SHOP_SECRET_KEY"),
        DATABASE_URL=database.url_from_environment(),
        VERSION=os.environ.get("SHOP_VERSION") or (ROOT / "VERSION").read_text().strip(),
        TRUSTED_PROXIES=int(os.environ.get("SHOP_TRUSTED_PROXIES", "0")),
        MAX_CONTENT_LENGTH=1024 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=os.environ.get("SHOP_COOKIE_SECURE", "1") == "1",
    )
    app.config.update(config or {})
    if app.debug or app.testing:
        app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or "only for development"
        app.config["SESSION_COOKIE_SECURE"] = False
    if not app.config["SECRET_KEY"]:
        raise RuntimeError("SHOP_SECRET_KEY is not set: the shop signs its session cookies with it")

    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)  # type: ignore[method-assign]
    database.init_app(app)
    app.register_blueprint(status.blueprint)
    app.register_blueprint(store.blueprint)
    return app


def read_secret(name: str) -> str | None:
    """Return a secret from the environment, or from a systemd credential of the same name."""
    if value := os.environ.get(name):
        return value
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory, name)
        if credential.is_file():
            return credential.read_text().strip()
    return None
