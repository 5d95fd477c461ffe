# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where everything of an app is on a host: the one place that knows the paths and the unit names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Layout:
    """The paths of one app.

    :param name: the app's name.
    :param root: the root directory, for tests.
    """

    name: str
    root: Path = Path("/")

    @property
    def home(self) -> Path:
        return self.root / "srv" / self.name

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def venvs(self) -> Path:
        return self.home / "venvs"

    @property
    def shared(self) -> Path:
        return self.home / "shared"

    @property
    def live(self) -> Path:
        """The pointer: the only thing that a deploy changes for visitors."""
        return self.home / "live"

    @property
    def record(self) -> Path:
        return self.home / "deploys.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "run" / "lock" / f"flaskops-{self.name}.json"

    @property
    def unit_dir(self) -> Path:
        return self.root / "etc" / "systemd" / "system"

    def release(self, release_id: str) -> Path:
        return self.releases / release_id

    def staging(self, release_id: str) -> Path:
        """Where a release is put together; never the target of ``live``."""
        return self.releases / f".staging-{release_id}"

    def runtime_socket(self, release_id: str) -> Path:
        return self.root / "run" / self.name / release_id / "http.sock"

    def unit(self, release_id: str) -> str:
        return f"{self.name}@{release_id}.service"

    def drop_in(self, release_id: str) -> Path:
        return self.unit_dir / f"{self.unit(release_id)}.d" / "release.conf"

    def release_units(self, release_id: str) -> dict[Path, Path]:
        """Return systemd's files that belong to a release: where it keeps them, and where systemd reads them.

        A unit beside the instance (``serve/units/shop_http@.socket``) is installed for this release alone.
        """
        serve = self.release(release_id) / "serve"
        units = {path: self.unit_dir / self._of_release(path.name, release_id) for path in serve.glob("units/*@.*")}
        return {serve / "service.conf": self.drop_in(release_id), **units}

    @staticmethod
    def _of_release(unit: str, release_id: str) -> str:
        # A slice has no instances (systemd.slice(5)).
        return unit.replace("@.", f"-{release_id}." if unit.endswith(".slice") else f"@{release_id}.")

    def installed_units(self, release_id: str) -> list[Path]:
        """Return what there is of a release among systemd's files."""
        names = (f"{self.name}@{release_id}.*", f"{self.name}_*@{release_id}.*", f"{self.name}-{release_id}.slice")
        return sorted(path for name in names for path in self.unit_dir.glob(name))

    @property
    def boot_unit(self) -> str:
        return f"{self.name}.service"

    def live_id(self) -> str | None:
        """Return the id that ``live`` points to, None where nothing is live."""
        try:
            return os.path.basename(os.readlink(self.live))
        except OSError:
            return None

    def facts(self, release_id: str | None) -> dict[str, Any]:
        """Return what a release's release.json says, nothing where there is none."""
        if release_id is None:
            return {}
        try:
            facts = json.loads((self.release(release_id) / "release.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def staged_ids(self) -> list[str]:
        """Return the ids of the complete releases on the host."""
        if not self.releases.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.releases.iterdir()
            if not entry.name.startswith(".") and (entry / "release.json").is_file()
        )
