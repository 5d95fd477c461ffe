"""The database: its address, its tables, and one session per request."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, current_app, g
from sqlalchemy import ForeignKey, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

INSTANCE = Path(__file__).absolute().parent.parent / "instance"


class Base(DeclarativeBase):
    """Everything Alembic compares the database with."""


class Product(Base):
    """Something to buy; ``price`` is in cents."""

    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    origin: Mapped[str]
    blurb: Mapped[str]
    tone: Mapped[str]
    price: Mapped[int]


class Order(Base):
    """A placed order. Its ``token`` is the unguessable name in its address."""

    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    customer: Mapped[str]
    placed_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    lines: Mapped[list[OrderLine]] = relationship(cascade="all, delete-orphan")

    @property
    def total(self) -> int:
        """The sum, in cents."""
        return sum(line.price * line.quantity for line in self.lines)


class OrderLine(Base):
    """One product of an order, at the price it had on that day (cents)."""

    __tablename__ = "order_line"

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id), primary_key=True)
    quantity: Mapped[int]
    price: Mapped[int]
    product: Mapped[Product] = relationship()


def url_from_environment() -> str:
    """Return DATABASE_URL, or the address of a SQLite file in the instance directory."""
    return os.environ.get("DATABASE_URL") or f"sqlite:///{INSTANCE / 'shop.sqlite'}"


def connect(url: str) -> Engine:
    """Return an engine for ``url``; SQLite is told to wait for locks and to keep foreign keys."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    if url == f"sqlite:///{INSTANCE / 'shop.sqlite'}":
        INSTANCE.mkdir(exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 15})

    @event.listens_for(engine, "connect")
    def tune(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


def init_app(app: Flask) -> None:
    """Give ``app`` an engine, and close each request's session when the request ends."""
    app.extensions["engine"] = connect(app.config["DATABASE_URL"])

    @app.teardown_appcontext
    def close(_error: BaseException | None) -> None:
        if session := g.pop("session", None):
            session.close()


def session() -> Session:
    """Return this request's session."""
    if "session" not in g:
        g.session = Session(current_app.extensions["engine"])
    current: Session = g.session
    return current
