# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host already has under an app's name: an account, a group, a unit or a directory that is not the app's."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import RELEASE_ID

#: How every unit of ours begins.
UNIT_MARK = "# Managed by flaskops.server"

#: Groups that are as good as root, or that read what is not an app's business. No app was ever given one by its role.
PRIVILEGED = frozenset(
    "adm admin disk docker incus incus-admin kmem libvirt lxd root shadow staff sudo systemd-journal wheel".split()
)

#: Where systemd finds units, and what it makes units from (systemd.unit(5), systemd-sysv-generator(8)).
UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "etc/systemd/system.control",
    "run/systemd/system",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "run/systemd/generator",
    "run/systemd/generator.late",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
UNIT_KINDS = ("service", "socket", "timer", "path", "target", "slice")
#: The kind that the app's own units are of; an app that is there already may have others beside it, by its operator.
OWN_KINDS = ("service",)

#: Debian's own groups have fixed numbers below this one; none of them is left over from an app.
FIRST_DYNAMIC_ID = 100

#: What is in an app's directory, and what a file system of its own brings along.
OWN_ENTRIES = frozenset("releases venvs shared live deploys.jsonl".split())
NOBODYS_ENTRIES = frozenset(["lost+found"])


@dataclass(frozen=True)
class Account:
    """An account, by whatever the host knows it (files, LDAP).

    :param group: the number of its primary group.
    :param groups: the names of all groups that it is in.
    """

    name: str
    uid: int
    group: int
    comment: str
    home: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Group:
    """A group and those that are listed as its members."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """What is looked at.

    :param accounts: the host's own answer for each name; names that nobody has are not in it.
    :param groups: likewise.
    :param last_system_uid: the largest number of a system account.
    :param root: the root directory, and whose it is: for tests.
    """

    accounts: Mapping[str, Account] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    last_system_uid: int = 999
    root: Path = Path("/")
    root_uid: int = 0


def look(names: Sequence[str], root: Path = Path("/")) -> Host:
    """Ask the host (through NSS, so that a directory service counts) for accounts and groups of these names."""
    accounts, groups = {}, {}
    for name in names:
        with contextlib.suppress(KeyError):
            known = pwd.getpwnam(name)
            accounts[name] = Account(
                name, known.pw_uid, known.pw_gid, known.pw_gecos, known.pw_dir, _groups_of(name, known.pw_gid)
            )
        with contextlib.suppress(KeyError):
            group = grp.getgrnam(name)
            groups[name] = Group(name, group.gr_gid, tuple(group.gr_mem))
    return Host(accounts, groups, _last_system_uid(root / "etc/login.defs"), root)


def _groups_of(name: str, group: int) -> frozenset[str]:
    found = set()
    for gid in os.getgrouplist(name, group):
        try:
            found.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            found.add(str(gid))
    return frozenset(found)


def _last_system_uid(login_defs: Path) -> int:
    """Return what useradd goes by: SYS_UID_MAX, else one less than UID_MIN, else Debian's 999."""
    try:
        lines = login_defs.read_text(errors="replace").splitlines()
    except OSError:
        return 999
    said = {words[0]: words[1] for words in (line.split() for line in lines) if len(words) > 1 and words[1].isdigit()}
    return int(said["SYS_UID_MAX"]) if "SYS_UID_MAX" in said else int(said.get("UID_MIN", "1000")) - 1


def comment_of(name: str) -> str:
    """Return the comment that the role app gives its account."""
    return f"{name}, a Flask app"


def find_errors(name: str, host: Host) -> list[str]:
    """Say what of this name is on the host and not the app's; nothing is changed."""
    if not name or "/" in name or name.startswith((".", "-")):
        return [f"{name!r}: expected the name of an app"]
    found = [
        *_account(name, host),
        *_group(name, host),
        *_units(name, host),
        *_home(name, host),
        *_runtime(name, host),
    ]
    return [f"{name}: {one}" for one in found]


