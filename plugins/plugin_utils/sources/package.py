# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A package as the source of an app: a requirement that is pinned, so that it always means the same code."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.pack import pack


def from_package(source: Mapping[str, Any], cache: Path) -> Artifact:
    """Pack a requirements.txt with the one requirement.

    :raises SourceError: when it is not pinned.
    """
    requirement, version = parse_pinned(str(source["package"]))
    origin = {"kind": "package", "requirement": requirement, "version": version}
    with tempfile.TemporaryDirectory(prefix=".tree-", dir=cache) as tree:
        Path(tree, "requirements.txt").write_text(requirement + "\n", encoding="utf-8")
        return pack(Path(tree), ["requirements.txt"], {}, origin, cache)


def parse_pinned(requirement: str) -> tuple[str, str]:
    """Return ``(requirement, version)`` of a pinned requirement.

    :param requirement: such as ``httpbin[mainapp]==0.10.4`` or ``shop @ https://example.org/shop-1.0.tar.gz``;
        ``--hash=`` options may follow.
    :raises SourceError: when it is not pinned, is not one requirement, or holds credentials.
    """
    text = requirement.strip()
    name = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[A-Za-z0-9._,\s-]*\])?"
    rest = r"(?:\s*;[^\n]*?)?(?:\s+--hash=[a-z0-9]+:[0-9a-f]+)*"
    if any(ord(character) < 32 for character in text):
        raise SourceError("Expected source.package as one requirement on one line, such as 'httpbin==0.10.4'.")
    if match := re.fullmatch(rf"{name}\s*===?\s*(?P<version>[A-Za-z0-9][A-Za-z0-9._+!-]*){rest}", text):
        return text, match["version"]
    if match := re.fullmatch(rf"{name}\s*@\s*(?P<url>[a-z][a-z0-9+.-]*://\S+){rest}", text):
        if masked(match["url"]) != match["url"]:
            raise SourceError(
                f"source.package {masked(text)!r} holds credentials (a query counts), which would be written into the "
                "release. Set them for the installer instead: in python.index_url of the app, or python_index_url of the host."
            )
        return text, match["url"]
    hint = re.match(name, text)
    raise SourceError(
        f"source.package {masked(text)!r} is not pinned, so it could become different code at any time. Add the "
        f"version, as in '{(hint[0].strip() if hint else 'httpbin')}==1.2.3', or a direct reference, as in "
        "'shop @ https://example.org/shop-1.2.3.tar.gz'."
    )
