# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a self-signed certificate is made, and what others may read of it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx.certificates import (
    SelfSigned,
    made_certificates,
    make_certificate,
    plan_certificates,
    plan_modes,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import Change
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import candidate_of, install

OPENSSL = shutil.which("openssl") or ""

needs_openssl = pytest.mark.skipif(not OPENSSL, reason="needs openssl")


def wanted(*names: str, days: int = 90) -> SelfSigned:
    return SelfSigned("self-signed/shop.crt", "self-signed/shop.key", names, days)


@needs_openssl
def test_a_certificate_is_made_once(root: Path) -> None:
    one = wanted("shop.example.org", "*.example.org", "10.0.0.1", "::1")
    assert plan_certificates(root, [one], OPENSSL) == [one]
    with candidate_of(root) as candidate:
        changes = made_certificates(candidate, [one], OPENSSL)
        install(root, changes, lambda: None)
    assert stat.S_IMODE((root / one.key).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / one.certificate).stat().st_mode) == 0o644
    assert plan_certificates(root, [one], OPENSSL) == []
    assert plan_modes(root, [one]) == []
    assert all("PRIVATE" not in "".join(change.shown) for change in changes)


@needs_openssl
def test_a_certificate_is_made_anew_for_other_names_or_when_it_runs_out(root: Path) -> None:
    make_certificate(wanted("a.example.org"), root, OPENSSL)
    assert plan_certificates(root, [wanted("b.example.org")], OPENSSL)
    make_certificate(wanted("a.example.org", days=29), root, OPENSSL)
    assert plan_certificates(root, [wanted("a.example.org")], OPENSSL)
    (root / "self-signed" / "shop.key").unlink()
    assert plan_certificates(root, [wanted("a.example.org")], OPENSSL)


@needs_openssl
def test_an_open_key_is_closed(root: Path) -> None:
    make_certificate(wanted("a.example.org"), root, OPENSSL)
    (root / "self-signed" / "shop.key").chmod(0o644)
    assert plan_modes(root, [wanted("a.example.org")]) == [
        Change("self-signed/shop.key", 0o600, shown=("mode 0644\n", "mode 0600\n"), only_mode=True)
    ]


@needs_openssl
def test_a_name_too_long_for_a_subject(root: Path) -> None:
    name = f"{'a' * 60}.{'b' * 60}.example.org"
    make_certificate(wanted(name), root, OPENSSL)
    assert plan_certificates(root, [wanted(name)], OPENSSL) == []
