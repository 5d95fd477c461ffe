"""What people see: the catalogue, the cart and the order."""

from __future__ import annotations

import secrets

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask import session as cookie
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.exc import DatabaseError

from .database import Order, OrderLine, Product, session

MOST = 99
blueprint = Blueprint("store", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The catalogue with the cart beside it."""
    return page()


@blueprint.post("/cart")
def add() -> ResponseReturnValue:
    """Put ``quantity`` of ``product`` into the cart; a negative quantity takes out."""
    product = request.form.get("product", type=int)
    quantity = request.form.get("quantity", default=1, type=int)
    if product is None or session().get(Product, product) is None:
        abort(404, "There is no such product.")
    cart = dict(cookie.get("cart", {}))
    cart[str(product)] = min(MOST, cart.get(str(product), 0) + quantity)
    cookie["cart"] = {key: count for key, count in cart.items() if count > 0}
    return redirect(url_for(".index", _anchor="cart"), 303)


@blueprint.post("/order")
def order() -> ResponseReturnValue:
    """Turn the cart into an order."""
    customer = request.form.get("customer", "").strip()[:80]
    lines = cart_lines()
    if not customer or not lines:
        flash("Your cart is empty." if not lines else "Please tell us your name.")
        return page(), 400
    placed = Order(token=secrets.token_urlsafe(12), customer=customer, lines=lines)
    session().add(placed)
    session().commit()
    cookie.pop("cart", None)
    return redirect(url_for(".receipt", token=placed.token), 303)


@blueprint.get("/orders/<token>")
def receipt(token: str) -> ResponseReturnValue:
    """A placed order, for whoever knows its token."""
    placed = session().scalar(select(Order).where(Order.token == token))
    if placed is None:
        abort(404, "There is no such order.")
    return render_template("receipt.html", order=placed)


@blueprint.app_errorhandler(DatabaseError)
def database_error(error: DatabaseError) -> ResponseReturnValue:
    """Say 503 instead of 500 while the database is away or not migrated yet."""
    current_app.logger.error("database: %s", error)
    return render_template("error.html", title="Back in a moment", text="The shop cannot reach its shelves."), 503


@blueprint.app_errorhandler(404)
def not_found(error: Exception) -> ResponseReturnValue:
    """A page that looks like the shop."""
    return render_template("error.html", title="Nothing here", text="The page may have been drunk already."), 404


@blueprint.app_template_filter()
def money(cents: int) -> str:
    """Render cents: ``1250`` is ``€12.50``."""
    return f"€{cents / 100:.2f}"


@blueprint.app_context_processor
def version() -> dict[str, str]:
    """The footer shows which version answered."""
    return {"version": current_app.config["VERSION"]}


def cart_lines() -> list[OrderLine]:
    """Return the cart of this visitor as order lines; products that are gone are left out."""
    cart = cookie.get("cart", {})
    products = session().scalars(select(Product).where(Product.id.in_([int(key) for key in cart])).order_by(Product.id))
    return [OrderLine(product=found, quantity=cart[str(found.id)], price=found.price) for found in products]


def page() -> str:
    """Render the catalogue with the cart."""
    lines = cart_lines()
    total = sum(line.price * line.quantity for line in lines)
    products = session().scalars(select(Product).order_by(Product.id)).all()
    return render_template("index.html", products=products, lines=lines, total=total)
