# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of all servers share. Every one of them begins and ends with one release live and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, outcome


@pytest.fixture(scope="session")
def server() -> str:
    """The server under test."""
    return str(deploying.inventory_apps()["probe"]["server"])


@pytest.fixture
def make(tmp_path: Path) -> deploying.Make:
    """A function that returns the scenario's app with a version of the probe, broken or not; more wins over all else."""

    def app(version: str, variant: str | None = None, **more: Any) -> dict[str, Any]:
        source = deploying.probe(tmp_path, version, variant)
        return {**deploying.inventory_apps()["probe"], "source": {"path": str(source)}, **more}

    return app


@pytest.fixture
def found() -> dict[str, deploying.Found]:
    """What there is on each host as the test begins, when what the test before it stopped has ended."""
    return outcome.all_settled()


@pytest.fixture
def live() -> str:
    """The version that is live as the test begins."""
    versions = {
        deploying.fetch(address)[1].removeprefix("probe ").strip() for address in deploying.addresses().values()
    }
    assert len(versions) == 1
    return versions.pop()
