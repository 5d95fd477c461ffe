"""A shop on a migrated SQLite file, one per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
def make_app(database_url: str) -> Iterator[Callable[..., Flask]]:
    """Makes shops from settings, for tests where nothing else is said, and closes their databases afterwards."""
    made: list[Flask] = []

    def make(**settings: Any) -> Flask:
        made.append(create_app(settings or {"TESTING": True}))
        return made[-1]

    yield make
    for app in made:
        app.extensions["engine"].dispose()


@pytest.fixture
def app(alembic: Config, make_app: Callable[..., Flask]) -> Flask:
    """The shop, migrated."""
    command.upgrade(alembic, "head")
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor."""
    return app.test_client()
