# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Pythons of this host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import (
    interpreter,
    virtualenv,
)
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import VirtualenvError


def test_interpreters(tmp_path: Path) -> None:
    found = interpreter.interpreter("/usr/bin/python3")
    assert found.path == "/usr/bin/python3"
    assert found.series in found.version
    assert interpreter.interpreter("").path == "/usr/bin/python3"
    assert interpreter.interpreter(f"{found.series}").series == found.series
    assert interpreter.interpreter(f"python{found.series}").series == found.series
    with pytest.raises(VirtualenvError, match=r"has no 'python3\.99'. It has: /usr/.*python3") as caught:
        interpreter.interpreter("3.99")
    assert caught.value.step == "interpreter"
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'cannot load library' >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(VirtualenvError, match="cannot be run") as caught:
        interpreter.interpreter(str(broken))
    assert "cannot load library" in caught.value.output


def test_the_running_interpreter_is_described_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = interpreter.interpreter("/usr/bin/python3")
    code = "from ansible_collections.flaskops.server.plugins.module_utils.runtimes import interpreter as v; print(v.interpreter('/usr/bin/python3'))"
    env = {"PYTHONPATH": str(Path(virtualenv.__file__).parents[6])}
    done = subprocess.run(["/usr/bin/python3", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(asked)
