# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No part of a URL that may be a secret is seen, and what says where it leads is."""

from __future__ import annotations

import base64
import itertools

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.urls import (
    credentials,
    masked,
    without_credentials,
)

SCHEMES = ("https://", "HTTPS://", "git+https://", "Git+SSH://", "svn+http://")
USERS = (
    "",
    "me:sEcret1@",
    "sEcret1@",
    ":sEcret1@",
    "me:sEcret1%40x@",
    "me:sEcret1@sEcret2@",
    "sEcret1:@",
    "me:sEcret1?x@",
)
HOSTS = ("host.example", "host.example:8443", "[2001:db8::1]:80")
PATHS = ("/path/to", "/@scope/path", "/")
QUERIES = ("", "?token=sEcret3", "?sEcret3", "?a=sEcret3&b=sEcret4", "?a=sEcret3,sEcret4", "?a=sEcret3@sEcret4")
FRAGMENTS = ("", "#egg=shop")
SENTENCES = ("{}", "see {}, and then", "got '{}'", 'got "{}": no', "<a href={}>", "({}", "A={} B={}", "{},{}", "{}\n{}")


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_credential_is_hidden_and_the_place_is_seen(sentence: str) -> None:
    for scheme, user, host, path, query, fragment in itertools.product(
        SCHEMES, USERS, HOSTS, PATHS, QUERIES, FRAGMENTS
    ):
        if "SSH" in scheme and user == "sEcret1@":
            continue  # with which user a host is logged in to
        url = f"{scheme}{user}{host}{path}{query}{fragment}"
        said = masked(sentence.format(url, url))
        assert "sEcret" not in said, (sentence, url, said)
        if "?" not in user:
            assert said.count(f"{host}{path}") == sentence.count("{}"), (sentence, url, said)
        if user or query:
            assert "***" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@h/x", "https://***@h/x"),
        ("https://token@h/x", "https://***@h/x"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("git+ssh://git@h/x.git@v1", "git+ssh://git@h/x.git@v1"),
        ("ssh://git:pw@h/x", "ssh://***@h/x"),
        ("git@h:x.git", "git@h:x.git"),
        ("see https://h/x.zip?sig=abc, now", "see https://h/x.zip?***, now"),
        ("https://me:p@w@h/x", "https://***@h/x"),
        ("https://me:p/w@h/x", "https://***@h/x"),
        ("https://h?token=abc@def", "https://h?***"),
        ("https://me@h?token=abc@def", "https://***@h?***"),
        ("https://h:8443/a@b https://[::1]:80/a@b", "https://h:8443/a@b https://[::1]:80/a@b"),
        (
            "a mail to me@example.org, is it? 1 / 2: https://h/x#part",
            "a mail to me@example.org, is it? 1 / 2: https://h/x#part",
        ),
        ("", ""),
    ],
)
def test_what_is_seen(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


def test_a_url_without_its_credentials_does_not_change_with_them() -> None:
    for user, query in itertools.product(USERS[:-1], QUERIES):
        assert without_credentials(f"https://{user}h:80/x{query}#f") == "https://h:80/x#f"
    assert without_credentials("./wheels?x@y") == "./wheels?x@y"
    # What is no URL is for whoever opens it to refuse.
    assert without_credentials("https://u:p@[x/simple?t=1") == "https://[x/simple"


def test_credentials_in_every_shape() -> None:
    found = credentials(["https://builder:hunter2%40x@h/simple?token=abc123def,x https://i/?k=other-key#f", "me@h"])
    for secret in ("builder:hunter2%40x", "hunter2%40x", "hunter2@x", "token=abc123def,x", "abc123def,x", "other-key"):
        assert secret in found
    assert base64.b64encode(b"builder:hunter2%40x").decode() in found
    assert found == sorted(found, key=len, reverse=True)
    assert credentials(["https://me@h/x"]) == []
    assert "abc123" in credentials(["https://a/?t=abc123,https://b/?t=def456"])
