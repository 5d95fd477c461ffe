# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app the web instance of a release reads."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

#: The name of a header (RFC 9110, token).
HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def _in_ascii(value: str) -> str | None:
    if value.isascii():
        return None
    return f"expected ASCII, write it percent-encoded: {quote(value, safe=string.punctuation, errors='replace')}"


def _in_latin_1(value: Any) -> str | None:
    try:
        str(value).encode("latin-1")
    except UnicodeEncodeError:
        return "expected characters that a header can hold (ISO 8859-1)"
    return None


HEALTH = {
    "path": Field(
        "str",
        "URL path of the health check. Redirects to the app's own hosts are followed; the last answer counts.",
        default="/",
        pattern=r"/\S*",
        rule=_in_ascii,
    ),
    "status": Field(
        "int|list",
        "Status code, or list of status codes, that counts as healthy. Default: any below 500.",
        items=Field("int", "A status."),
    ),
    "timeout": Field(
        "int",
        "Seconds to wait for a healthy answer. A release that is slower is refused.",
        default=60,
        minimum=1,
        maximum=3600,
    ),
    "headers": Field(
        "dict",
        "Headers to send with the health check.",
        default={},
        keys=HEADER_NAME,
        values=Field("scalar", "A value.", rule=_in_latin_1),
    ),
}

KEYS: Mapping[str, Field] = {
    "health": Field(
        "dict",
        "How a new release is verified: it has to answer this request before it goes live.",
        default={},
        fields=HEALTH,
    ),
}
