# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The paths and names of an app on a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout

SHOP = Layout("shop")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (SHOP.home, "/srv/shop"),
        (SHOP.live, "/srv/shop/live"),
        (SHOP.shared, "/srv/shop/shared"),
        (SHOP.record, "/srv/shop/deploys.jsonl"),
        (SHOP.release("abc"), "/srv/shop/releases/abc"),
        (SHOP.instance_socket("abc"), "/run/shop/abc/http.sock"),
        (SHOP.drop_in("abc"), "/etc/systemd/system/shop@abc.service.d/release.conf"),
        (SHOP.unit("abc"), "shop@abc.service"),
        (SHOP.boot_unit, "shop.service"),
    ],
)
def test_paths(path: Path | str, wanted: str) -> None:
    assert str(path) == wanted


def test_the_runtime_socket_fits_in_a_socket_address() -> None:
    # unix(7): 108 bytes, the last of them 0.
    assert len(str(Layout("a" * 31).instance_socket("0" * 12))) < 108


def test_what_is_live_and_what_is_complete(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    assert (layout.live_id(), layout.staged_ids(), layout.manifest(None), layout.manifest("abc")) == (None, [], {}, {})
    for name, facts in (("abc", '{"release": "abc"}'), ("bad", "half"), (".staging-x", "{}"), ("list", "[]")):
        (layout.releases / name).mkdir(parents=True)
        (layout.releases / name / "release.json").write_text(facts)
    (layout.releases / "empty").mkdir()
    os.symlink("releases/abc", layout.live)
    assert layout.live_id() == "abc"
    assert layout.staged_ids() == ["abc", "bad", "list"]
    assert [layout.manifest(name) for name in ("abc", "bad", "list", "empty")] == [{"release": "abc"}, {}, {}, {}]


def make(layout: Layout, *paths: str) -> None:
    """Make files among systemd's, and directories where a path ends with a slash."""
    for path in paths:
        target = layout.unit_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if path.endswith("/") else target.write_text("")


def test_a_release_has_its_drop_in_and_the_units_of_its_server(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    serve, systemd = layout.release("abc") / "serve", layout.unit_dir
    assert layout.release_units("abc") == {serve / "service.conf": systemd / "shop@abc.service.d/release.conf"}
    (serve / "units").mkdir(parents=True)
    for name in ("shop_http@.socket", "shop_http@.service", "shop@.slice", "README", "shop.service"):
        (serve / "units" / name).write_text("")
    assert layout.release_units("abc") == {
        serve / "service.conf": systemd / "shop@abc.service.d/release.conf",
        serve / "units/shop_http@.socket": systemd / "shop_http@abc.socket",
        serve / "units/shop_http@.service": systemd / "shop_http@abc.service",
        # A slice has no instances.
        serve / "units/shop@.slice": systemd / "shop-abc.slice",
    }


def test_what_is_installed_of_a_release(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    assert layout.installed_units("abc") == []
    mine = ["shop-abc.slice", "shop@abc.service.d/", "shop_http@abc.socket", "shop_http@abc.service"]
    others = ["shop.service", "shop@.service", "shop@abcd.service.d/", "shop@ab.service.d/", "shop_http@abcd.socket"]
    make(layout, *mine, *others, "shop-abcd.slice", "shop.slice")
    assert layout.installed_units("abc") == sorted(layout.unit_dir / path for path in mine)


def test_apps_whose_names_begin_alike_never_touch_each_other(tmp_path: Path) -> None:
    shop, admin, longer = (Layout(name, tmp_path) for name in ("shop", "shop-admin", "shopping"))
    units = ["{}@abc.service.d/", "{}_http@abc.socket", "{}-abc.slice"]
    for layout in (shop, admin, longer):
        make(layout, *(unit.format(layout.name) for unit in units))
    for layout in (shop, admin, longer):
        wanted = sorted(layout.unit_dir / unit.format(layout.name) for unit in units)
        assert layout.installed_units("abc") == wanted
        assert set(layout.release_units("abc").values()) <= set(wanted) | {layout.drop_in("abc")}


def test_all_that_is_written_for_a_release_is_found_again(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    units = layout.release("abc") / "serve/units"
    units.mkdir(parents=True)
    for name in ("shop_http@.socket", "shop@.slice"):
        (units / name).write_text("")
    for target in layout.release_units("abc").values():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("")
    written = {
        target.parent if target.parent != layout.unit_dir else target for target in layout.release_units("abc").values()
    }
    assert set(layout.installed_units("abc")) == written
