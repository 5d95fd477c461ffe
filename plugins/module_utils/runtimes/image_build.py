# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as what releases run in: building, fetching or loading one for a release."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.archive import unpack
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import virtualenv
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle, RuntimeBuildError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.cli import repository
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.cli_build import BuildingCli
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.pid import settings
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.requirements import distribution_name

#: What a project's own recipe is called, in the order of preference.
CONTAINERFILES = ("Containerfile", "Dockerfile")


class ImageBuilder:
    """Makes the image of a release: builds, fetches or loads it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def build(self, bundle: Bundle) -> dict[str, Any]:
        chosen = settings(bundle.staging)
        cli = BuildingCli(chosen["engine"])
        if not cli.is_there():
            raise RuntimeBuildError(f"{cli.name} is not on this host; the role container installs it")
        image = bundle.app["source"].get("image")
        tag = f"{repository(self.layout.name)}:{bundle.release}"
        (bundle.staging / "app").mkdir()
        if image and bundle.artifact:
            cli.load(bundle.artifact, image, tag)
        elif image:
            cli.pull(image, tag)
        else:
            self._build(cli, bundle, chosen["registry"], tag)
        facts = cli.inspect(tag)
        if image:
            self._static(cli, bundle, tag)
        config = facts.get("Config") or {}
        directory = config.get("WorkingDir") or "/"
        # Read by serve/run, as a shell reads it.
        told = {
            "image": tag,
            "command": shlex.join([*_words(config.get("Entrypoint")), *_words(config.get("Cmd"))]),
            "directory": directory,
        }
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in told.items())
        write_file(bundle.staging / "serve" / "image", text, 0o640)
        return {"image": facts["Id"], "digests": facts.get("RepoDigests") or [], "engine": chosen["engine"]}

    def environment(self, bundle: Bundle) -> dict[str, str]:
        return {
            "HOME": str(self.layout.shared),
            # Any Gunicorn in the image listens where nginx looks, unless its own command line says otherwise.
            "GUNICORN_CMD_ARGS": f"--bind=unix:/run/{self.layout.name}/http.sock",
        }

    def _build(self, cli: BuildingCli, bundle: Bundle, registry: str, tag: str) -> None:
        """Build the image of a source, or get it from the registry where another host has put it."""
        code = bundle.staging / "app"
        code.rmdir()
        if bundle.artifact is None:
            raise RuntimeBuildError("no source was sent")
        unpack(bundle.artifact, code)
        shared = f"{registry}/{self.layout.name}:{bundle.release}" if registry else ""
        if shared and cli.has(shared):
            cli.rename(shared, tag)
            return
        own = next((code / name for name in CONTAINERFILES if (code / name).is_file()), None)
        if own:
            cli.build(code, own, tag, bundle.app)
        else:
            with _context(bundle) as context:
                cli.build(context, bundle.staging / "serve" / "Containerfile", tag, bundle.app)
        if shared:
            cli.push(tag, shared)

    def _static(self, cli: BuildingCli, bundle: Bundle, tag: str) -> None:
        """Take the files that nginx serves out of an image."""
        directory = (cli.inspect(tag).get("Config") or {}).get("WorkingDir") or "/"
        for entry in bundle.app["static"]:
            target = bundle.staging / "app" / entry["path"]
            cli.copy_out(tag, str(Path(directory, entry["path"])), target)


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]


@contextlib.contextmanager
def _context(bundle: Bundle) -> Iterator[Path]:
    """Lay out what the rendered Containerfile copies: the requirements by themselves, and the code."""
    needs = bundle.staging / "requirements"
    needs.mkdir()
    try:
        code = bundle.staging / "app"
        needed = virtualenv.requirements_text(code, bundle.app["python"])
        text = needed.text
        if str(code.resolve()) in text:
            # Packages of the app's own tree are installed from a copy that comes with the requirements.
            shutil.copytree(code, needs / "code", symlinks=True)
            text = text.replace(str(code.resolve()), "/requirements/code")
        names = {distribution_name(line) for line in text.splitlines()}
        missing = [item for item in bundle.server_packages if distribution_name(item) not in names]
        if missing and bundle.app["python"]["require_hashes"]:
            raise RuntimeBuildError(
                f"python.require_hashes is set, and the app's requirements lack {', '.join(missing)}: add it with "
                "its hash"
            )
        (needs / "app.txt").write_text(text)
        (needs / "app.options").write_text("--no-deps\n" if needed.locked else "")
        # What pip check says of the project itself, which is the code and not installed, where a lock's packages need it.
        (needs / "passed-over").write_text(
            f" requires {needed.itself}, which is not installed.\n" if needed.itself else ""
        )
        (needs / "server.txt").write_text("".join(f"{item}\n" for item in missing))
        (bundle.staging / ".dockerignore").write_text("*\n!requirements\n!app\n")
        yield bundle.staging
    finally:
        shutil.rmtree(needs)
        (bundle.staging / ".dockerignore").unlink(missing_ok=True)
