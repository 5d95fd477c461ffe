# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where everything of an app is on a host: the one place that knows the paths and the unit names."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What a complete virtualenv says of itself.
VIRTUALENV_MARKER = "flaskops.json"

#: What the id of a release looks like: nothing else becomes a path or the name of a unit.
RELEASE_ID = re.compile(r"[0-9a-f]{12}")


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
        # A directory of root's: in /run/lock everybody can make files.
        return self.root / "run" / "flaskops" / f"{self.name}.json"

    @property
    def unit_dir(self) -> Path:
        return self.root / "etc" / "systemd" / "system"

    def release(self, release_id: str) -> Path:
        return self.releases / release_id

    def staging(self, release_id: str) -> Path:
        """Where a release is put together; never the target of ``live``."""
        return self.releases / f".staging-{release_id}"

    def instance_socket(self, release_id: str) -> Path:
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
        """Return the installed systemd files of a release."""
        names = (f"{self.name}@{release_id}.*", f"{self.name}_*@{release_id}.*", f"{self.name}-{release_id}.slice")
        return sorted(path for name in names for path in self.unit_dir.glob(name))

    @property
    def boot_unit(self) -> str:
        return f"{self.name}.service"

    def live_id(self) -> str | None:
        """Return the id of the live release, None if there is none."""
        try:
            return os.path.basename(os.readlink(self.live))
        except OSError:
            return None

    def manifest(self, release_id: str | None) -> dict[str, Any]:
        """Return a release's manifest (release.json), empty if it has none."""
        if release_id is None:
            return {}
        try:
            manifest = json.loads((self.release(release_id) / "release.json").read_text())
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def runtime(self, release_id: str) -> str:
        """Return what a staged release's code runs in: ``virtualenv`` or ``image``."""
        manifest = self.manifest(release_id)
        # Releases of earlier versions say it by what they have.
        return str(manifest.get("runtime") or ("image" if "image" in manifest else "virtualenv"))

    @staticmethod
    def count(release: Path) -> int:
        """Return how many files and links a release has in its code and its server's configuration.

        A link counts whatever it leads to: what is behind one into a shared directory comes and goes.
        """
        count = 0
        for part in ("app", "serve"):
            for directory, below, names in os.walk(release / part):
                count += len(names) + sum(os.path.islink(os.path.join(directory, name)) for name in below)
        return count

    def missing(self, release_id: str) -> list[str]:
        """Return what is missing of a release that was complete, in words."""
        home, manifest = self.release(release_id), self.manifest(release_id)
        if not home.is_dir():
            return [f"{home} is gone"]
        files = ("release.json", "env", "secrets.env", "serve/service.conf")
        gone = [f"{name} is gone" for name in files if not (home / name).is_file()]
        # After a power cut, or a full disk, a file can be there and hold nothing. Without secrets that one does.
        empty = [name for name in files if (home / name).is_file() and not (home / name).stat().st_size]
        gone += [f"{name} is empty" for name in empty if name != "secrets.env"]
        if not manifest and not any(line.startswith("release.json ") for line in gone):
            gone.append("release.json cannot be read")
        gone += [] if (home / "app").is_dir() else ["app is gone"]
        gone += [] if (home / "http.sock").is_symlink() else ["http.sock is gone"]
        if (manifest.get("venv") or (home / "venv").is_symlink()) and not is_virtualenv(home / "venv"):
            gone.append("its virtualenv is gone")
        # Releases of earlier versions do not say how many they had.
        if not gone and (lost := int(manifest.get("files", 0)) - self.count(home)) > 0:
            gone.append("1 file is gone" if lost == 1 else f"{lost} files are gone")
        return gone

    def is_whole(self, release_id: str) -> bool:
        """Say whether a release is on the host with all that it was made of."""
        return release_id in self.staged_ids() and not self.missing(release_id)

    def usable_ids(self) -> list[str]:
        """Return the ids of the undamaged releases, which a rollback can go to."""
        return [release for release in self.staged_ids() if not self.missing(release)]

    def staged_ids(self) -> list[str]:
        """Return the ids of the complete releases on the host."""
        if not self.releases.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.releases.iterdir()
            if not entry.name.startswith(".") and (entry / "release.json").is_file()
        )


def entries_of_virtualenv(path: Path) -> int:
    """Return how many scripts and packages a virtualenv has, by the names in its two directories."""
    directories = [path / "bin", *path.glob("lib/*/site-packages")]
    return sum(len(os.listdir(directory)) for directory in directories if directory.is_dir())


def is_virtualenv(path: Path) -> bool:
    """Say whether a virtualenv has its Python, its packages, and as many of them as it was made with."""
    if not (path / "bin" / "python").exists() or not any(path.glob("lib/*/site-packages/*")):
        return False
    try:
        # Those of earlier versions do not say how many.
        made = int(json.loads((path / VIRTUALENV_MARKER).read_text()).get("entries", 0))
    except (OSError, ValueError, AttributeError):
        made = 0
    return entries_of_virtualenv(path) >= made
