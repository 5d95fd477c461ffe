# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A small declarative schema: says what a dict of options may hold, fills in defaults, and reports every error at once.

    SITE = Schema(
        {
            "name": Field("str", "What the files are called after.", required=True, pattern=r"[a-z][a-z0-9-]*"),
            "listen": Field("list", "Ports.", default=[80], items=Field("int", "A port.", minimum=1, maximum=65535)),
            "tls": Field("dict", "Certificates.", fields={"mode": Field("str", "How.", choices=("none", "files"))}),
            "env": Field("dict", "Variables.", default={}, values=Field("str", "A value.")),
        }
    )
    site, errors = check(SITE, {"nmae": "shop"}, "nginx_sites[0]")

Messages name the path, what was expected and the nearest known key. They never show a value: it could be a secret.

Texts are of one line, where their field does not say ``multiline``: they end in files and headers in which a line is a
directive of its own.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

#: What each kind accepts, and the words for it.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a string"),
    "int": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "list": ((list, tuple), "a list"),
    "dict": ((dict,), "a dictionary"),
    "scalar": ((str, int, float, bool), "a string, a number or a boolean"),
    "any": ((object,), "anything"),
}


@dataclass(frozen=True)
class Field:
    """One option.

    :param kind: a key of the kinds above, or several joined by ``|`` (``int|str``).
    :param doc: what it is, for the generated documentation.
    :param default: the value where none is given; None means "not set".
    :param choices: the only values allowed (for strings, where the kind is ``int|str``: the only strings).
    :param planned: whether nothing serves it yet: saying so beats accepting and ignoring it.
    :param planned_choices: those of the choices that nothing serves yet.
    :param pattern: a regular expression that a string must match as a whole.
    :param fields: the keys of a dict, none beside them.
    :param values: what each value of an open dict must be.
    :param keys: a regular expression that each key of an open dict must match.
    :param items: what each item of a list must be.
    :param rule: a further check: takes the value, returns what is wrong with it ("must ...") or None.
    :param multiline: whether a text, or what is in a dict or a list whose contents are not described, may have line breaks
        and other control characters. Only for what never becomes a line of a file or a header as it is.
    """

    kind: str
    doc: str
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    planned: bool = False
    planned_choices: tuple[Any, ...] = ()
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    fields: Mapping[str, Field] | None = None
    values: Field | None = None
    keys: str = ""
    items: Field | None = None
    rule: Callable[[Any], str | None] | None = None
    multiline: bool = False

    @property
    def expected(self) -> str:
        """What the option takes, in words."""
        words = " or ".join(_KINDS[kind][1] for kind in self.kind.split("|"))
        if self.choices:
            listed = ", ".join(str(choice) for choice in self.choices)
            if self.kind == "str":
                return f"one of {listed}"
            words = words.replace(_KINDS["str"][1], listed)
        if self.pattern:
            words += f" matching {self.pattern}"
        if self.minimum is not None and self.maximum is not None:
            words += f" from {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            words += f" of at least {self.minimum:g}"
        return words


@dataclass(frozen=True)
class Schema:
    """The keys of a dict, and rules between them.

    :param rules: each takes the checked dict and its path, and returns the errors it finds. A rule that reads a key
        with an error of its own is left out.
    :param retired: old key -> what to write instead.
    """

    fields: Mapping[str, Field]
    rules: Sequence[Callable[[Mapping[str, Any], str], list[str]]] = ()
    retired: Mapping[str, str] = dataclass_field(default_factory=dict)


