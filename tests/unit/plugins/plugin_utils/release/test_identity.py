# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release is called after: stable, complete, and useless for guessing secrets."""

from __future__ import annotations

import copy
import hashlib
import os
import socket
import time
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.release import identity
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import PYTHON

SECRET = "hunter2-hunter2"
COST = dict(identity.SCRYPT_COST)


def inputs(**change: Any) -> dict[str, Any]:
    """Everything that makes an id, and what is changed of it."""
    app = resolve_one({"name": "shop", "source": {"path": "."}, "wsgi": "shop:app", "env": {"A": "1"}}, "app")
    app.pop("secrets")
    given = {
        "app": app,
        "sensitive": {"secrets": {"KEY": SECRET}, "python": {}},
        "artifact": "ab" * 32,
        "files": {"serve/gunicorn.conf.py": "workers = 2\n"},
        "server_packages": ["gunicorn==27.0.1"],
    }
    for path, value in change.items():
        place = given
        *parents, last = path.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return given


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cost takes a third of a second for each id."""
    monkeypatch.setattr(identity, "SCRYPT_COST", {**COST, "n": 2})


@pytest.fixture
def parts() -> dict[str, str]:
    return identity.compute_components(**inputs())


def test_a_known_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another id for the same input would deploy every app of every user again.
    monkeypatch.setattr(identity, "SCRYPT_COST", COST)
    assert identity.compute_id(identity.compute_components(**inputs())) == "82e94998af4c"


CHANGES = [
    ("code", {"artifact": "cd" * 32}),
    ("python", {"server_packages": ["gunicorn==27.0.2"]}),
    ("env", {"app__env": {"A": "2"}}),
    ("env", {"app__env": {"B": "1"}}),
    ("secrets", {"sensitive__secrets": {"KEY": SECRET + "!"}}),
    ("secrets", {"sensitive__secrets": {}}),
    ("shared paths", {"app__shared_paths": ["instance", "uploads"]}),
    ("server", {"files": {"serve/gunicorn.conf.py": "workers = 3\n"}}),
    ("server", {"files": {"serve/other.py": "workers = 2\n"}}),
    ("server", {"app__workers": 3}),
    ("server", {"app__threads": 3}),
]
PYTHON_CHANGES = {
    "interpreter": "/usr/bin/python3.13",
    "requirements": ["a.txt"],
    "extras": ["x"],
    "require_hashes": True,
    "constraints": "c.txt",
    "index_url": "https://index.example/simple",
    "find_links": "/wheels",
    "offline": True,
    "system_packages": True,
}


@pytest.mark.parametrize(
    ("part", "change"),
    [*CHANGES, *(("python", {f"app__python__{key}": value}) for key, value in PYTHON_CHANGES.items())],
)
def test_every_part_changes_the_id_and_is_named(part: str, change: dict[str, Any], parts: dict[str, str]) -> None:
    new = identity.compute_components(**inputs(**change))
    assert [name for name in new if new[name] != parts[name]] == [part]
    assert identity.compute_id(new) != identity.compute_id(parts)


def test_every_option_of_python_counts() -> None:
    assert set(identity.PYTHON_KEYS) == set(PYTHON) == set(PYTHON_CHANGES)


@pytest.mark.parametrize(
    "change",
    [
        # What is outside of the release: nginx, checks, the record.
        {"app__domains": ["b.example"]},
        {"app__keep_releases": 9},
        {"app__health": {"path": "/h", "status": 200, "timeout": 5, "headers": {}}},
        {"sensitive__python": {}},
    ],
)
def test_what_does_not_change_the_release(change: dict[str, Any], parts: dict[str, str]) -> None:
    assert identity.compute_components(**inputs(**change)) == parts


def test_order_does_not_matter() -> None:
    one = inputs(app__env={"A": "1", "B": "2"}, app__shared_paths=["a", "b"])
    other = inputs(app__env={"B": "2", "A": "1"}, app__shared_paths=["b", "a"])
    assert identity.compute_components(**one) == identity.compute_components(**other)


def test_the_host_does_not_matter(parts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.chdir("/")
    assert identity.compute_components(**inputs()) == parts


def test_secrets_enter_through_a_slow_keyed_hash(parts: dict[str, str]) -> None:
    assert SECRET not in str(parts)
    # RFC 7914: n * r * 128 bytes; less than 32 MiB is quick on a graphics card.
    assert COST["n"] * COST["r"] * 128 >= 32 * 2**20
    cheap = {hashlib.new(name, SECRET.encode()).hexdigest() for name in ("md5", "sha1", "sha256", "blake2b")}
    assert not cheap & set(parts.values())
    assert (
        identity.digest_secrets("other", {"KEY": SECRET})
        != parts["secrets"]
        == identity.digest_secrets("shop", {"KEY": SECRET})
    )


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:pass@index.example:8443/simple?a=b", "https://index.example:8443/simple"),
        ("https://token@index.example/simple", "https://index.example/simple"),
        ("https://user:p@ss@index.example/simple", "https://index.example/simple"),
        ("https://index.example/simple", "https://index.example/simple"),
        ("/srv/wheels@1", "/srv/wheels@1"),
        ("https://index.example/simple?token=abc", "https://index.example/simple"),
        (None, None),
    ],
)
def test_credentials_in_addresses_do_not_matter(url: str | None, clean: str | None) -> None:
    given, wanted = copy.deepcopy(inputs()), inputs(app__python__index_url=clean)
    given["sensitive"]["python"]["index_url"] = url
    given["app"]["python"].pop("index_url")
    assert identity.compute_components(**given) == identity.compute_components(**wanted)
