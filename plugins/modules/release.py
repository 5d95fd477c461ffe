#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Stage, prove and switch releases of a Flask app
version_added: 0.1.0
description:
  - Packs the app's source on the controller, stages it on the host as an immutable release whose name is a digest of
    everything that can change its behaviour, starts it beside the live one, proves it healthy on a private socket, and
    moves the pointer C(live).
  - The steps are separate, so that a fleet can prove a release everywhere before it goes live anywhere.
options:
  app:
    description: One app, as an item of C(flask_apps).
    type: dict
    required: true
  state:
    description:
      - V(built) stages the release where it is missing and goes no further, so that others can fetch its image.
      - V(proved) stages the release where it is missing, starts it and proves it healthy. Nothing is done where it is live.
      - V(commanded) runs the app's C(release_commands) in the release that this run proved.
      - V(live) moves the pointer to the release that this run proved, drains and stops the old one.
      - V(withdrawn) stops the release that this run proved.
    type: str
    choices: [built, proved, commanded, live, withdrawn]
    default: live
  release:
    description:
      - With O(state=proved), a release that is on the host already, by its id, or V(previous) for the last good one
        before the live one. Without, the release that the app's source and settings make.
    type: str
  request:
    description: What the controller found out. Filled in by the action plugin.
    type: dict
  hidden:
    description: The app's secrets and its packed source, in a form that hides them whole. Filled in by the action plugin.
    type: str
attributes:
  check_mode:
    description: Says which release would be made, and how it differs from the live one.
    support: full
  diff_mode:
    description: Nothing is shown; what differs is said by name.
    support: none
extends_documentation_fragment: [action_common_attributes]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Prove the release beside the live one
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: proved

- name: Let visitors have it
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: live

- name: Prove the release before this one again, for a rollback
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: proved
    release: previous
"""

RETURN = r"""
release:
  description: The release's id.
  returned: always
  type: str
  sample: 3f2a9c01d7e4
live:
  description: The release that was live before this step.
  returned: with O(state=proved) and O(state=withdrawn)
  type: str
  sample: 81bc22e0a9f3
notes:
  description: Messages for the operator, even on success, such as files of the repository that a shared path hides.
  returned: with O(state=proved) and O(state=live)
  type: list
  elements: str
reachable:
  description: Whether a site of nginx on this host leads visitors to the app's live release.
  returned: with O(state=live), and with O(state=proved) where the release is live already
  type: bool
source_needed:
  description: Whether the packed source has to be sent, because files of a release that was complete are gone.
  returned: with O(state=built) and O(state=proved), where it is so; the action plugin then sends it
  type: bool
pending:
  description: Whether the release waits to go live.
  returned: with O(state=proved)
  type: bool
differs:
  description: What differs between the release and the live one.
  returned: in check mode
  type: list
  elements: str
  sample: [code, env]
size:
  description: The number of workers and threads, and why.
  returned: with O(state=proved), when something was done
  type: str
previous:
  description: The release that was live before.
  returned: with O(state=live)
  type: str
seconds:
  description: How long the switch took, drain included.
  returned: with O(state=live)
  type: float
holder:
  description: Who holds the app's lock.
  returned: when another run does
  type: dict
"""

import base64
import json
import os
import zlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.engine import (
    DeployError,
    Engine,
    Request,
    as_deploy_error,
)
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import LEASE, LockedError, claim, held_by
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd

STEPS = {
    "built": Engine.build,
    "proved": Engine.prove,
    "commanded": Engine.command,
    "live": Engine.go_live,
    "withdrawn": Engine.withdraw,
}

#: The steps that are given the packed source: a run that is gone need not end them.
PACKED = ("built", "proved")


#: Fixed, so that the host's login.defs cannot lock the app out of its own files.
UMASK = 0o022


def withdraw_others(layout: Layout, run: dict[str, str]) -> str:
    """Stop what the run proved of this host's other apps: a refused release keeps all of them from going live.

    :returns: what could not be stopped, lines; empty where all was.
    """
    left = ""
    for path in held_by(layout.lock.parent, run["token"]):
        name = path.stem
        try:
            with claim(path, run) as held:
                Engine(Request(app={"name": name}), Layout(name), Systemd()).withdraw(held)
        except Exception as caught:  # the message of the app that was refused must be said all the same
            left += f"\n{name}, which waited to go live too, could not be stopped: {caught}"
    return left


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "dict", "required": True},
            "state": {
                "type": "str",
                "choices": ["built", "proved", "commanded", "live", "withdrawn"],
                "default": "live",
            },
            "release": {"type": "str"},
            "request": {"type": "dict"},
            "hidden": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    os.umask(UMASK)
    given = dict(module.params["request"] or {})
    if not given:
        module.fail_json(msg="this module needs its action plugin: call it as flaskops.server.release")
    hidden = json.loads(base64.b64decode(module.params["hidden"]))
    app = module.params["app"]
    app["python"].update(hidden["python"])
    run, dead, given_up = given.pop("run"), given.pop("dead", None), given.pop("given_up", False)
    wanted = module.params["release"]
    if wanted and wanted != "previous":
        given["release"] = wanted
    layout = Layout(app["name"])
    engine = Engine(Request(app=app, secrets=hidden["secrets"], **given), layout, Systemd())
    if given_up:
        # Refused before it came to this host, or locked: nothing of this app was begun.
        module.exit_json(changed=True, msg=withdraw_others(layout, run).strip())
    if module.check_mode and module.params["state"] != "proved":
        # What the steps before would have proved is not there.
        module.exit_json(changed=True)
    if module.check_mode:
        try:
            module.exit_json(**engine.predict())
        except DeployError as refused:
            module.fail_json(msg=f"{app['name']} on {engine.request.host}: the release {refused}")
    try:
        # A release command or a switch must come to its end, even of a run whose controller is gone.
        with claim(layout.lock, run, dead, expendable=module.params["state"] in PACKED) as held:
            if wanted:
                held.content["action"] = "rollback"
            try:
                if "artifact" in hidden:
                    tarball = Path(module.tmpdir, "artifact.tar")
                    tarball.write_bytes(zlib.decompress(base64.b64decode(hidden["artifact"])))
                    engine.request.artifact = str(tarball)
                result = STEPS[module.params["state"]](engine, held)
            except Exception as caught:  # whatever it is: nothing may be left running, locked or unrecorded
                error = as_deploy_error(caught)
                release = held.content.get("release") or given.get("release")
                message = engine.fail(held, error)
                message += withdraw_others(layout, run)
                module.fail_json(msg=message, release=release, step=error.step)
    except LockedError as error:
        message = (
            f"{app['name']} on {engine.request.host}: {error}.\nNothing was done here. Next: deploy again when it has ended;"
            f" a run that is gone loses the lock {LEASE // 60} minutes after its last step at the latest."
        )
        module.fail_json(msg=message, holder=error.holder, busy=error.busy)
    except OSError as error:
        message = f"{app['name']} on {engine.request.host}: the lock cannot be taken: {error}.\nNothing was done here."
        module.fail_json(msg=message + withdraw_others(layout, run))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
