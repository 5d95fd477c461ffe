# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The credentials in URLs: user, password and query (``?token=...``) are secrets wherever a URL goes."""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Iterable

#: Secrets shorter than this are hidden in URLs only: a user called "me" would black out half of a message.
_SHORTEST = 6

_SCHEME = r"[a-z][a-z0-9+.-]*://"
#: A comma that is part of a query, and not between two URLs or of the sentence.
_COMMA = rf",(?!\s|$|{_SCHEME})"


def masked(text: str) -> str:
    """Return a text without the credentials of the URLs in it.

    >>> masked("see https://me:secret@example.org/simple?token=x, and ssh://git@example.org/shop.git")
    'see https://***@example.org/simple?***, and ssh://git@example.org/shop.git'
    """

    def userinfo(match: re.Match[str]) -> str:
        # How a host is logged in to with a key is no secret.
        is_login = match[1].lower() in ("ssh://", "git+ssh://") and ":" not in match[2]
        return match[0] if is_login else f"{match[1]}***@"

    def no_slash(match: re.Match[str]) -> str:
        # An @ may stand in a query, and a ? in a password.
        is_host = re.fullmatch(r"[^:]*(:\d*)?", match[2].rpartition("@")[2])
        return f"{match[1]}{match[2]}?***" if is_host else f"{match[1]}***"

    text = re.sub(rf"(?i)({_SCHEME})([^/?#\s'\"]*)\?[^/\s'\"]*@[^\s'\"]*", no_slash, text)
    text = re.sub(rf"(?i)({_SCHEME})([^/\s'\"]*)@", userinfo, text)
    # A port is a number: what is none is a password, even with a slash in it.
    text = re.sub(rf"(?i)({_SCHEME})([^/?#@:\[\s'\"]*:(?!\d*([/?#,\s'\"]|$))[^@\s'\"]*)@", userinfo, text)
    return re.sub(rf"(?i)({_SCHEME}[^\s'\"?]*\?)([^\s'\",#]|{_COMMA})+", r"\1***", text)


def without_credentials(url: str) -> str:
    """Return a URL without its credentials, for what must not change when they do.

    >>> without_credentials("https://me:secret@example.org/simple?token=x")
    'https://example.org/simple'
    """
    # No parser: it refuses what is no proper URL, and whoever opens it says so in better words.
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)([^?#]*)(?:\?[^#]*)?(#.*)?", url, re.DOTALL)
    return f"{found[1]}{found[2].rpartition('@')[2]}{found[3]}{found[4] or ''}" if found else url


def credentials(texts: Iterable[str]) -> list[str]:
    """Return the credentials of the URLs in these texts in every shape in which a tool may print them, longest first."""
    found: set[str] = set()
    for text in texts:
        secrets = [
            part for user in re.findall(r"://([^/\s@]+(?:@[^/\s@]+)*)@", text) for part in (user, *user.split(":", 1))
        ]
        for query in re.findall(rf"(?i)://[^\s?]*\?((?:[^\s#,]|{_COMMA})+)", text):
            secrets += [query, *(pair.partition("=")[2] for pair in query.split("&"))]
        for secret in secrets:
            found |= {secret, urllib.parse.unquote(secret), base64.b64encode(secret.encode()).decode()}
    return sorted((secret for secret in found if len(secret) >= _SHORTEST or ":" in secret), key=len, reverse=True)
