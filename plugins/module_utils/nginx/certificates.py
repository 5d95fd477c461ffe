# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Self-signed certificates, made on the host."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import Change, NginxError
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import make_directory, own_directories
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import is_address

#: Where the certificates that the host makes for itself are, below nginx's configuration directory.
SELF_SIGNED = "self-signed"

#: A self-signed certificate is made anew when it has less than this left, in seconds.
RENEW_BEFORE = 30 * 24 * 3600


@dataclass(frozen=True)
class SelfSigned:
    """A certificate that the host makes for itself.

    :param certificate: its path below the configuration directory.
    :param key: the path of its key, there too.
    :param names: host names, wildcards and addresses.
    :param days: how long it is valid.
    """

    certificate: str
    key: str
    names: tuple[str, ...]
    days: int


def alternative_names(text: str) -> set[str]:
    """Return the names in the output of ``openssl x509 -ext subjectAltName``."""
    names = set()
    for kind, value in re.findall(r"(DNS|IP Address):([^,\s]+)", text):
        names.add(str(ipaddress.ip_address(value)) if kind == "IP Address" else value.lower())
    return names


def certificate_config(names: Sequence[str]) -> str:
    """Return an openssl configuration that makes a server's certificate for these names and nothing else."""
    listed = ",".join(f"IP:{name}" if is_address(name) else f"DNS:{name}" for name in names)
    short = next((name for name in names if len(name) <= 64), "self-signed")
    return (
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = server\n"
        f"[subject]\nCN = {short}\n"
        "[server]\n"
        f"subjectAltName = {listed}\n"
        "basicConstraints = critical,CA:FALSE\n"
        "keyUsage = critical,digitalSignature\n"
        "extendedKeyUsage = serverAuth\n"
        "subjectKeyIdentifier = hash\n"
    )


def is_current(wanted: SelfSigned, root: Path, openssl: str) -> bool:
    """Say whether the host's certificate is there with its key, names what it should, and has not nearly run out."""
    certificate, key = root / wanted.certificate, root / wanted.key
    if not (certificate.is_file() and key.is_file()):
        return False
    done = subprocess.run(
        [openssl, "x509", "-in", str(certificate), "-noout", "-checkend", str(RENEW_BEFORE), "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and alternative_names(done.stdout) == set(wanted.names)


def make_certificate(wanted: SelfSigned, root: Path, openssl: str) -> None:
    """Make a certificate and its key (EC, P-256) below a directory, the key readable by its owner alone.

    :raises NginxError: with openssl's message.
    """
    certificate, key = root / wanted.certificate, root / wanted.key
    make_directory(certificate.parent)
    for path in (certificate, key):
        path.unlink(missing_ok=True)
    # The key's file is there, closed to all others, before openssl writes into it.
    os.close(os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(certificate_config(wanted.names))
        config.flush()
        command = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-sha256",
        ]
        command += ["-days", str(wanted.days), "-config", config.name, "-keyout", str(key), "-out", str(certificate)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NginxError(f"openssl made no certificate for {', '.join(wanted.names)}: {done.stderr.strip()}")
    key.chmod(0o600)
    certificate.chmod(0o644)


def plan_certificates(root: Path, certificates: Sequence[SelfSigned], openssl: str | None) -> list[SelfSigned]:
    """Return the certificates that have to be made, all of them where openssl is not there to look."""
    return [wanted for wanted in certificates if openssl is None or not is_current(wanted, root, openssl)]


def plan_modes(root: Path, certificates: Sequence[SelfSigned]) -> list[Change]:
    """Close the keys of ours that somebody has opened to others."""
    keys = [wanted.key for wanted in certificates if (root / wanted.key).is_file()]
    return [
        Change(key, 0o600, shown=(f"mode {mode:04o}\n", "mode 0600\n"), only_mode=True)
        for key in keys
        if (mode := stat.S_IMODE((root / key).stat().st_mode)) != 0o600
    ]


def made_certificates(candidate: Path, wanted: Sequence[SelfSigned], openssl: str) -> list[Change]:
    """Make the certificates in the candidate and return them as changes, the key's text in none of them."""
    changes = []
    for one in wanted:
        own_directories(candidate, (candidate / one.certificate).parent)
        make_certificate(one, candidate, openssl)
        changes.append(Change(one.key, 0o600, (candidate / one.key).read_bytes()))
        shown = f"self-signed certificate for {', '.join(one.names)}\n"
        changes.append(Change(one.certificate, 0o644, (candidate / one.certificate).read_bytes(), ("", shown)))
    return changes
