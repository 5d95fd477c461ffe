# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checking options: every kind of error, its words, and that no value is ever shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import (
    Field,
    Schema,
    SchemaError,
    check,
    check_list,
    nearest,
    used_twice,
)

SECRET = "hunter2-hunter2"


def _listening(site: Mapping[str, Any], path: str) -> list[str]:
    return [f"{path}.listen: missing"] if not site["listen"] else []


def _both(site: Mapping[str, Any], path: str) -> list[str]:
    return [f"{path}.name: is a size too"] if site["name"] == site["size"] else []


SITE = Schema(
    {
        "name": Field("str", "Name.", required=True, pattern=r"[a-z]+"),
        "listen": Field("list", "Ports.", default=[80], items=Field("int", "A port.", minimum=1, maximum=65535)),
        "size": Field("int|str", "Size.", default="auto", choices=("auto",), minimum=1),
        "rate": Field("number", "Rate.", default=0.5, minimum=0),
        "on": Field("bool", "On.", default=True),
        "mode": Field("str", "Mode.", choices=("none", "files")),
        "tls": Field(
            "dict",
            "TLS.",
            default={},
            fields={"key": Field("str", "Key."), "days": Field("int", "Days.", default=90)},
        ),
        "env": Field("dict", "Variables.", default={}, keys=r"[A-Z]+", values=Field("scalar", "A value.")),
        "path": Field("str", "Path.", rule=lambda value: None if value.startswith("/") else "must be absolute"),
        "extra": Field("any", "Anything."),
        "script": Field("str", "Lines.", multiline=True),
        "settings": Field("dict", "Lines in anything.", default={}, multiline=True),
    },
    rules=(_listening, _both),
    retired={"port": "listen"},
)

DEFAULTS = {
    "listen": [80],
    "size": "auto",
    "rate": 0.5,
    "on": True,
    "mode": None,
    "tls": {"key": None, "days": 90},
    "env": {},
    "path": None,
    "extra": None,
    "script": None,
    "settings": {},
}

MISTAKES = [
    (
        {"nmae": SECRET},
        ["x.nmae: unknown key, did you mean name?", "x.name: missing, expected a string matching [a-z]+"],
    ),
    ({"name": "a", "zzz": 1}, [f"x.zzz: unknown key; known: {', '.join(SITE.fields)}"]),
    ({"name": "a", "port": 80}, ["x.port: retired, use listen"]),
    ({"name": SECRET}, ["x.name: expected a string matching [a-z]+"]),
    ({"name": 5}, ["x.name: expected a string matching [a-z]+, got a whole number"]),
    ({"name": None}, ["x.name: missing, expected a string matching [a-z]+"]),
    ({"name": "a", "listen": 80}, ["x.listen: expected a list, got a whole number"]),
    ({"name": "a", "listen": [80, "90"]}, ["x.listen[1]: expected a whole number from 1 to 65535, got a string"]),
    ({"name": "a", "listen": [0, 65536]}, [f"x.listen[{i}]: expected a whole number from 1 to 65535" for i in (0, 1)]),
    ({"name": "a", "listen": [True]}, ["x.listen[0]: expected a whole number from 1 to 65535, got true or false"]),
    ({"name": "a", "size": "atuo"}, ["x.size: expected a whole number or auto of at least 1, did you mean auto?"]),
    ({"name": "a", "size": 0}, ["x.size: expected a whole number or auto of at least 1"]),
    ({"name": "a", "size": 1.5}, ["x.size: expected a whole number or auto of at least 1, got a number"]),
    ({"name": "a", "rate": -1}, ["x.rate: expected a number of at least 0"]),
    ({"name": "a", "on": "yes"}, ["x.on: expected true or false, got a string"]),
    ({"name": "a", "mode": SECRET}, ["x.mode: expected one of none, files"]),
    ({"name": "a", "mode": "file"}, ["x.mode: expected one of none, files, did you mean files?"]),
    ({"name": "a", "tls": {"kye": SECRET}}, ["x.tls.kye: unknown key, did you mean key?"]),
    ({"name": "a", "tls": []}, ["x.tls: expected a dictionary, got a list"]),
    ({"name": "a", "env": {"a": 1}}, ["x.env.a: expected a name matching [A-Z]+"]),
    ({"name": "a", "env": {"A": [SECRET]}}, ["x.env.A: expected a string, a number or a boolean, got a list"]),
    ({"name": "a", "path": SECRET}, ["x.path: must be absolute"]),
    ({"name": "a", "listen": []}, ["x.listen: missing"]),
    # A rule is left out where it would read an error; the others still speak.
    ({"name": 5, "listen": []}, ["x.name: expected a string matching [a-z]+, got a whole number", "x.listen: missing"]),
    *(
        ({"name": "a", "path": f"/{SECRET}{end}User=root"}, ["x.path: expected one line, got a line break"])
        for end in ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
    ),
    (
        {"name": "a", "path": f"/{SECRET}\n"},
        ["x.path: expected one line, got a line break at the end (in YAML, use >- or |-)"],
    ),
    *(
        ({"name": "a", "path": f"/{SECRET}{character}"}, ["x.path: expected text without control characters"])
        for character in ("\x01", "\x1b", "\x7f", "\x9b")
    ),
    ({"name": "a", "path": f"/{SECRET}\0"}, ["x.path: expected text without a NUL character"]),
    ({"name": "a", "path": f"/{SECRET}\ud800"}, ["x.path: expected text that can be written in UTF-8"]),
    ({"name": "a", "env": {"A": f"{SECRET}\n1"}}, ["x.env.A: expected one line, got a line break"]),
    ({"name": "a", "env": {"A\nB": 1}}, ["x.env.'A\\nB': expected a name matching [A-Z]+"]),
    ({"name": "a", "na\nme": 1}, ["x.'na\\nme': unknown key, did you mean name?"]),
    (
        {"name": "a", "extra": {"b": [1, {"c": (2, f"{SECRET}\r3")}], "d\n": 4}},
        [
            "x.extra.'d\\n': expected one line, got a line break at the end (in YAML, use >- or |-)",
            "x.extra.b[1].c[1]: expected one line, got a line break",
        ],
    ),
    ({"name": "a", "extra": f"{SECRET}\n2"}, ["x.extra: expected one line, got a line break"]),
    ({"name": "a", "script": f"{SECRET}\0"}, ["x.script: expected text without a NUL character"]),
    ({"name": "a", "settings": {"a": [f"{SECRET}\0"]}}, ["x.settings.a[0]: expected text without a NUL character"]),
    ([SECRET], ["x: expected a dictionary, got a list"]),
    (None, ["x: expected a dictionary, got nothing"]),
]


