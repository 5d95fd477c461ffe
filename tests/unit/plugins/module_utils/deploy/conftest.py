# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of a deploy share."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)