def warnings_of(name: str, host: Host) -> list[str]:
    """Say what looks as if an earlier version had turned somebody's login into the app's account."""
    account = host.accounts.get(name)
    if account is None or not _is_ours(account) or account.uid <= host.last_system_uid:
        return []
    return [
        f"{name}: the app's account has the number {account.uid}, and those that the role makes are "
        f"{host.last_system_uid} at most: it was somebody's login before an earlier version of this collection took it "
        f"over, or was made by hand. If it was a login, everything that still runs or lies there under that number "
        f"(`crontab -l -u {name}`, `find / -xdev -user {name}`) is open to the app: give the login back and choose "
        "another name for the app."
    ]


def live_apps(root: Path = Path("/")) -> list[str]:
    """Return the names of the apps that have a live release on the host, whatever inventory they are in."""
    # Not by a pattern with `live` in it: that passes over a link whose release is gone.
    return sorted(home.name for home in (root / "srv").glob("*") if (home / "live").is_symlink())


def _is_ours(account: Account) -> bool:
    return account.comment.rstrip(",") == comment_of(account.name) and os.path.normpath(account.home) == (
        f"/srv/{account.name}"
    )


def _account(name: str, host: Host) -> list[str]:
    account = host.accounts.get(name)
    if account is None:
        return []
    if not _is_ours(account) or account.uid == 0:
        words = (
            f"an account of that name is on this host (uid {account.uid}, home {account.home}) and was not made for this "
            "app. It would become the app's: whoever logs in as it would be locked out, and the app would have its rights. "
            "Choose another name for the app."
        )
        if account.uid and os.path.normpath(account.home) == f"/srv/{name}":
            words += (
                " If it is the app's own and only its comment was changed, put that back: "
                f"usermod --comment '{comment_of(name)}' {name}"
            )
        return [words]
    return [*_own_group(account, host.groups.get(name)), *_privileges(account)]


def _own_group(account: Account, group: Group | None) -> list[str]:
    name = account.name
    if group is None:
        return [
            f"its account is not in a group of its own: there is no group {name}, and its primary group is {account.group}. "
            f"Make the group and restart the app: groupadd --system {name} && usermod --gid {name} {name}"
        ]
    if group.gid == account.group:
        return []
    return [
        f"its account is not in a group of its own: its primary group is {account.group}, and the group {name} "
        f"(gid {group.gid}) is another one, of the system's. An earlier version of this collection made it so, and let "
        f"the app and the web server into the group {name}. Stop the app (systemctl disable --now {name} '{name}@*'), "
        f"remove its account (userdel {name}), take the members out of the group that do not belong there "
        f"({', '.join(group.members) or 'none are listed'}; gpasswd --delete USER {name}), and choose another name for the app."
    ]


def _privileges(account: Account) -> list[str]:
    name, groups = account.name, sorted(account.groups & PRIVILEGED)
    if not groups:
        return []
    several = len(groups) > 1
    return [
        f"its account is in the group{'s' if several else ''} {', '.join(groups)}, so that the app has rights of an "
        "administrator, or reads what is not its own. The role never puts it there: an earlier version of this collection "
        f"may have taken over a person's login of that name. Look for files and jobs of that person (find / -xdev -user "
        f"{name}; crontab -l -u {name}). If there was one, give the login back (usermod --home, --shell, --comment; "
        "passwd) and choose another name for the app; if not, take the account out: "
        + "; ".join(f"gpasswd --delete {name} {group}" for group in groups)
        + ". An app that is meant to have the right says so itself: unit: {SupplementaryGroups: GROUP}"
    ]


def _group(name: str, host: Host) -> list[str]:
    group, account = host.groups.get(name), host.accounts.get(name)
    if group is None or (account is not None and (_is_ours(account) or account.group == group.gid)):
        return []
    words = (
        f"a group of that name is on this host (gid {group.gid}) and is not the app's: the app and the web server would "
        "get its rights. Choose another name for the app."
    )
    # userdel leaves the group of a removed app behind, as the web server is in it.
    if account is None and group.members and group.gid >= FIRST_DYNAMIC_ID and name not in PRIVILEGED:
        listed = ", ".join(group.members)
        words += (
            f" If it is only left over from an app of that name (its members: {listed}), remove it: groupdel {name}"
        )
    return [words]


