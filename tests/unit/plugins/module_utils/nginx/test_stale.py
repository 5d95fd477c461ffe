# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites that are not asked for any more give up what is another's now."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import MARK, Change, File
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import install
from ansible_collections.flaskops.server.plugins.module_utils.nginx.stale import plan_stale, told, without_catch_all


def old_site(root: Path, name: str, names: str, mark: str = f"# {MARK}. x", default: str = "") -> Path:
    """Write the file of a site as the role does, as far as it matters here."""
    path = root / f"sites-enabled/{name}.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{mark}\n\nserver {{\n    listen 80{default};\n    server_name {names};\n}}\n")
    path.chmod(0o640)
    return path


def new_site(name: str, names: str, default: str = "") -> File:
    text = f"# {MARK}\n\nserver {{\n    listen 80{default};\n    server_name {names};\n}}\n"
    return File(f"sites-enabled/{name}.conf", text, owned=True)


def test_a_site_that_is_gone_gives_up_what_is_anothers_now(tmp_path: Path) -> None:
    before = old_site(tmp_path, "docs", "a.org b.org").read_text()
    old_site(tmp_path, "gone", "A.org")
    old_site(tmp_path, "quiet", "c.org")
    files = [new_site("zed", "a.org"), File("sites-enabled/left.conf", owned=True)]
    docs, gone = plan_stale(tmp_path, files)
    assert docs.change == Change(
        "sites-enabled/docs.conf",
        0o640,
        before.replace("a.org b.org", "b.org").encode(),
        (before, before.replace("a.org b.org", "b.org")),
    )
    assert (gone.change.path, gone.change.content, gone.change.shown[1]) == ("sites-enabled/gone.conf", None, "")
    assert told(docs, tmp_path) == (
        f"{tmp_path}/sites-enabled/docs.conf belongs to the site docs, which is no longer in nginx_sites, and still answered "
        "for a.org (now of the site zed). This was taken out of it; it goes on answering for b.org. An application behind "
        "it is not stopped. To remove the old site for good, add {name: docs, state: absent} to nginx_sites."
    )
    assert "It answered for nothing else and would be removed." in told(gone, tmp_path, check_mode=True)
    install(tmp_path, [docs.change, gone.change], lambda: None)
    assert plan_stale(tmp_path, files) == []
    assert sorted(path.name for path in (tmp_path / "sites-enabled").iterdir()) == ["docs.conf", "quiet.conf"]


def test_the_place_of_the_default_server_is_given_up(tmp_path: Path) -> None:
    old_site(tmp_path, "docs", "_", default=" default_server")
    (stale,) = plan_stale(tmp_path, [new_site("zed", "_", " default_server")])
    assert stale.change.content is None
    assert "hosts that no site names (now of the site zed)" in told(stale, tmp_path)
    assert plan_stale(tmp_path, [new_site("zed", "a.org")]) == []


CATCH_ALL = """\

    # Hosts that no site names get no answer.
    server {
        listen 80 default_server;
        listen [::]:80 default_server;
        server_name _;
        return 444;
    }
"""


def test_our_own_catch_all_takes_no_place_from_a_site(tmp_path: Path) -> None:
    """It may be of another inventory."""
    conf = File("nginx.conf", f"http {{\n    gzip on;\n{CATCH_ALL}\n    include sites-enabled/*;\n}}\n")
    named, default = new_site("zed", "a.org"), new_site("zed", "_", " default_server")
    assert without_catch_all(tmp_path, [conf, named]) == [conf, named]
    old_site(tmp_path, "docs", "_", default=" default_server")
    assert plan_stale(tmp_path, [conf, named]) == []
    without, kept = without_catch_all(tmp_path, [conf, named])
    assert without.content == "http {\n    gzip on;\n\n    include sites-enabled/*;\n}\n"
    assert kept == named
    # Where a site that is asked for is the default, the old one gives way to it.
    assert without_catch_all(tmp_path, [conf, default]) == [conf, default]


def test_what_is_asked_for_or_absent_or_somebodys_is_left_alone(tmp_path: Path) -> None:
    old_site(tmp_path, "zed", "a.org")
    old_site(tmp_path, "absent", "a.org")
    old_site(tmp_path, "somebodys", "a.org", mark="# mine")
    old_site(tmp_path, "quotes", "a.org", mark=f"# not: {MARK}")
    old_site(tmp_path, ".hidden", "a.org")
    elsewhere = old_site(tmp_path, "linked", "a.org").rename(tmp_path / "linked.conf")
    (tmp_path / "sites-enabled/linked.conf").symlink_to(elsewhere)
    (tmp_path / "sites-enabled/directory.conf").mkdir()
    files = [new_site("zed", "a.org"), File("sites-enabled/absent.conf", owned=True)]
    assert plan_stale(tmp_path, files) == []
    assert plan_stale(tmp_path / "missing", files) == []


def test_what_is_not_utf8_comes_through(tmp_path: Path) -> None:
    path = old_site(tmp_path, "docs", "a.org b.org")
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    (stale,) = plan_stale(tmp_path, [new_site("zed", "a.org")])
    assert stale.change.content is not None and b"caf\xe9" in stale.change.content
    stale.change.shown[1].encode()


def test_a_name_that_nginx_conf_has_now_is_said_to_be_there(tmp_path: Path) -> None:
    """By nginx_http_snippets."""
    old_site(tmp_path, "docs", "a.org")
    (stale,) = plan_stale(
        tmp_path, [File("nginx.conf", "http {\n    server {\n        server_name a.org;\n    }\n}\n")]
    )
    assert "a.org (now of nginx.conf)" in told(stale, tmp_path)
