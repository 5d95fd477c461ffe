# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the README says of flask_apps is what the code does."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.server.plugins.module_utils.host import sizing
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SpecError, resolve
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import APP

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script, which lies in no package."""
    spec = importlib.util.spec_from_file_location("spec_table", ROOT / "tools" / "spec_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_readmes_table_is_current(tool: ModuleType) -> None:
    assert tool.updated(README) == README, "run: .venv/bin/python tools/spec_table.py --write README.md"


def test_every_key_has_a_row(tool: ModuleType) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", tool.table(), re.MULTILINE)
    assert rows[: len(APP)] == list(APP)
    assert len(rows) == len(set(rows))
    assert {"source.git", "static.url", "nginx.rate_limit.burst"} <= set(rows)
    assert all(line.count(" | ") == 2 for line in tool.table().splitlines() if line.startswith("| "))


def test_what_is_said_to_be_missing_is_refused(tool: ModuleType) -> None:
    shop = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}
    asked: dict[str, dict[str, Any]] = {
        "watch": {"watch": {"seconds": 1}},
        "processes": {"processes": [1]},
        "schedule": {"schedule": [1]},
        "checks.audit": {"checks": {"audit": True}},
        "tls.mode": {"tls": {"mode": "acme"}},
    }
    assert re.findall(r"^\| `([\w.]+)` .*Not in this version", tool.table(), re.MULTILINE) == list(asked)
    assert "*Not in this version: `acme`.*" in tool.table()
    for path, change in asked.items():
        with pytest.raises(SpecError, match=rf"\.{re.escape(path)}: .*not available in this version"):
            resolve([{**shop, **change}])


def test_markers_that_are_not_there(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="there is no"):
        tool.updated("nothing")


def test_the_readmes_errors_are_what_is_said() -> None:
    apps = [{"name": "shop", "source": {"gti": "x"}, "wsgi": "shop:app", "workers": "three"}]
    with pytest.raises(SpecError) as caught:
        resolve(apps)
    assert str(caught.value) in README


def inventories() -> list[str]:
    """The README's inventory and those that are shipped, as text."""
    shipped = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "inventories").rglob("*.yml"))]
    return [text for text in (*re.findall(r"```yaml\n(.*?)```", README, re.DOTALL), *shipped) if "flask_apps:" in text]


def test_the_inventories_that_people_copy_are_right() -> None:
    assert len(inventories()) >= 2
    for text in inventories():
        found = re.search(r"^( *)flask_apps:\n((?:\1 .*\n|\n|\1#.*\n)+)", text, re.MULTILINE)
        assert found
        assert resolve(yaml.safe_load(found[2]))


def test_what_is_said_of_threads() -> None:
    assert APP["threads"].doc.endswith(f"`auto`: {sizing.THREADS}.")
