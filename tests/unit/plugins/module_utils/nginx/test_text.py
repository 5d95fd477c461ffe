# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lines that are for some hosts only, and what nginx says of a candidate."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import explain, for_host, version_of


@pytest.mark.parametrize(
    ("version", "ipv6", "kept"),
    [
        ((1, 22, 1), True, ["old", "six", "old six", "plain"]),
        ((1, 25, 1), False, ["new", "plain"]),
        ((1, 26, 3), True, ["new", "six", "plain"]),
        (None, False, ["new", "plain"]),
    ],
)
def test_lines_for_some_hosts_only(version: tuple[int, ...] | None, ipv6: bool, kept: list[str]) -> None:
    text = "old; #: nginx<1.25.1\nnew; #: nginx>=1.25.1\nsix; #: ipv6\nold six; #: nginx<1.25.1 ipv6\nplain;\n"
    assert for_host(text, version, ipv6) == "".join(f"{line};\n" for line in kept)


def test_other_comments_stay() -> None:
    text = "a; # nginx>=1.25.1\nb; #: whatever\n"
    assert for_host(text, (1, 0), False) == text


def test_versions() -> None:
    assert version_of("nginx version: nginx/1.22.1\n") == (1, 22, 1)
    assert version_of("1.26.3-3+deb13u1") == (1, 26, 3)
    assert version_of("(none)") is None


def test_a_message_shows_the_line_and_the_real_path(tmp_path: Path) -> None:
    candidate = tmp_path / "nginx.candidate-x"
    candidate.mkdir()
    (candidate / "shop.conf").write_text("one\ntwo\nthree\nfour\n")
    output = f'nginx: [emerg] unknown directive "two" in {candidate}/shop.conf:2\n'
    assert explain(output, str(candidate), "/etc/nginx", context=1) == (
        'nginx: [emerg] unknown directive "two" in /etc/nginx/shop.conf:2\n'
        "/etc/nginx/shop.conf:\n"
        "     1 one\n"
        ">    2 two\n"
        "     3 three"
    )
