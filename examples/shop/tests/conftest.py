"""A shop on a migrated SQLite file, one per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from flask import Flask
from flask.testing import FlaskClient

from shop import create_app

ROOT = Path(__file__).parent.parent


@pytest.fixture
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, named in the environment as on a server."""
    url = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@pytest.fixture
def alembic(database_url: str) -> Config:
    """The shop's own Alembic configuration."""
    return Config(ROOT / "alembic.ini")


@pytest.fixture
def app(alembic: Config) -> Iterator[Flask]:
    """The shop, migrated."""
    command.upgrade(alembic, "head")
    app = create_app({"TESTING": True})
    yield app
    app.extensions["engine"].dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor."""
    return app.test_client()
