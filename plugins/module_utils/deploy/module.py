# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The protocol of the modules that walk: what they take, the claim on the app, and what comes back whatever happens."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host, Request
from ansible_collections.flaskops.server.plugins.module_utils.deploy.diff import differences, read_live
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, as_deploy_error
from ansible_collections.flaskops.server.plugins.module_utils.deploy.steps import Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.walk import Deploy
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import LEASE, LockedError, claim, held_by
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import runtimes_for

#: What both modules take. `apps`, `registered` and `nginx_follows` are for the action plugin, which sends none of them.
ARGUMENTS: dict[str, Any] = {
    "app": {"type": "raw", "required": True},
    "apps": {"type": "list", "elements": "dict"},
    "state": {"type": "str", "choices": [step.value for step in Step], "required": True},
    "release": {"type": "str"},
    "registered": {"type": "str"},
    "nginx_follows": {"type": "bool", "default": False},
    # What the controller found out.
    "_context": {"type": "dict"},
    # The app's secrets and its packed source, in a form that is censored as a whole.
    "_sensitive": {"type": "str", "no_log": True},
}

#: Fixed, so that the host's login.defs cannot lock the app out of its own files.
UMASK = 0o022


def host_of(layout: Layout, stage: Callable[..., None] | None = None) -> Host:
    """Return this host, for one app.

    :param stage: what makes a release, where it was sent along.
    """
    return Host(layout, Systemd(), runtimes_for(layout), stage)


def abort_others(layout: Layout, run: dict[str, str]) -> str:
    """Stop what the run verified of this host's other apps: a refused release keeps all of them from going live.

    :returns: what could not be stopped, lines; empty where all was.
    """
    left = ""
    for path in held_by(layout.lock.parent, run["token"]):
        name = path.stem
        try:
            with claim(path, run) as held:
                Deploy(Request(app={"name": name}), host_of(Layout(name))).step(Step.ABORT, held)
        except Exception as caught:  # the message of the app that was refused must be said all the same
            left += f"\n{name}, which waited to go live too, could not be stopped: {caught}"
    return left


def perform(module: AnsibleModule, stage: Callable[..., None] | None = None) -> None:
    """Do the step that the controller asks for, and end the module.

    :param stage: what makes a release, where it was sent along.
    """
    os.umask(UMASK)
    context = dict(module.params["_context"] or {})
    if not context:
        module.fail_json(msg="This module needs its action plugin: call it as flaskops.server.release.")
    sensitive = json.loads(base64.b64decode(module.params["_sensitive"]))
    app = module.params["app"]
    app["python"].update(sensitive["python"])
    run, dead = context.pop("run"), context.pop("dead", None)
    given_up, wants_diff = context.pop("given_up", False), context.pop("diff", False)
    wanted = module.params["release"]
    if wanted and wanted != "previous":
        context["release"] = wanted
    layout = Layout(app["name"])
    deploy = Deploy(Request(app=app, secrets=sensitive["secrets"], **context), host_of(layout, stage))
    step = Step(module.params["state"])
    if given_up:
        # Refused before it came to this host, or locked: nothing of this app was begun.
        module.exit_json(changed=True, msg=abort_others(layout, run).strip())
    before = read_live(layout, deploy.request) if wants_diff else {}
    if module.check_mode:
        try:
            result = predict(deploy, step, run)
        except DeployError as refused:
            module.fail_json(msg=f"{app['name']} on {deploy.request.host}: the release {refused}")
        module.exit_json(app=app["name"], **result, **_diff(wants_diff, deploy, before, result))
    try:
        # A release command or a switch must come to its end, even of a run whose controller is gone.
        with claim(layout.lock, run, dead, expendable=step.takes_source) as held:
            if wanted:
                held.content["action"] = "rollback"
            try:
                if "artifact" in sensitive:
                    tarball = Path(module.tmpdir, "artifact.tar")
                    tarball.write_bytes(zlib.decompress(base64.b64decode(sensitive["artifact"])))
                    deploy.request.artifact = str(tarball)
                result = deploy.step(step, held)
            except Exception as caught:  # whatever it is: nothing may be left running, locked or unrecorded
                error = as_deploy_error(caught)
                release = held.content.get("release") or context.get("release")
                message = deploy.fail(held, error)
                message += abort_others(layout, run)
                module.fail_json(msg=message, release=release, step=error.step)
    except LockedError as error:
        message = (
            f"{app['name']} on {deploy.request.host}: {error}.\nNothing was done here. Next: deploy again when it has ended;"
            f" a run that is gone loses the lock {LEASE // 60} minutes after its last step at the latest."
        )
        module.fail_json(msg=message, holder=error.holder, busy=error.busy)
    except OSError as error:
        message = f"{app['name']} on {deploy.request.host}: the lock cannot be taken: {error}.\nNothing was done here."
        module.fail_json(msg=message + abort_others(layout, run))
    module.exit_json(app=app["name"], **result, **_diff(wants_diff, deploy, before, result))


def predict(deploy: Deploy, step: Step, run: dict[str, str]) -> dict[str, Any]:
    """Say what a step would do, without doing anything.

    :raises DeployError: when there is no release to go back to.
    """
    layout, name = deploy.layout, deploy.app["name"]
    if step is Step.ABORT:
        return {"changed": layout.lock in held_by(layout.lock.parent, run["token"])}
    result = deploy.predict()
    release = result["release"]
    if step is Step.STAGE:
        changed = not layout.is_whole(release)
        message = f"{name}: would stage {release}" if changed else f"{name}: {release} is on this host already"
        return result | {"changed": changed, "msg": message}
    if step is Step.RUN_COMMANDS:
        count = len(deploy.app["release_commands"]) if result["changed"] else 0
        return result | {"changed": bool(count), "msg": f"{name}: would run {count} release commands"}
    return result


def _diff(wanted: bool, deploy: Deploy, before: dict[str, str], result: dict[str, Any]) -> dict[str, Any]:
    if not wanted:
        return {}
    return {"diff": differences(deploy, before, result["release"]) if result["changed"] else []}
