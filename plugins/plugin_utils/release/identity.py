# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The identity of a release: a digest of everything that can change how it behaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.urls import without_credentials

#: scrypt's cost (RFC 7914): 64 MiB and about 0.2 s for each guess on one core.
SCRYPT_COST = {"n": 2**16, "r": 8, "p": 1, "maxmem": 2**27}

#: Options of ``python`` that determine what is installed.
PYTHON_KEYS = (
    "interpreter",
    "requirements",
    "extras",
    "require_hashes",
    "constraints",
    "index_url",
    "find_links",
    "offline",
    "system_packages",
)

#: Length of an id in hexadecimal digits: 48 bits, for the few hundred releases of one app.
ID_LENGTH = 12


def compute_components(
    app: Mapping[str, Any],
    sensitive: Mapping[str, Mapping[str, str]],
    artifact: str,
    files: Mapping[str, str],
    server_packages: list[str],
) -> dict[str, str]:
    """Return one digest for each component of a release, by the name that messages use.

    :param app: the app's checked spec.
    :param sensitive: what was removed from the spec: ``secrets`` (they go through a slow keyed hash), and options of
        ``python`` with credentials.
    :param artifact: the SHA-256 of the packed source, in hexadecimal.
    :param files: the rendered files (server configuration and units), by path.
    :param server_packages: the requirements that the server adds.
    """
    options = {**app["python"], **sensitive["python"]}
    python = {key: options[key] for key in PYTHON_KEYS}
    for key in ("index_url", "find_links"):
        python[key] = without_credentials(python[key] or "") or None
    return {
        "code": artifact,
        "python": _digest({"options": python, "server": server_packages}),
        "env": _digest(app["env"]),
        "secrets": digest_secrets(app["name"], sensitive["secrets"]),
        "shared paths": _digest(sorted(app["shared_paths"])),
        "server": _digest({"files": files, "workers": app["workers"], "threads": app["threads"]}),
    }


def compute_id(components: Mapping[str, str]) -> str:
    """Return the id of the release that has these components."""
    return _digest(dict(components))[:ID_LENGTH]


def digest_secrets(name: str, secrets: Mapping[str, str]) -> str:
    """Return a digest from which the secrets cannot be guessed cheaply; keyed by the app's name, so that two apps
    with the same secrets have different ones."""
    if not secrets:
        return "none"
    message = json.dumps(dict(secrets), sort_keys=True).encode()
    return hashlib.scrypt(message, salt=f"flaskops.server/{name}".encode(), dklen=32, **SCRYPT_COST).hex()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