def nearest(word: str, known: Sequence[str]) -> str:
    """Return ``, did you mean X?`` for the known word most like the given one, else the words there are."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 30 else ""


def unwritable(text: str, multiline: bool = False) -> str | None:
    """Say what keeps a text from being written into a file, a header or an environment as it is.

    >>> unwritable("1G\\nUser=root"), unwritable("1G\\n", multiline=True)
    ('expected one line, got a line break', None)

    :param multiline: whether line breaks and other control characters are allowed.
    """
    if "\0" in text:
        return "expected text without a NUL character"
    # Half of a pair of UTF-16, as JSON can hold it.
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "expected text that can be written in UTF-8"
    if multiline or not text:
        return None
    if len(text.splitlines()) > 1:
        return "expected one line, got a line break"
    if text.splitlines()[0] != text:
        return "expected one line, got a line break at the end (in YAML, use >- or |-)"
    # A tab is as good as a space everywhere.
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text.replace("\t", " ")):
        return "expected text without control characters"
    return None


def check(schema: Schema, given: Any, path: str) -> tuple[dict[str, Any], list[str]]:
    """Check a dict against a schema.

    :returns: the dict with every default filled in, and the errors (an empty list where there are none).
    """
    errors: list[str] = []
    checked = _fields(schema.fields, given, path, errors, schema.retired)
    wrong = {re.split(r"[.:\[]", error[len(path) :].lstrip("."), maxsplit=1)[0] for error in errors}
    for rule in schema.rules if checked else ():
        with contextlib.suppress(_WrongValueError):
            errors.extend(rule(_Sound(checked, wrong), path))
    sound = {name: field for name, field in schema.fields.items() if name not in wrong}
    errors.extend(_planned(sound, checked, path))
    # Two rules can find the same.
    return checked, list(dict.fromkeys(errors))


def check_list(
    schema: Schema,
    given: Any,
    path: str,
    things: str,
    between: Callable[[list[dict[str, Any]], str], list[str]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check a list of dicts against a schema.

    :param things: what they are, for the message where there is no list.
    :param between: takes the checked dicts and the path, and returns what is wrong between them.
    :returns: the dicts with every default filled in, and the errors of all.
    """
    if not isinstance(given, (list, tuple)):
        return [], [f"{path}: expected a list of {things}"]
    items, errors = [], []
    for index, item in enumerate(given):
        checked, wrong = check(schema, item, f"{path}[{index}]")
        items.append(checked)
        errors += wrong
    return items, errors + between(items, path)


def used_twice(uses: Iterable[Iterable[tuple[str, str, str]]]) -> Iterator[tuple[int, str, int]]:
    """Find what only one item of a list may use.

    :param uses: of each item: the kind of what it uses, where it says so, and what it is.
    :returns: the index of the item, where it says so, and the index of the one that was first.
    """
    seen: dict[tuple[str, str], int] = {}
    for index, used in enumerate(uses):
        for kind, where, value in used:
            first = seen.setdefault((kind, value), index)
            if first != index:
                yield index, where, first


class SchemaError(Exception):
    """What was given is wrong; the message lists every error with its path."""

    #: What the errors are in.
    where: str

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(errors)
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        listed = "\n".join(f"  - {error}" for error in self.errors)
        super().__init__(f"{count} in {self.where}, nothing was changed:\n{listed}")


class _WrongValueError(Exception):
    """A rule asked for a value that is wrong by itself: there is nothing more to say of it."""


class _Sound(Mapping[str, Any]):
    """A checked dict of which only the keys without an error can be read."""

    def __init__(self, checked: Mapping[str, Any], wrong: Collection[str]) -> None:
        self._checked = checked
        self._wrong = wrong

    def __getitem__(self, key: str) -> Any:
        if key in self._wrong:
            raise _WrongValueError(key)
        return self._checked[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._checked)

    def __len__(self) -> int:
        return len(self._checked)


