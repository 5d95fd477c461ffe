# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The protocol of the modules that walk: what they take, the claim on the app, and what comes back whatever happens."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host, Request, Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, as_deploy_error
from ansible_collections.flaskops.server.plugins.module_utils.deploy.walk import Deploy
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import LEASE, LockedError, claim, held_by
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import runtimes_for

#: What all three modules take. `apps`, `registered` and `nginx_follows` are for the action plugin, which sends none of them.
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


@dataclass(frozen=True)
class Preview:
    """What answers --check and --diff.

    :param predict: says what a step would do.
    :param read_live: returns the texts of the live release.
    :param differences: returns the texts that differ from these, as Ansible shows them.
    """

    predict: Callable[[Any, Step, dict[str, str]], dict[str, Any]]
    read_live: Callable[[Layout, Request], dict[str, str]]
    differences: Callable[[Deploy, dict[str, str], str], list[dict[str, str]]]


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


def perform(
    module: AnsibleModule,
    deploys: type[Deploy] = Deploy,
    preview: Preview | None = None,
    stage: Callable[..., None] | None = None,
) -> None:
    """Do the step that the controller asks for, and end the module.

    :param deploys: has the steps that were sent along.
    :param preview: what answers --check and --diff, where it was sent along.
    :param stage: what makes a release, where it was sent along.
    """
    os.umask(UMASK)
    context = dict(module.params["_context"] or {})
    if not context or (module.check_mode and preview is None):
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
    deploy = deploys(Request(app=app, secrets=sensitive["secrets"], **context), host_of(layout, stage))
    step = Step(module.params["state"])
    if given_up:
        # Refused before it came to this host, or locked: nothing of this app was begun.
        module.exit_json(changed=True, msg=abort_others(layout, run).strip())
    shown = preview if wants_diff else None
    before = shown.read_live(layout, deploy.request) if shown else {}
    if module.check_mode and preview:
        try:
            result = preview.predict(deploy, step, run)
        except DeployError as refused:
            module.fail_json(msg=f"{app['name']} on {deploy.request.host}: the release {refused}")
        module.exit_json(app=app["name"], **result, **_diff(shown, deploy, before, result))
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
    module.exit_json(app=app["name"], **result, **_diff(shown, deploy, before, result))


def _diff(
    preview: Preview | None, deploy: Deploy, before: dict[str, str], result: dict[str, Any]
) -> dict[str, list[dict[str, str]]]:
    if not preview:
        return {}
    return {"diff": preview.differences(deploy, before, result["release"]) if result["changed"] else []}
