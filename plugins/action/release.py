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
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DEPLOY, FIX
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import ARGUMENTS
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.urls import masked
from ansible_collections.flaskops.server.plugins.plugin_utils.release import identity
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import split_secrets
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import (
    HELPERS,
    ROLES,
    render,
    render_tree,
    role_variables,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.run import run
from ansible_collections.flaskops.server.plugins.plugin_utils.run.apps import (
    find_app,
    has_work,
    is_first,
    registered_result,
    summarize,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.sources import build
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact, SourceError
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.image import refuse_foreign_names
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import nearest

#: What a task can say; the module's other options are filled in here.
OPTIONS = {name: option for name, option in ARGUMENTS.items() if not name.startswith("_")}

#: What a host executes: a step after the health check, any step and its prediction, and one that has to make the release.
MODULE, WITH_VERIFY = "flaskops.server.release", "flaskops.server.release_with_verify"
WITH_SOURCE = "flaskops.server.release_with_source"

#: Up to this many bytes, compressed, a source travels with the module itself: sending a file takes five more round trips.
LARGEST_INLINE = 512 * 1024

#: Where packed sources are kept on the controller.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"


class ActionModule(ActionBase):
    """See the module's documentation."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        refuse_unknown(self._task.args, tuple(OPTIONS), "release")
        if "state" in self._task.args:
            _refuse_unknown_state(self._task.args["state"])
        _unused, arguments = self.validate_argument_spec(OPTIONS)
        step = Step(arguments["state"])
        app, sensitive = split_secrets(find_app(self._task.args["app"], lambda: self._apps(variables)))
        result["app"] = app["name"]
        register = arguments["registered"]
        if register and register not in variables:
            # To skip the step instead would be a green run that deployed nothing.
            raise AnsibleActionFail(
                f"registered: this host has no variable {register}, expected the one that an earlier task registered"
            )
        if not _has_work(step, app, register, variables):
            result |= {"changed": False, "skipped": True, "skip_reason": f"{app['name']} has nothing to do here"}
            made: dict[str, Any] = {}
        else:
            made = self._walk(step, app, arguments, sensitive, variables)
            if "diff" in made:
                made["diff"] = [_without_credentials(shown) for shown in made["diff"]]
        if step is Step.ACTIVATE and not made.get("failed"):
            verified = registered_result(variables.get(register), app["name"])
            result["summary"] = summarize(app["name"], verified, made, arguments["nginx_follows"])
        return {**result, **made}

    def _apps(self, variables: dict[str, Any]) -> Any:
        """Return the apps in which a name is looked up."""
        if self._task.args.get("apps") is not None:
            return self._task.args["apps"]
        return self._templar.template(variables.get("flask_apps", []))

    def _walk(
        self,
        step: Step,
        app: dict[str, Any],
        arguments: dict[str, Any],
        sensitive: dict[str, Any],
        variables: dict[str, Any],
    ) -> dict[str, Any]:
        server = SERVERS[app["server"]]
        context: dict[str, Any] = {
            "by": run.name_user(),
            "run": run.identify_run(),
            "host": variables.get("inventory_hostname", ""),
            "drain_seconds": server.drain_seconds(app[app["server"]]),
            "runtime": server.runtime,
            # Those of all: what is taken back to may be another server's release.
            "noise": sorted({word for one in SERVERS.values() for word in one.noise}),
        }
        artifact = None
        # In check mode nothing was verified before, and the host predicts a later step from the release too.
        is_made = step.takes_source or (self._task.check_mode and step is not Step.ABORT)
        # An asynchronous step answers Ansible itself: no credentials of URLs could be taken out of its diff.
        if (
            self._task.diff
            and not self._task.async_val
            and (step is Step.VERIFY or (self._task.check_mode and step is Step.ACTIVATE))
        ):
            context["diff"] = True
        try:
            if is_made and not arguments["release"]:
                artifact = self._artifact(app, variables)
                files = self._files(app, variables)
                parts = identity.compute_components(app, sensitive, artifact.sha256, files, list(server.packages))
                context.update(
                    release=identity.compute_id(parts),
                    components=parts,
                    files=files,
                    server_packages=list(server.packages),
                    source=artifact.source,
                )
            made = self._deploy(step, app, arguments, context, sensitive, artifact, variables)
        except AnsibleConnectionFailure:
            # Nothing can be given up on a host that cannot be reached, and trying again would hide why.
            raise
        except Exception:
            if step.takes_source:
                self._give_up(app, context, variables)
            raise
        if step.takes_source and made.get("failed") and made.get("holder"):
            self._give_up(app, context, variables)
        return made

    def _give_up(self, app: dict[str, Any], context: dict[str, Any], variables: dict[str, Any]) -> None:
        """Stop what this run verified of the host's other apps, when this one is refused before the host hears of it."""
        if self._task.check_mode:
            return
        kept = {key: context[key] for key in ("by", "run", "host", "drain_seconds", "runtime")}
        done = self._call(
            app, {"state": Step.ABORT.value}, {**kept, "given_up": True}, {"secrets": {}, "python": {}}, variables
        )
        if done.get("msg"):
            self._display.warning(str(done["msg"]))

    def _deploy(
        self,
        step: Step,
        app: dict[str, Any],
        arguments: dict[str, Any],
        context: dict[str, Any],
        sensitive: dict[str, Any],
        artifact: Artifact | None,
        variables: dict[str, Any],
    ) -> dict[str, Any]:
        temporary = None
        is_async = bool(self._task.async_val)
        try:
            # What makes a release is sent where it has to be made, with the source.
            module = WITH_VERIFY if step.takes_source or self._task.check_mode else MODULE
            # The answer of an asynchronous step comes too late to send the source after it.
            is_real = not self._task.check_mode
            if artifact and is_real and (is_async or not self._is_staged(app["name"], context["release"])):
                module, temporary = WITH_SOURCE, self._attach(artifact, context, sensitive)
            result = self._call(app, arguments, context, sensitive, variables, module, is_async)
            if is_async:
                # Its wrapper on the host removes what was sent.
                temporary = None
                return result
            holder = result.get("holder")
            if holder and run.is_dead(holder):
                self._display.display(f"{app['name']}: the run that held the lock is dead, going on in its place")
                context["dead"] = holder.get("token")
                result = self._call(app, arguments, context, sensitive, variables, module)
            if artifact and result.get("source_needed"):
                temporary = self._attach(artifact, context, sensitive)
                result = self._call(app, arguments, context, sensitive, variables, WITH_SOURCE)
        finally:
            if temporary:
                self._remove_tmp_path(temporary)
        return result

    def _attach(self, artifact: Artifact, context: dict[str, Any], sensitive: dict[str, Any]) -> str | None:
        """Put the packed source into what is sent, or on the host; return the directory that it is in there."""
        if not artifact.path:
            # An image that the host pulls.
            return None
        packed = _packed(artifact.path)
        if packed:
            sensitive["artifact"] = packed
            return None
        temporary: str = self._make_tmp_path()
        context["artifact"] = self._connection._shell.join_path(temporary, "artifact.tar")
        self._transfer_file(str(artifact.path), context["artifact"])
        self._fixup_perms2((temporary, context["artifact"]))
        return temporary

    def _call(
        self,
        app: dict[str, Any],
        arguments: dict[str, Any],
        context: dict[str, Any],
        sensitive: dict[str, Any],
        variables: dict[str, Any],
        module: str = MODULE,
        is_async: bool = False,
    ) -> dict[str, Any]:
        module_arguments = {
            "app": app,
            "state": arguments["state"],
            "release": arguments.get("release"),
            "_context": context,
            "_sensitive": base64.b64encode(json.dumps(sensitive).encode()).decode(),
        }
        result: dict[str, Any] = self._execute_module(
            module, module_arguments, task_vars=variables, wrap_async=is_async
        )
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
            refuse_foreign_names(artifact, app["name"])
        except SourceError as error:
            raise AnsibleActionFail(
                f"{app['name']}: {error}\nNothing was deployed. Next: {FIX.format(again=DEPLOY)}."
            ) from error
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
            **HELPERS,
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


def _refuse_unknown_state(state: Any) -> None:
    known = [step.value for step in Step]
    if state not in known:
        raise AnsibleActionFail(f"state: unknown state{nearest(str(state), known)}")


def _has_work(step: Step, app: dict[str, Any], register: str | None, variables: dict[str, Any]) -> bool:
    """Whether the host has to be asked at all.

    :param register: the name of the variable that says what waits.
    """
    if step is Step.RUN_COMMANDS and not app["release_commands"]:
        return False
    if not register or step is Step.VERIFY:
        return True
    if step in (Step.STAGE, Step.RUN_COMMANDS):
        return is_first(variables, register, app["name"])
    return has_work(variables.get(register), app["name"])


def _without_credentials(shown: dict[str, str]) -> dict[str, str]:
    """Return an entry of a diff as it may be seen; the host has hidden the app's secrets in it."""
    seen = {key: masked(text) for key, text in shown.items()}
    if seen["before"] == seen["after"]:
        seen["after"] += "(a hidden value changed)\n"
    return seen


def _packed(path: Path) -> str:
    """Return a small source as it travels with the module; empty for one that is not small."""
    if path.stat().st_size > 20 * LARGEST_INLINE:
        return ""
    packed = base64.b64encode(zlib.compress(path.read_bytes())).decode()
    return packed if len(packed) <= LARGEST_INLINE else ""


def _of_app(path: str, app: dict[str, Any]) -> str:
    """Return a unit's path with the app's name in the place of ``app``."""
    return path.replace("/app", f"/{app['name']}", 1)
