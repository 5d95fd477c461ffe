# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What --diff shows of a release, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.diff import differences, read_live
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from fakes import SECRET, Host

A, B = "a" * 12, "b" * 12
#: A secret that looks like configuration, and is escaped in an environment file.
HOSTILE = 'Environment="X=$HOME"\n[Service]\nUser=root'


def shown(walk: FullDeploy, before: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """Return what is shown, by header."""
    texts = read_live(walk.layout, walk.request) if before is None else before
    entries = differences(walk, texts, str(walk.request.release))
    assert all(entry["before_header"] == entry["after_header"] for entry in entries)
    return {entry["after_header"]: (entry["before"], entry["after"]) for entry in entries}


def components(secrets: str) -> dict[str, str]:
    return {"code": "c", "secrets": secrets}


def test_the_first_release_is_shown_whole(host: Host) -> None:
    found = shown(host.walk(A, {"env": {"MODE": "fast"}}))
    assert found["shop: env"] == ("", "MODE=fast\n")
    assert found["shop: serve/service.conf"] == ("", f"[Service]\nEnvironment=R={A}\n")


def test_what_is_the_same_is_not_shown(host: Host) -> None:
    app: dict[str, Any] = {"env": {"MODE": "fast"}}
    files = {"serve/service.conf": "[Service]\n", "units/shop@.service": "[Unit]\n"}
    host.deploy(A, app, files=files)
    (host.layout.unit_dir / "shop@.service").write_text("[Unit]\n")
    assert shown(host.walk(B, app, files=files)) == {}
    changed = {**files, "units/shop@.service": "[Unit]\nWants=x\n"}
    assert set(shown(host.walk(B, app, files=changed))) == {"shop: units/shop@.service"}


def test_settings_are_shown_but_not_what_is_computed_for_every_release(host: Host) -> None:
    host.deploy(A, {"env": {"MODE": "fast", "GONE": "1"}})
    found = shown(host.walk(B, {"env": {"MODE": "slow", "LANG": "de_DE.UTF-8"}}))
    assert found["shop: env"] == ("GONE=1\nLANG=C.UTF-8\nMODE=fast\n", "LANG=de_DE.UTF-8\nMODE=slow\n")


def test_no_secret_is_shown_whatever_it_looks_like_and_wherever_it_is_repeated(host: Host) -> None:
    host.deploy(
        A, {"secrets": {"KEY": HOSTILE, "OTHER": SECRET}, "env": {"COPY": HOSTILE}}, components=components("old")
    )
    files = {"serve/service.conf": f"[Service]\n# {HOSTILE}\n# new-secret-of-it\n# {SECRET}\n"}
    app: dict[str, Any] = {"secrets": {"KEY": "new-secret-of-it"}, "env": {"COPY": "new-secret-of-it", "Y": SECRET}}
    found = shown(host.walk(B, app, files=files, components=components("new")))
    text = json.dumps(found)
    for secret in (HOSTILE, SECRET, "new-secret-of-it", "X=$HOME", "User=root"):
        assert secret not in text and json.dumps(secret)[1:-1] not in text
    assert found["shop: secrets"] == ("", "changed, values are not shown\n")
    assert "secrets.env" not in text


def test_a_rollback_shows_what_the_earlier_release_has(host: Host) -> None:
    host.deploy(A, {"env": {"MODE": "fast"}})
    host.deploy(B, {"env": {"MODE": "slow"}})
    walk = host.walk(A, components={}, files={}, artifact=None, source={})
    found = shown(walk)
    assert found["shop: env"] == ("MODE=slow\n", "MODE=fast\n")
    assert found["shop: serve/service.conf"][1] == f"[Service]\nEnvironment=R={A}\n"


def test_what_cannot_be_read_is_left_out(host: Host) -> None:
    host.deploy(A)
    serve = host.layout.release(A) / "serve"
    (serve / "binary").write_bytes(b"\xff\xfe")
    (serve / "link").symlink_to("/etc/passwd")
    assert set(read_live(host.layout, host.walk(B).request)) <= {"env", "serve/service.conf", "units/shop@.service"}