def _fields(
    fields: Mapping[str, Field], given: Any, path: str, errors: list[str], retired: Mapping[str, str] | None = None
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        errors.append(f"{path}: expected a dictionary, got {_named(given)}")
        return {}
    for key in given:
        if key in fields:
            continue
        if retired and key in retired:
            errors.append(f"{path}.{key}: retired, use {retired[key]}")
        else:
            errors.append(f"{_below(path, key)}: unknown key{nearest(key, list(fields))}")
    checked = {}
    for name, field in fields.items():
        where = f"{path}.{name}"
        if given.get(name) is not None:
            checked[name] = _value(field, given[name], where, errors)
        elif field.required:
            errors.append(f"{where}: missing, expected {field.expected}")
        elif field.fields is not None and field.default is not None:
            checked[name] = _fields(field.fields, field.default, where, errors)
        else:
            checked[name] = copy.deepcopy(field.default)
    return checked


def _value(field: Field, value: Any, path: str, errors: list[str]) -> Any:
    if not _is_kind(field.kind, value):
        errors.append(f"{path}: expected {field.expected}, got {_named(value)}")
        return value
    wrong = _limits(field, value) or (field.rule(value) if field.rule else None)
    if not wrong and isinstance(value, str):
        wrong = unwritable(value, field.multiline)
    if wrong:
        errors.append(f"{path}: {wrong}")
        return value
    if isinstance(value, Mapping):
        if field.fields is not None:
            return _fields(field.fields, value, path, errors)
        for key in value:
            if field.keys and not re.fullmatch(field.keys, str(key)):
                errors.append(f"{_below(path, key)}: expected a name matching {field.keys}")
            elif unwritable(str(key)):
                errors.append(f"{_below(path, key)}: {unwritable(str(key))}")
        if field.values is not None:
            return {key: _value(field.values, item, _below(path, key), errors) for key, item in value.items()}
        for key, item in value.items():
            _undescribed(item, _below(path, key), field.multiline, errors)
        return dict(value)
    if isinstance(value, (list, tuple)):
        if field.items is None:
            _undescribed(value, path, field.multiline, errors)
            return list(value)
        return [_value(field.items, item, f"{path}[{index}]", errors) for index, item in enumerate(value)]
    return value


def _undescribed(value: Any, path: str, multiline: bool, errors: list[str]) -> None:
    """Check the texts in what a schema takes as it is, such as the settings that an app passes through to its server."""
    if isinstance(value, str) and (wrong := unwritable(value, multiline)):
        errors.append(f"{path}: {wrong}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if wrong := unwritable(str(key), multiline):
                errors.append(f"{_below(path, key)}: {wrong}")
            _undescribed(item, _below(path, key), multiline, errors)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _undescribed(item, f"{path}[{index}]", multiline, errors)


def _planned(fields: Mapping[str, Field], checked: Mapping[str, Any], path: str) -> Iterator[str]:
    """Return what is asked for of that which nothing serves yet."""
    for name, field in fields.items():
        value, where = checked.get(name), f"{path}.{name}"
        if field.planned and value:
            yield f"{where}: not available in this version"
        elif isinstance(value, Mapping) and field.fields is not None:
            yield from _planned(field.fields, value, where)
        elif isinstance(value, str) and value in field.planned_choices:
            *others, last = (str(choice) for choice in field.choices if choice not in field.planned_choices)
            yield f"{where}: {value} is not available in this version, use {', '.join(others)} or {last}"


def _below(path: str, key: Any) -> str:
    """Return the path of a key, on one line whatever the key is."""
    return f"{path}.{ascii(key) if unwritable(str(key)) else key}"


def _is_kind(kinds: str, value: Any) -> bool:
    for kind in kinds.split("|"):
        # bool is an int to Python, and never what somebody meant by a number.
        if isinstance(value, bool) and kind in ("int", "number"):
            continue
        if isinstance(value, _KINDS[kind][0]):
            return True
    return False


def _limits(field: Field, value: Any) -> str | None:
    if field.choices and value not in field.choices and (field.kind == "str" or isinstance(value, str)):
        words = f"expected {field.expected}"
        hint = nearest(value, [str(choice) for choice in field.choices])
        return words + (hint if hint.startswith(", did") else "")
    if field.pattern and isinstance(value, str) and not re.fullmatch(field.pattern, value):
        return f"expected {field.expected}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if field.minimum is not None and value < field.minimum:
            return f"expected {field.expected}"
        if field.maximum is not None and value > field.maximum:
            return f"expected {field.expected}"
    return None


def _named(value: Any) -> str:
    for kind in ("bool", "int", "number", "str", "list", "dict"):
        if _is_kind(kind, value):
            return _KINDS[kind][1]
    return "nothing" if value is None else type(value).__name__
