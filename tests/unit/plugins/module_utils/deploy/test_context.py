# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a walk reads of the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import connections_of

UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
ffff8881: 00000002 00000000 00010000 0001 01 20001 /run/shop/abc/http.sock
ffff8882: 00000003 00000000 00000000 0001 03 20002 /run/shop/abc/http.sock
ffff8883: 00000003 00000000 00000000 0001 03 20003
ffff8884: 00000003 00000000 00000000 0001 03 20004 /run/shop/abc/http.sock
ffff8885: 00000002 00000000 00000000 0001 02     0 /run/shop/abc/http.sock
ffff8886: 00000003 00000000 00000000 0001 03 20006 /run/shop/abcd/http.sock
ffff8887: 00000003 00000000 00000000 0001 03 20007 @/run/shop/abc/http.sock
ffff8888: 00000003 00000000 00000000 0001 03 20008 /run/a b/http.sock
"""


@pytest.mark.parametrize(
    ("path", "count"),
    [("/run/shop/abc/http.sock", 3), ("/run/shop/abcd/http.sock", 1), ("/run/a b/http.sock", 1), ("/run/none", 0)],
)
def test_connections(tmp_path: Path, path: str, count: int) -> None:
    (tmp_path / "unix").write_text(UNIX)
    assert connections_of(path, tmp_path / "unix") == count
