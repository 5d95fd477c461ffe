# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of ``release``: packs the source, renders the configuration, names the release, sends what is missing."""

from __future__ import annotations

import base64
import json
import os
import shlex
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.module_utils.deploy.steps import Step
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.plugin_utils.release import identity
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import public_app
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import (
    ROLES,
    render,
    render_tree,
    role_variables,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.run import run
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import refuse_names_of_others
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import nearest

#: What a task can say; the module's other options are filled in here.
OPTIONS = ("app", "state", "release")

#: What a host executes: every step, and one that has to make the release.
MODULE, WITH_SOURCE = "flaskops.server.release", "flaskops.server.release_with_source"

#: Up to this many bytes, compressed, a source travels with the module itself: sending a file takes five more round trips.
LARGEST_INLINE = 512 * 1024

#: Where packed sources are kept on the controller.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"


class ActionModule(ActionBase):
    """See the module's documentation."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._task.args
        refuse_unknown(arguments, OPTIONS, "release")
        step = _step(arguments.get("state", Step.LIVE.value))
        app, hidden = public_app(arguments.get("app"))
        server = SERVERS[app["server"]]
        request: dict[str, Any] = {
            "by": run.who(),
            "run": run.this_run(),
            "host": variables.get("inventory_hostname", ""),
            "drain_seconds": server.drain_seconds(app[app["server"]]),
            "runtime": server.runtime,
            # Those of all: what is taken back to may be another server's release.
            "noise": sorted({word for one in SERVERS.values() for word in one.noise}),
        }
        artifact = None
        is_proof = step.takes_source
        try:
            if is_proof and not arguments.get("release"):
                artifact = self._artifact(app, variables)
                files = self._files(app, variables)
                parts = identity.components(app, hidden, artifact.sha256, files, list(server.packages))
                request.update(
                    release=identity.release_id(parts),
                    parts=parts,
                    files=files,
                    server_packages=list(server.packages),
                    source=artifact.source,
                )
            made = self._deploy(app, arguments, request, hidden, artifact, variables)
        except AnsibleConnectionFailure:
            # Nothing can be given up on a host that cannot be reached, and trying again would hide why.
            raise
        except Exception:
            if is_proof:
                self._give_up(app, request, variables)
            raise
        if is_proof and made.get("failed") and made.get("holder"):
            self._give_up(app, request, variables)
        return {**result, **made}

    def _give_up(self, app: dict[str, Any], request: dict[str, Any], variables: dict[str, Any]) -> None:
        """Stop what this run proved of the host's other apps, where this one is refused before the host hears of it."""
        if self._task.check_mode:
            return
        kept = {key: request[key] for key in ("by", "run", "host", "drain_seconds", "runtime")}
        done = self._call(
            app, {"state": Step.WITHDRAWN.value}, {**kept, "given_up": True}, {"secrets": {}, "python": {}}, variables
        )
        if done.get("msg"):
            self._display.warning(str(done["msg"]))

    def _deploy(
        self,
        app: dict[str, Any],
        arguments: dict[str, Any],
        request: dict[str, Any],
        hidden: dict[str, Any],
        artifact: Artifact | None,
        variables: dict[str, Any],
    ) -> dict[str, Any]:
        temporary = None
        try:
            # What makes a release is sent where it has to be made, with the source.
            module = MODULE
            if artifact and not self._task.check_mode and not self._is_staged(app["name"], request["release"]):
                module, temporary = WITH_SOURCE, self._attach(artifact, request, hidden)
            result = self._call(app, arguments, request, hidden, variables, module)
            holder = result.get("holder")
            if holder and run.is_dead(holder):
                self._display.display(f"{app['name']}: the run that held the lock is dead, going on in its place")
                request["dead"] = holder.get("token")
                result = self._call(app, arguments, request, hidden, variables, module)
            if artifact and result.get("source_needed"):
                temporary = self._attach(artifact, request, hidden)
                result = self._call(app, arguments, request, hidden, variables, WITH_SOURCE)
        finally:
            if temporary:
                self._remove_tmp_path(temporary)
        return result

    def _attach(self, artifact: Artifact, request: dict[str, Any], hidden: dict[str, Any]) -> str | None:
        """Put the packed source into what is sent, or on the host; return the directory that it is in there."""
        if not artifact.path:
            # An image that the host pulls.
            return None
        packed = _packed(artifact.path)
        if packed:
            hidden["artifact"] = packed
            return None
        temporary: str = self._make_tmp_path()
        request["artifact"] = self._connection._shell.join_path(temporary, "artifact.tar")
        self._transfer_file(str(artifact.path), request["artifact"])
        self._fixup_perms2((temporary, request["artifact"]))
        return temporary

    def _call(
        self,
        app: dict[str, Any],
        arguments: dict[str, Any],
        request: dict[str, Any],
        hidden: dict[str, Any],
        variables: dict[str, Any],
        module: str = MODULE,
    ) -> dict[str, Any]:
        module_arguments = {
            "app": app,
            "state": arguments.get("state", Step.LIVE.value),
            "release": arguments.get("release"),
            "request": request,
            "hidden": base64.b64encode(json.dumps(hidden).encode()).decode(),
        }
        result: dict[str, Any] = self._execute_module(module, module_arguments, task_vars=variables)
        result.pop("invocation", None)
        return result

    def _is_staged(self, name: str, release: str) -> bool:
        facts = Layout(name).release(release) / "release.json"
        return bool(self._low_level_execute_command(f"test -f {shlex.quote(str(facts))}")["rc"] == 0)

    def _artifact(self, app: dict[str, Any], variables: dict[str, Any]) -> Artifact:
        """Return the packed source; of an image, what names it, and ``app`` then asks for just that one. Relative paths
        start from the inventory, as group_vars and host_vars do: a playbook of a collection is no place of the user's."""
        try:
            name = app["server"]
            runs_images = SERVERS[name].runtime == "image"
            images = role_variables(self._templar, name, variables) if runs_images else None
            artifact = build(app["source"], CACHE, variables.get("inventory_dir") or os.getcwd(), images)
            refuse_names_of_others(artifact, app["name"])
        except SourceError as error:
            raise AnsibleActionFail(f"{app['name']}: {error}") from error
        if artifact.image:
            app["source"] = {"image": artifact.image}
        return artifact

    def _files(self, app: dict[str, Any], variables: dict[str, Any]) -> dict[str, str]:
        """Return what is rendered for a release, with just its app's spec and its server's own variables: it cannot
        depend on anything else."""
        name = app["server"]
        # Another role's template is reached by its whole path, such as gunicorn/templates/serve/gunicorn.conf.py.j2.
        shared, own = [ROLES / "app" / "templates", ROLES], ROLES / name / "templates"
        scope = {
            "app": app,
            "home": str(Layout(app["name"]).release("%i")),
            "server": SERVERS[name],
            **role_variables(self._templar, name, variables),
        }
        files = render_tree(self._templar, "app", "serve", scope)
        files |= render_tree(self._templar, name, "serve", scope, shared)
        files["serve/service.conf"] = render(self._templar, own / "service.conf.j2", scope, shared)
        for path, text in render_tree(self._templar, "app", "units", scope).items():
            files[_of_app(path, app)] = text
        for path, text in render_tree(self._templar, name, "units", scope, shared).items():
            files[f"serve/{_of_app(path, app)}"] = text
        return files


def _step(state: Any) -> Step:
    try:
        return Step(state)
    except ValueError:
        known = [step.value for step in Step]
        raise AnsibleActionFail(f"state: expected one of {', '.join(known)}{nearest(str(state), known)}") from None


def _packed(path: Path) -> str:
    """Return a small source as it travels with the module; empty for one that is not small."""
    if path.stat().st_size > 20 * LARGEST_INLINE:
        return ""
    packed = base64.b64encode(zlib.compress(path.read_bytes())).decode()
    return packed if len(packed) <= LARGEST_INLINE else ""


def _of_app(path: str, app: dict[str, Any]) -> str:
    """Return a unit's path with the app's name in the place of ``app``."""
    return path.replace("/app", f"/{app['name']}", 1)
