# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands in the way of an app's name on a host, and what does not."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.accounts import (
    PRIVILEGED,
    UNIT_MARK,
    Account,
    Group,
    Host,
    comment_of,
    find_errors,
    live_apps,
    look,
    warnings_of,
)

OURS = Account("shop", 990, 991, "shop, a Flask app", "/srv/shop", frozenset({"shop"}))
GROUP = Group("shop", 991, ("www-data",))


@pytest.fixture
def bare(tmp_path: Path) -> Host:
    """A host that knows nothing of the app."""
    return Host(root=tmp_path, root_uid=os.getuid())


@pytest.fixture
def deployed(bare: Host) -> Host:
    """A host that the app was deployed to by the version before this check."""
    home, run, units = bare.root / "srv/shop", bare.root / "run/shop/0123456789ab", bare.root / "etc/systemd/system"
    for path in (home / "releases", home / "venvs", home / "shared", run, units):
        path.mkdir(parents=True)
    (home / "live").symlink_to("releases/0123456789ab")
    for name in ("shop.service", "shop@.service"):
        (units / name).write_text(f"{UNIT_MARK}. The instance is the release.\n")
    return replace(bare, accounts={"shop": OURS}, groups={"shop": GROUP})


def put(host: Host, path: str, text: str = "[Unit]\n") -> None:
    (host.root / path).parent.mkdir(parents=True, exist_ok=True)
    (host.root / path).write_text(text)


def only(host: Host, name: str = "shop") -> str:
    (mistake,) = find_errors(name, host)
    return mistake


def test_a_bare_host_and_a_deployed_one_pass(bare: Host, deployed: Host) -> None:
    for host in (bare, deployed):
        assert find_errors("shop", host) == warnings_of("shop", host) == []


@pytest.mark.parametrize("name", ["", "../etc", "/etc", ".", "..", "-x"])
def test_what_is_no_name(bare: Host, name: str) -> None:
    assert "expected the name of an app" in only(bare, name)


# -- accounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "account",
    [
        Account("shop", 1000, 1001, "Site admin", "/home/shop", frozenset({"shop", "sudo"})),
        Account("shop", 990, 991, "", "/var/lib/shop"),
        Account("shop", 990, 991, "shop, a Flask app", "/home/shop"),
        Account("shop", 990, 991, "shop2, a Flask app", "/srv/shop"),
        Account("shop", 20001, 20001, "shop of the directory", "/srv/shop"),
        replace(OURS, uid=0),
    ],
)
def test_an_account_of_somebody_else(bare: Host, account: Account) -> None:
    host = replace(bare, accounts={"shop": account}, groups={"shop": Group("shop", account.group)})
    mistake = only(host)
    assert f"uid {account.uid}, home {account.home}" in mistake
    assert "Choose another name" in mistake
    assert ("usermod --comment 'shop, a Flask app' shop" in mistake) is (
        account.home == "/srv/shop" and account.uid > 0
    )


def test_an_account_that_chfn_has_touched_is_ours(deployed: Host) -> None:
    host = replace(deployed, accounts={"shop": replace(OURS, comment="shop, a Flask app,,", home="/srv/shop/")})
    assert find_errors("shop", host) == []


def test_an_account_that_was_put_into_a_group_of_the_systems(deployed: Host) -> None:
    account = replace(OURS, name="shadow", comment="shadow, a Flask app", home="/srv/shadow", group=100)
    groups = {"shadow": Group("shadow", 42, ("www-data",))}
    mistake = only(replace(deployed, accounts={"shadow": account}, groups=groups), "shadow")
    assert "its primary group is 100, and the group shadow (gid 42) is another one" in mistake
    assert "(www-data; gpasswd --delete USER shadow)" in mistake


def test_an_account_without_its_group(deployed: Host) -> None:
    assert "groupadd --system shop && usermod --gid shop shop" in only(replace(deployed, groups={}))


