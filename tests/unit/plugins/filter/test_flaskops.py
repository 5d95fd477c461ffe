# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters of the collection's templates and playbooks."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.filter.flaskops import (
    FilterModule,
    first_to_build,
    first_with_app,
    python_literal,
    registry_logins,
    report,
)


@pytest.mark.parametrize(
    "value",
    [None, True, 5, 1.5, "a'b\"c\n{{ x }}", ["a", None], {"a": [True, {"b": "ü"}]}, "'''", "\\", ("a",)],
)
def test_python_literal(value: Any) -> None:
    class Tagged(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "no source"

    assert ast.literal_eval(python_literal(value)) == (list(value) if isinstance(value, tuple) else value)
    assert python_literal(Tagged("x")) == "'x'"


def proved(**pending: bool) -> dict[str, Any]:
    return {"flask_proved": {"results": [{"item": name, "pending": wait} for name, wait in pending.items()]}}


@pytest.mark.parametrize(("name", "host"), [("shop", "two"), ("blog", "one"), ("wiki", None)])
def test_first_with_app(name: str, host: str | None) -> None:
    hostvars = {"none": {}, "one": proved(shop=False, blog=True), "two": proved(shop=True, blog=True)}
    assert first_with_app(["none", "one", "two"], hostvars, name) == host


@pytest.mark.parametrize(("name", "host"), [("shop", "two"), ("blog", "one"), ("wiki", None)])
def test_first_to_build(name: str, host: str | None) -> None:
    hostvars = {
        "none": {},
        "one": {"flask_checked": {"images": ["blog"]}},
        "two": {"flask_checked": {"images": ["blog", "shop"]}},
    }
    assert first_to_build(["none", "one", "two"], hostvars, name) == host


def test_logins_are_written_as_engines_read_them() -> None:
    logins = {"registry.example.org:5000": {"username": "ann", "password": "a:b"}}
    # printf ann:a:b | base64
    assert registry_logins(logins) == {"auths": {"registry.example.org:5000": {"auth": "YW5uOmE6Yg=="}}}


def test_report() -> None:
    results = [
        {"item": "shop", "pending": True, "msg": "abc is proved", "size": "3 workers"},
        {"item": "blog", "pending": False, "msg": "def is live, nothing to do"},
    ]
    live = {"results": [{"item": results[0], "msg": "abc is live, 012 was"}]}
    assert report({"results": results}, live) == [
        "shop: abc is live, 012 was",
        "shop: 3 workers",
        "blog: def is live, nothing to do",
    ]
    assert report({}, {}) == []


def test_every_filter_is_offered() -> None:
    offered = "python_literal first_with_app first_to_build report container_options slice_limits registry_logins"
    assert set(FilterModule().filters()) == set(offered.split())
