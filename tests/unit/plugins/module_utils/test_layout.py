# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The paths and names of an app on a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.layout import Layout

SHOP = Layout("shop")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (SHOP.home, "/srv/shop"),
        (SHOP.live, "/srv/shop/live"),
        (SHOP.shared, "/srv/shop/shared"),
        (SHOP.record, "/srv/shop/deploys.jsonl"),
        (SHOP.release("abc"), "/srv/shop/releases/abc"),
        (SHOP.runtime_socket("abc"), "/run/shop/abc/http.sock"),
        (SHOP.drop_in("abc"), "/etc/systemd/system/shop@abc.service.d/release.conf"),
        (SHOP.unit("abc"), "shop@abc.service"),
        (SHOP.boot_unit, "shop.service"),
    ],
)
def test_paths(path: Path | str, wanted: str) -> None:
    assert str(path) == wanted


def test_the_runtime_socket_fits_in_a_socket_address() -> None:
    # unix(7): 108 bytes, the last of them 0.
    assert len(str(Layout("a" * 31).runtime_socket("0" * 12))) < 108


def test_what_is_live_and_what_is_complete(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    assert (layout.live_id(), layout.staged_ids(), layout.facts(None), layout.facts("abc")) == (None, [], {}, {})
    for name, facts in (("abc", '{"release": "abc"}'), ("bad", "half"), (".staging-x", "{}"), ("list", "[]")):
        (layout.releases / name).mkdir(parents=True)
        (layout.releases / name / "release.json").write_text(facts)
    (layout.releases / "empty").mkdir()
    os.symlink("releases/abc", layout.live)
    assert layout.live_id() == "abc"
    assert layout.staged_ids() == ["abc", "bad", "list"]
    assert [layout.facts(name) for name in ("abc", "bad", "list", "empty")] == [{"release": "abc"}, {}, {}, {}]
