"""What machines ask: is it healthy, which version is it, how does it see a request."""

from __future__ import annotations

import platform

from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from .database import session

blueprint = Blueprint("status", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200 when the database answers, else 503.

    It asks for no table: a new release is verified before its migrations have run.
    """
    try:
        session().execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        current_app.logger.error("healthz: %s", error)
        return {"status": "error", "database": type(error).__name__}, 503
    return {"status": "ok", "database": "ok"}


@blueprint.get("/version")
def version() -> ResponseReturnValue:
    """Which version of the shop answers, and on which Python."""
    return {"app": "shop", "version": current_app.config["VERSION"], "python": platform.python_version()}


@blueprint.get("/whoami")
def whoami() -> ResponseReturnValue:
    """The request as the application sees it: right only if the proxy in front is trusted rightly."""
    return {
        "url": request.url,
        "scheme": request.scheme,
        "host": request.host,
        "remote_addr": request.remote_addr,
        "secure": request.is_secure,
    }
