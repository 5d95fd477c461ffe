"""The shop, asked as visitors and machines ask it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.database import Order

ROOT = Path(__file__).parent.parent


def orders(app: Flask) -> int:
    """How many orders the database holds."""
    with Session(app.extensions["engine"]) as session:
        return session.scalar(select(func.count()).select_from(Order)) or 0


def test_the_catalogue_and_its_static_files(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "Dragon Well" in page.text
    assert "€16.80" in page.text
    for name in ("shop.css", "shop.js", "leaf.svg", "cup.svg"):
        assert f"/static/{name}" in page.text
        with client.get(f"/static/{name}") as answer:
            assert answer.status_code == 200


def test_cart_and_order(app: Flask, client: FlaskClient) -> None:
    client.post("/cart", data={"product": 1, "quantity": 2})
    page = client.post("/cart", data={"product": 6}, follow_redirects=True)
    assert "2 \u00d7 First Flush" in page.text
    assert "€36.60" in page.text
    page = client.post("/order", data={"customer": "Ada <b>"}, follow_redirects=True)
    assert "Thank you, Ada &lt;b&gt;." in page.text
    assert "€36.60" in page.text
    assert orders(app) == 1
    assert "Nothing yet" in client.get("/").text


def test_taking_out_of_the_cart(client: FlaskClient) -> None:
    client.post("/cart", data={"product": 1})
    assert "Nothing yet" in client.post("/cart", data={"product": 1, "quantity": -1}, follow_redirects=True).text


@pytest.mark.parametrize("cart", [True, False])
def test_an_order_needs_a_cart_and_a_name(app: Flask, client: FlaskClient, cart: bool) -> None:
    if cart:
        client.post("/cart", data={"product": 1})
    assert client.post("/order", data={"customer": "" if cart else "Ada"}).status_code == 400
    assert orders(app) == 0


def test_unknown_things(client: FlaskClient) -> None:
    assert client.post("/cart", data={"product": 999}).status_code == 404
    assert client.post("/cart", data={"product": "x"}).status_code == 404
    assert client.get("/orders/none").status_code == 404


def test_health_needs_no_migration(make_app: Callable[..., Flask]) -> None:
    client = make_app().test_client()
    assert client.get("/healthz").json == {"status": "ok", "database": "ok"}
    assert client.get("/").status_code == 503


def test_health_sees_a_lost_database(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    lost = f"sqlite:///{tmp_path / 'none' / 'shop.sqlite'}"
    answer = make_app(TESTING=True, DATABASE_URL=lost).test_client().get("/healthz")
    assert answer.status_code == 503
    assert answer.json == {"status": "error", "database": "OperationalError"}


def test_version(make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_app().test_client().get("/version").json["version"] == ROOT.joinpath("VERSION").read_text().strip()
    monkeypatch.setenv("SHOP_VERSION", "2.0.0-test")
    assert make_app().test_client().get("/version").json["version"] == "2.0.0-test"


@pytest.mark.parametrize(
    ("trusted", "scheme", "address"), [(0, "http", "127.0.0.1"), (1, "https", "192.0.2.7")], ids=["direct", "proxied"]
)
def test_whoami(make_app: Callable[..., Flask], trusted: int, scheme: str, address: str) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Forwarded-Proto": "https"}
    client = make_app(TESTING=True, TRUSTED_PROXIES=trusted).test_client()
    assert client.get("/whoami?a=b", headers=headers).json == {
        "url": f"{scheme}://localhost/whoami?a=b",
        "scheme": scheme,
        "host": "localhost",
        "remote_addr": address,
        "secure": scheme == "https",
    }


def test_the_secret_key(make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHOP_SECRET_KEY", raising=False)
    with pytest.raises(RuntimeError, match="SHOP_SECRET_KEY is not set"):
        make_app(TESTING=False)
    tmp_path.joinpath("SHOP_SECRET_KEY").write_text("from a credential\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert make_app(TESTING=False).secret_key == "from a credential"
    monkeypatch.setenv("SHOP_SECRET_KEY", "from the environment")
    app = make_app(TESTING=False)
    assert app.secret_key == "from the environment"
    assert app.config["SESSION_COOKIE_SECURE"]


def test_migrations_match_the_models_and_go_both_ways(alembic: Config) -> None:
    command.upgrade(alembic, "head")
    command.check(alembic)
    command.downgrade(alembic, "base")
    command.upgrade(alembic, "head")