@pytest.mark.parametrize("group", sorted(PRIVILEGED))
def test_an_account_of_ours_with_privileges(deployed: Host, group: str) -> None:
    host = replace(deployed, accounts={"shop": replace(OURS, groups=frozenset({"shop", group, "audio"}))})
    mistake = only(host)
    assert f"its account is in the group {group}, so that" in mistake
    assert f"gpasswd --delete shop {group}" in mistake
    assert "audio" not in mistake


@pytest.mark.parametrize("group", ["redis", "acme", "other-app", "ssl-cert", "video"])
def test_a_group_that_it_was_given_on_purpose_is_fine(deployed: Host, group: str) -> None:
    host = replace(deployed, accounts={"shop": replace(OURS, groups=frozenset({"shop", group}))})
    assert find_errors("shop", host) == []


def test_a_login_that_was_taken_over_is_warned_of(deployed: Host) -> None:
    host = replace(deployed, accounts={"shop": replace(OURS, uid=1000)})
    assert find_errors("shop", host) == []
    (warning,) = warnings_of("shop", host)
    assert "has the number 1000, and those that the role makes are 999 at most" in warning
    assert warnings_of("shop", replace(host, last_system_uid=1999)) == []


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shadow", "staff", "disk", "adm", "users", "docker"])
def test_a_group_of_the_systems(bare: Host, name: str) -> None:
    mistake = only(replace(bare, groups={name: Group(name, 990 if name == "docker" else 50)}), name)
    assert mistake.startswith(f"{name}: a group of that name is on this host")
    assert "groupdel" not in mistake


def test_a_group_that_may_be_left_over(bare: Host) -> None:
    assert "(its members: www-data), remove it: groupdel shop" in only(replace(bare, groups={"shop": GROUP}))


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit",
    [
        "etc/systemd/system/shop.service",
        "etc/systemd/system/shop@.service",
        "run/systemd/system/shop.service",
        "usr/lib/systemd/system/shop.target",
        "run/systemd/generator.late/shop.service",
        "run/systemd/transient/shop.service",
        "usr/local/lib/systemd/system/shop.timer",
        "usr/lib/systemd/system/shop.socket",
        "usr/lib/systemd/system/shop@.service",
        "lib/systemd/system/shop.slice",
        "etc/systemd/system/shop.path",
        "etc/init.d/shop",
    ],
)
def test_a_unit_of_somebody_else(bare: Host, unit: str) -> None:
    put(bare, unit)
    assert only(bare).startswith(f"shop: /{unit} is on this host and was not written by this collection")


@pytest.mark.parametrize("target", ["/dev/null", "missing.service", "other.service"])
def test_a_masked_or_linked_unit(bare: Host, target: str) -> None:
    put(bare, "etc/systemd/system/other.service")
    (bare.root / "etc/systemd/system/shop.service").symlink_to(target)
    assert "/etc/systemd/system/shop.service" in only(bare)


def test_lib_is_usr_lib(bare: Host) -> None:
    put(bare, "usr/lib/systemd/system/shop.service")
    (bare.root / "lib").symlink_to("usr/lib")
    assert "/usr/lib/systemd/system/shop.service" in only(bare)


def test_what_an_operator_keeps_beside_a_deployed_app(deployed: Host) -> None:
    for path in ("shop.service.d/override.conf", "shop.timer", "shop.mount", "shop-nightly.service", "shop@0.service"):
        put(deployed, f"etc/systemd/system/{path}")
    assert find_errors("shop", deployed) == []
    put(deployed, "usr/lib/systemd/system/shop.service")
    assert "/usr/lib/systemd/system/shop.service" in only(deployed)


# -- directories -------------------------------------------------------------------------------------------------------


def test_a_directory_of_somebody_else(bare: Host) -> None:
    (bare.root / "srv/shop").mkdir(parents=True)
    assert find_errors("shop", bare) == []
    mistake = only(replace(bare, root_uid=os.getuid() + 1))
    assert f"/srv/shop belongs to the user with the number {os.getuid()} and not to root" in mistake


