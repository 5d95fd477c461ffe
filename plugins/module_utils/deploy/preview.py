# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `--check` says of a step, and what answers `--check` and `--diff` together."""

from __future__ import annotations

from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.diff import differences, read_live
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import Preview
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import held_by


def predict(deploy: FullDeploy, step: Step, run: dict[str, str]) -> dict[str, Any]:
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


PREVIEW = Preview(predict, read_live, differences)
