# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites that the inventory no longer has, and what they give up to those that it has."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import MARK, SITES, Change, File

_CLAIM = re.compile(r"(?:^|[;{}])[ \t]*(listen|server_name)[ \t]+([^;]+);", re.MULTILINE)

#: How the role redirects all of a server to one name; what people write in snippets looks different.
_REDIRECT = re.compile(r"(?<=^    location / \{\n)(        return 308 (?:\$scheme|https)://)([^$:/;\s]+)", re.MULTILINE)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Claims:
    """What a configuration answers for.

    :param names: host names as nginx compares them; ``.NAME`` stands for two.
    :param defaults: the addresses that it is the default server of, such as ``80`` and ``[::]:443``.
    """

    names: frozenset[str]
    defaults: frozenset[str]


@dataclass(frozen=True)
class Stale:
    """A site's file that has to give something up.

    :param change: what becomes of the file.
    :param names: the names that it loses, each with the file that has it now.
    :param default: the file that is the default server in its place; None where it goes on, or never was.
    :param kept: what it still answers for; empty where the file goes.
    """

    change: Change
    names: dict[str, str]
    default: str | None
    kept: tuple[str, ...]


def claims_of(text: str) -> Claims:
    """Return what a configuration answers for, told by its ``server_name`` and ``listen`` directives."""
    names: set[str] = set()
    defaults = set()
    for directive, value in _CLAIM.findall(text):
        words = [word.strip("\"'") for word in value.split()]
        if directive == "server_name":
            names.update(one for word in words if word not in ("_", "") for one in _compared(word))
        elif "default_server" in words:
            defaults.add(_address(words[0]))
    return Claims(frozenset(names), frozenset(defaults))


def _compared(name: str) -> list[str]:
    if name.startswith("~"):
        return [name]
    name = name.lower()
    return [name[1:], f"*{name}"] if name.startswith(".") else [name]


def _address(listen: str) -> str:
    return re.sub(r"^(\*|0\.0\.0\.0):", "", listen)


def without_claims(text: str, taken: Claims) -> str:
    """Take names, and the place of the default server, out of a site's file as the role writes it.

    A server that is left without both goes, and with the last one all of the file: then nothing is returned. Where the
    canonical name goes, the next one takes its place, so that nobody is redirected to a site that is another's now.
    """
    head, servers = _servers(text)
    if not servers:
        return text
    old = next((found.group(2) for server in servers if (found := _REDIRECT.search(server))), None)
    if old is not None and old.lower() in taken.names:
        servers = _with_canonical(servers, old, taken)
    kept = [server for server in (_without(server, taken) for server in servers) if server]
    return "\n\n".join([head, *kept]) + "\n" if kept else ""


def _servers(text: str) -> tuple[str, list[str]]:
    """Return what stands before the first server block, and these; their first and last lines alone are not indented."""
    parts = re.split(r"^(server \{\n.*?^\}\n?)", text, flags=re.MULTILINE | re.DOTALL)
    head = "\n\n".join(part.strip("\n") for part in parts[::2] if part.strip())
    return head, [part.strip("\n") for part in parts[1::2]]


def _names(server: str) -> list[str]:
    found = re.search(r"^    server_name (.+);$", server, re.MULTILINE)
    return found.group(1).split() if found else []


def _left(names: Sequence[str], taken: Claims) -> list[str]:
    """Return the names that are not taken; of ``.NAME`` one half can be left."""
    left = []
    for name in names:
        halves = [one for one in _compared(name) if one not in taken.names]
        left += [name] if len(halves) == len(_compared(name)) else halves
    return left


def _with_canonical(servers: Sequence[str], old: str, taken: Claims) -> list[str]:
    """Give a site whose canonical name is taken another one, of those that were redirected to it."""
    other = next(
        (one for one in servers if (found := _REDIRECT.search(one)) and found.group(1).endswith("$scheme://")), ""
    )
    left = _left(_names(other), taken)
    new = next((name for name in left if _PLAIN_NAME.fullmatch(name)), None)
    # Without a plain name to redirect to, all are served.
    own, redirected = ([new], [name for name in left if name != new]) if new else (left, [])
    result = []
    for server in servers:
        if server == other:
            if redirected:
                result.append(_REDIRECT.sub(rf"\g<1>{new}", _named(server, redirected)))
        elif _REDIRECT.search(server):
            result.append(_REDIRECT.sub(rf"\g<1>{new or '$host'}", server))
        elif [name.lower() for name in _names(server)] == [old.lower()]:
            result.append(_named(server, own or [old]))
        else:
            result.append(server)
    return result


