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


def masked(text: str) -> str:
    """Return a text without the credentials of the URLs in it.

    >>> masked("see https://me:secret@example.org/simple?token=x, and ssh://git@example.org/shop.git")
    'see https://***@example.org/simple?***, and ssh://git@example.org/shop.git'
    """

    def userinfo(match: re.Match[str]) -> str:
        # How a host is logged in to with a key is no secret.
        is_login = match[1].lower() in ("ssh://", "git+ssh://") and ":" not in match[2]
        return match[0] if is_login else f"{match[1]}***@"

    text = re.sub(r"(?i)([a-z][a-z0-9+.-]*://)([^/\s'\"]*)@", userinfo, text)
    return re.sub(r"(?i)([a-z][a-z0-9+.-]*://[^\s'\"?]*\?)[^\s'\",#]+", r"\1***", text)


def without_credentials(url: str) -> str:
    """Return a URL without its credentials, for what must not change when they do.

    >>> without_credentials("https://me:secret@example.org/simple?token=x")
    'https://example.org/simple'
    """
    if "://" not in url:
        return url
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def credentials(texts: Iterable[str]) -> list[str]:
    """Return the credentials of the URLs in these texts in every shape in which a tool may print them, longest first."""
    found: set[str] = set()
    for text in texts:
        secrets = [
            part for user in re.findall(r"://([^/\s@]+(?:@[^/\s@]+)*)@", text) for part in (user, *user.split(":", 1))
        ]
        for query in re.findall(r"://[^\s?]*\?([^\s#,]+)", text):
            secrets += [query, *(pair.partition("=")[2] for pair in query.split("&"))]
        for secret in secrets:
            found |= {secret, urllib.parse.unquote(secret), base64.b64encode(secret.encode()).decode()}
    return sorted((secret for secret in found if len(secret) >= _SHORTEST or ":" in secret), key=len, reverse=True)