@pytest.mark.parametrize(("given", "errors"), MISTAKES)
def test_errors(given: Any, errors: list[str]) -> None:
    found = check(SITE, given, "x")[1]
    assert found == errors
    assert SECRET not in "".join(found)


def test_defaults_are_filled_in_and_are_nobodys_to_change() -> None:
    checked, errors = check(SITE, {"name": "a"}, "x")
    assert (checked, errors) == ({"name": "a", **DEFAULTS}, [])
    checked["listen"].append(443)
    checked["env"]["A"] = 1
    assert check(SITE, {"name": "a"}, "x")[0] == {"name": "a", **DEFAULTS}


def test_lines_where_they_are_wanted_and_all_characters_of_one_line() -> None:
    given = {"script": "a\n\tb\r\n", "settings": {"a": ["b\nc"]}, "path": "/gr\u00fc\u00dfe\t% \\ \u200d \U0001f600"}
    checked, errors = check(SITE, {"name": "a", **given}, "x")
    assert (checked, errors) == ({"name": "a", **DEFAULTS, **given}, [])


def test_what_two_rules_find_is_said_once() -> None:
    assert check(Schema(SITE.fields, rules=(_both, _both)), {"name": "auto"}, "x")[1] == ["x.name: is a size too"]


def test_what_is_given_wins_and_the_rest_is_default() -> None:
    given = {"name": "a", "listen": (1, 2), "size": 3, "tls": {"key": "k"}, "env": {"A": False}, "extra": {"b": [1]}}
    checked, errors = check(SITE, given, "x")
    assert errors == []
    assert checked == {**DEFAULTS, **given, "listen": [1, 2], "tls": {"key": "k", "days": 90}}


@pytest.mark.parametrize(
    ("word", "known", "words"),
    [
        ("gti", ["git", "path"], ", did you mean git?"),
        ("zzz", ["git", "path"], "; known: git, path"),
        ("zzz", [f"key{n}" for n in range(31)], ""),
        (5, ["git"], "; known: git"),
    ],
)
def test_nearest(word: Any, known: list[str], words: str) -> None:
    assert nearest(word, known) == words


PLANNED = Schema(
    {
        "watch": Field("dict", "Later.", planned=True, fields={"seconds": Field("int", "Seconds.", default=60)}),
        "checks": Field("dict", "Some.", default={}, fields={"audit": Field("bool", "Later.", planned=True)}),
        "mode": Field("str", "One later.", default="a", choices=("later", "a", "b", "c"), planned_choices=("later",)),
    }
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"watch": None, "checks": {"audit": False}, "mode": "b"}, []),
        ({"watch": {}}, ["p.watch: not available in this version"]),
        ({"checks": {"audit": True}}, ["p.checks.audit: not available in this version"]),
        ({"mode": "later"}, ["p.mode: later is not available in this version, use a, b or c"]),
        # What is wrong in it comes first.
        ({"watch": {"seconds": "x"}}, ["p.watch.seconds: expected a whole number, got a string"]),
    ],
)
def test_what_nothing_serves_yet_is_said(given: dict[str, Any], found: list[str]) -> None:
    assert check(PLANNED, given, "p")[1] == found


def test_a_list_is_checked_item_by_item_and_then_between_them() -> None:
    def between(items: Sequence[Mapping[str, Any]], path: str) -> list[str]:
        uses = [[("name", "name", item["name"]), ("mode", "mode", item["mode"] or "")] for item in items]
        return [f"{path}[{index}].{where}: as {path}[{first}]" for index, where, first in used_twice(uses)]

    sites, found = check_list(SITE, [{"name": "a", "mode": "none"}, {"name": "b"}], "sites", "sites", between)
    assert ([site["listen"] for site in sites], found) == ([[80], [80]], [])
    assert check_list(SITE, [{"name": "a", "on": 1}, {"name": "b"}, {"name": "a"}], "sites", "sites", between)[1] == [
        "sites[0].on: expected true or false, got a whole number",
        "sites[1].mode: as sites[0]",
        "sites[2].name: as sites[0]",
        "sites[2].mode: as sites[0]",
    ]
    for wrong in (None, {}, "a"):
        assert check_list(SITE, wrong, "sites", "places", between) == ([], ["sites: expected a list of places"])


def test_the_message_lists_every_error() -> None:
    class ThingsError(SchemaError):
        where = "the things"

    assert str(ThingsError(["a: b"])) == "1 error in the things, nothing was changed:\n  - a: b"
    assert str(ThingsError(["a: b", "c: d"])) == "2 errors in the things, nothing was changed:\n  - a: b\n  - c: d"