def _without(server: str, taken: Claims) -> str:
    """Return a server block without what is taken, nothing where that was all."""
    before = claims_of(server)
    names = _names(server)
    left = _left(names, taken)
    for address in before.defaults & taken.defaults:
        found = rf"^(    listen (?:\*:|0\.0\.0\.0:)?{re.escape(address)}(?: [^;]*?)?) default_server\b"
        server = re.sub(found, r"\1", server, flags=re.MULTILINE)
    after = claims_of(server)
    if (left, after.defaults) == (names, before.defaults):
        return server
    if not [name for name in left if name != "_"] and not after.defaults:
        return ""
    return _named(server, left or ["_"])


def _named(server: str, names: Sequence[str]) -> str:
    return re.sub(
        r"^    server_name .+;$",
        lambda _unused: f"    server_name {' '.join(names)};",
        server,
        count=1,
        flags=re.MULTILINE,
    )


def plan_stale(root: Path, files: Sequence[File]) -> list[Stale]:
    """Find the role's own files of sites that are not asked for any more and would still answer for one that is.

    What they alone answer for they keep: their application may still run. Files without our mark are not looked at.

    :param root: the configuration directory.
    :param files: all files that are asked for, and those that are to go.
    """
    claims = {wanted.path: claims_of(wanted.content) for wanted in files if wanted.content is not None}
    owners = {name: path for path, has in reversed(claims.items()) for name in has.names}
    defaults = {address: path for path, has in reversed(claims.items()) if _is_site(path) for address in has.defaults}
    taken = Claims(frozenset(owners), frozenset(defaults))
    found = []
    for path, text in _left_out(root, files):
        place = f"{SITES}/{path.name}"
        has = claims_of(text)
        lost, gone = has.names & taken.names, has.defaults & taken.defaults
        after = without_claims(text, taken) if lost or gone else text
        if after == text:
            continue
        kept = claims_of(after)
        change = Change(
            place,
            stat.S_IMODE(path.stat().st_mode),
            after.encode("utf-8", "surrogateescape") if after else None,
            (_printable(text), _printable(after)),
        )
        answers = (*sorted(kept.names), *(["hosts that no site names"] if kept.defaults else []))
        default = defaults[min(gone)] if gone else None
        found.append(Stale(change, {name: owners[name] for name in sorted(lost)}, default, answers if after else ()))
    return found


#: The servers of nginx.conf that turn away hosts which no site names; the template writes them so.
_CATCH_ALL = re.compile(
    r"\n(?:    # Hosts that no site names get no answer\.\n)?    server \{\n(?:        .*\n)+?    \}\n", re.MULTILINE
)


def without_catch_all(root: Path, files: Sequence[File]) -> list[File]:
    """Leave our own default servers out of nginx.conf where a site that is not asked for has that place.

    It may be of another inventory, or its application may still run; only another site takes the place from it.
    """
    taken = {
        address
        for file in files
        if file.content and _is_site(file.path)
        for address in claims_of(file.content).defaults
    }
    held = {address for _unused, text in _left_out(root, files) for address in claims_of(text).defaults} - taken

    def yields(found: re.Match[str]) -> str:
        return "" if claims_of(found.group()).defaults & held else found.group()

    return [
        file
        if file.content is None or _is_site(file.path)
        else replace(file, content=_CATCH_ALL.sub(yields, file.content))
        for file in files
    ]


def _is_site(path: str) -> bool:
    return path.startswith(f"{SITES}/")


def _left_out(root: Path, files: Sequence[File]) -> Iterator[tuple[Path, str]]:
    """Yield the role's own files of sites that are neither asked for nor to go, with their text."""
    known = {wanted.path for wanted in files}
    for path in sorted((root / SITES).glob("[!.]*")):
        if f"{SITES}/{path.name}" in known or path.is_symlink() or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if text.startswith(f"# {MARK}"):
            yield path, text


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def told(stale: Stale, root: Path, check_mode: bool = False) -> str:
    """Say what a site's file gave up, who has it now, and what to do."""
    name = Path(stale.change.path).stem
    lost: dict[str, list[str]] = {}
    for host, path in stale.names.items():
        lost.setdefault(path, []).append(host)
    if stale.default:
        lost.setdefault(stale.default, []).append("hosts that no site names")
    owners = [
        f"{_and(hosts)} (now of {f'the site {Path(path).stem}' if _is_site(path) else path})"
        for path, hosts in lost.items()
    ]
    would = "would be" if check_mode else "was"
    done = (
        f"This {would} taken out of it; it goes on answering for {_and(stale.kept)}."
        if stale.kept
        else f"It answered for nothing else and {would} removed."
    )
    return (
        f"{root / stale.change.path} belongs to the site {name}, which is no longer in nginx_sites, and still answered for "
        f"{_and(owners)}. {done} An application behind it is not stopped. To remove the old site for good, add "
        f"{{name: {name}, state: absent}} to nginx_sites."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