def _is_here(name: str, host: Host) -> bool:
    return name in host.accounts and _is_ours(host.accounts[name])


def _units(name: str, host: Host) -> list[str]:
    root = host.root
    kinds = OWN_KINDS if _is_here(name, host) else UNIT_KINDS
    found: dict[str, Path] = {}
    for directory in UNIT_DIRECTORIES:
        for kind in kinds:
            for unit in (f"{name}.{kind}", f"{name}@.{kind}"):
                path = root / directory / unit
                if os.path.lexists(path) and not _is_our_unit(path):
                    # /lib is /usr/lib; a link to another unit is a file of its own.
                    found.setdefault(os.path.join(os.path.realpath(path.parent), unit), path)
    script = root / "etc/init.d" / name
    if os.path.lexists(script):
        found[str(script)] = script
    shown = [f"/{path.relative_to(root)}" for path in found.values()]
    return [
        f"{path} is on this host and was not written by this collection: the app's units {name}.service and "
        f"{name}@.service would take its place, or be mixed up with it. Choose another name for the app, or, if nobody "
        "needs it, remove the file or the package that it belongs to"
        for path in shown
    ]


def _is_our_unit(path: Path) -> bool:
    try:
        # Ours are plain files; anything else, such as a pipe, is not even opened.
        return stat.S_ISREG(path.lstat().st_mode) and path.read_bytes().startswith(UNIT_MARK.encode())
    except OSError:
        return False


def _home(name: str, host: Host) -> list[str]:
    home, shown = host.root / "srv" / name, f"/srv/{name}"
    try:
        information = home.lstat()
    except FileNotFoundError:
        return []
    if stat.S_ISLNK(information.st_mode) and information.st_uid == host.root_uid and home.is_dir():
        # An administrator's way to another disk: root's link to a directory, which is judged in its place.
        information = home.stat()
    what = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link", stat.S_IFREG: "a file"}.get(
        stat.S_IFMT(information.st_mode), "no directory"
    )
    if what != "a directory":
        advice = (
            f"To keep the app on another disk, mount it at {shown} (mount --bind) instead"
            if what == "a link"
            else "Move it away, or choose another name for the app"
        )
        return [f"{shown} is {what}, and has to be the app's directory, which is root's. {advice}"]
    errors = []
    if information.st_uid != host.root_uid:
        errors.append(
            f"{shown} belongs to the user with the number {information.st_uid} and not to root: it is somebody's "
            "directory, who could change the app's code in it. Move it away, or choose another name for the app. If all of "
            f"it is the app's, give the directory to root: chown root {shown}"
        )
    entries = set(os.listdir(home)) - NOBODYS_ENTRIES
    if "live" in entries and not (home / "live").is_symlink():
        errors.append(
            f"{shown}/live is there and is no link: it is somebody's, and would be replaced by the link to the live release. "
            "Move it away, or choose another name for the app"
        )
    elif entries and not entries & OWN_ENTRIES and not _is_here(name, host):
        errors.append(
            f"{shown} is in use for something else ({', '.join(sorted(entries)[:3])}), and would be closed to everybody but "
            "the app. Move it away, or choose another name for the app"
        )
    return errors


def _runtime(name: str, host: Host) -> list[str]:
    """Look at /run/NAME: the directories of instances are there, which are called after their releases."""
    directory = host.root / "run" / name
    if _is_here(name, host) or not os.path.lexists(directory):
        return []
    information = directory.lstat()
    if (
        stat.S_ISDIR(information.st_mode)
        and information.st_uid == host.root_uid
        and not information.st_mode & 0o022
        and all(RELEASE_ID.fullmatch(entry) for entry in os.listdir(directory))
    ):
        return []
    return [
        f"/run/{name} is in use for something else, and the app's sockets would have to be in it. Choose another name for "
        "the app"
    ]
