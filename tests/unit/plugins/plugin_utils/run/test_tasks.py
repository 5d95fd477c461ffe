# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every action plugin asks first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import OLDEST_CORE, refuse_unknown, require_core

ROOT = Path(__file__).resolve().parents[5]


@pytest.mark.parametrize("version", ["2.19.0", "2.19.0rc1", "2.21.5", "3.0.0.dev0"])
def test_a_new_enough_core(version: str) -> None:
    require_core(version)


@pytest.mark.parametrize("version", ["2.18.19", "2.14.18", "2.9.27"])
def test_a_core_that_is_too_old_is_refused_in_words(version: str) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"needs ansible-core 2\.19 or newer .* this is {version}\. Nothing"):
        require_core(version)


def test_the_collection_and_its_roles_say_the_same() -> None:
    oldest = ".".join(str(part) for part in OLDEST_CORE)
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"] == f">={oldest}.0"
    for path in ROOT.glob("roles/*/meta/main.yml"):
        assert yaml.safe_load(path.read_text())["galaxy_info"]["min_ansible_version"] == oldest, path


@pytest.mark.parametrize(
    ("given", "known", "words"),
    [
        ({"app": 1, "relase": "previous"}, ("app", "release"), "relase: unknown option of x, did you mean release?"),
        ({"state": 1, "_x": "y"}, ("app", "state"), "_x: unknown option of x; known: app, state"),
    ],
)
def test_an_option_that_nobody_knows(given: dict[str, object], known: tuple[str, ...], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match="Nothing was done:") as refused:
        refuse_unknown(given, known, "x")
    assert words in str(refused.value)
    refuse_unknown({key: value for key, value in given.items() if key in known}, known, "x")