def test_a_file_or_a_link_in_place_of_the_directory(bare: Host, tmp_path: Path) -> None:
    put(bare, "srv/shop", "mine")
    assert "/srv/shop is a file" in only(bare)
    (bare.root / "srv/shop").unlink()
    (bare.root / "data").mkdir()
    (bare.root / "srv/shop").symlink_to(bare.root / "data")
    # An administrator's way to another disk.
    assert find_errors("shop", bare) == []
    put(bare, "data/index.html")
    assert "/srv/shop is in use for something else" in only(bare)
    (bare.root / "srv/shop").unlink()
    (bare.root / "srv/shop").symlink_to("missing")
    assert "/srv/shop is a link" in only(bare)
    (bare.root / "srv/shop").unlink()
    os.mkfifo(bare.root / "srv/shop")
    assert "/srv/shop is no directory" in only(bare)


def test_a_live_that_is_no_link(bare: Host, deployed: Host) -> None:
    (deployed.root / "srv/shop/live").unlink()
    put(deployed, "srv/shop/live")
    for host in (bare, deployed):
        assert "/srv/shop/live is there and is no link" in only(host)
    assert live_apps(deployed.root) == []


def test_a_directory_that_is_in_use_for_something_else(bare: Host) -> None:
    put(bare, "srv/shop/index.html")
    assert "/srv/shop is in use for something else (index.html)" in only(bare)


def test_what_an_app_left_or_a_file_system_brings(bare: Host) -> None:
    (bare.root / "srv/shop/lost+found").mkdir(parents=True)
    assert find_errors("shop", bare) == []
    (bare.root / "srv/shop/shared").mkdir()
    put(bare, "srv/shop/notes.txt")
    assert find_errors("shop", bare) == []
    assert live_apps(bare.root) == []
    (bare.root / "srv/shop/live").symlink_to("releases/0")
    assert live_apps(bare.root) == ["shop"]


@pytest.mark.parametrize(("entry", "mode"), [("private", 0o755), ("0123456789ab", 0o1777), ("0123456789abc", 0o755)])
def test_a_runtime_directory_of_somebody_else(bare: Host, entry: str, mode: int) -> None:
    directory = bare.root / "run/systemd"
    (directory / entry).mkdir(parents=True)
    directory.chmod(mode)
    assert "/run/systemd is in use for something else" in only(bare, "systemd")


def test_the_runtime_directory_of_an_app_that_was_removed(bare: Host) -> None:
    (bare.root / "run/shop/0123456789ab").mkdir(parents=True)
    (bare.root / "run/shop").chmod(0o755)
    assert find_errors("shop", bare) == []


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(bare: Host) -> None:
    put(bare, "srv/shop/live")
    put(bare, "etc/init.d/shop")
    put(bare, "etc/systemd/system/shop.service")
    host = replace(
        bare, accounts={"shop": Account("shop", 1000, 1000, "", "/home/shop")}, groups={"shop": Group("shop", 50)}
    )
    assert len(find_errors("shop", host)) == 5


def test_the_host_is_asked_by_its_own_means(tmp_path: Path) -> None:
    me, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    host = look([me.pw_name, group.gr_name, "nobody-has-this-name"], tmp_path)
    assert host.accounts[me.pw_name].home == me.pw_dir
    assert group.gr_name in host.accounts[me.pw_name].groups or me.pw_gid != group.gr_gid
    assert host.groups[group.gr_name].gid == group.gr_gid
    assert "nobody-has-this-name" not in host.accounts | host.groups
    assert host.last_system_uid == 999


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("UID_MIN 500\n", 499),
        ("#SYS_UID_MAX 1\nUID_MIN\t1000\n", 999),
        ("UID_MIN 1000\nSYS_UID_MAX 899\n", 899),
        ("UID_MIN\n", 999),
    ],
)
def test_the_numbers_of_system_accounts(tmp_path: Path, text: str, last: int) -> None:
    put(Host(root=tmp_path), "etc/login.defs", text)
    assert look([], tmp_path).last_system_uid == last


def test_the_role_makes_the_account_that_is_recognised() -> None:
    """Else every app's own account would be refused."""
    tasks = (Path(__file__).parents[5] / "roles/app/tasks/prepare.yml").read_text()
    said = comment_of("{{ app_app.name }}")
    assert tasks.count(said) == 2 and tasks.count(", a Flask app") == 2
