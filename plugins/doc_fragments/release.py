# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What release and release_with_source document alike; no host receives it."""

from __future__ import annotations


class ModuleDocFragment:
    """The options and the attributes of a step of a deploy."""

    DOCUMENTATION = r"""
options:
  app:
    description:
      - The app to deploy, as the name of an item of C(flask_apps) or as a dict with the keys of such an item.
      - A name that no app of the host has is refused with the nearest one.
    type: raw
    required: true
  apps:
    description:
      - The list in which a name given as O(app) is looked up. Defaults to the variable C(flask_apps).
    type: list
    elements: dict
  state:
    description:
      - V(stage) makes the release on the host unless it is there, and starts nothing. Used to build an image on one host
        before the others fetch it.
      - V(verify) stages the release, starts it beside the live one and runs its health check. It then waits to go live.
        Nothing happens when the release is live and running.
      - V(run_commands) runs the app's C(release_commands) in the release that this run verified.
      - V(activate) switches visitors to the release that this run verified, then drains and stops the previous one.
      - V(abort) stops the release that this run verified. The live release is not touched.
      - There is no default, because a task without a state could put a release live by accident.
    type: str
    choices: [stage, verify, run_commands, activate, abort]
    required: true
  release:
    description:
      - A release that is on the host already, by its id, or V(previous) for the last good one before the live one.
        Use it with O(state=verify) to roll back.
      - Without it, the release is the one that the app's source and settings make.
    type: str
  registered:
    description:
      - The name of the variable in which the task or loop with O(state=verify) was registered.
      - With it, a step is skipped without a connection when the app has no release waiting to go live on this host, and
        O(state=run_commands) runs on one host only, the first of the play where the release waits.
      - With O(state=stage), the name of the variable in which M(flaskops.server.check_apps) was registered. The image is
        then built on one host only, the first of the play with the app.
      - Without it, the host is asked every time, and a step without a verified release fails.
    type: str
  nginx_follows:
    description:
      - Set this when nginx is configured after the deploy. With O(state=activate), RV(flaskops.server.release#module:summary) then does not report that
        no site of nginx leads to the app yet.
    type: bool
    default: false
  _context:
    description: Filled in by the action plugin. A task that sets it is refused.
    type: dict
  _sensitive:
    description: Filled in by the action plugin. A task that sets it is refused.
    type: str
"""

    SUPPORT = r"""
options: {}
attributes:
  action:
    description: Packs the source and renders the configuration on the controller.
    support: full
  async:
    description:
      - Works, with these limits. The source is sent every time, and the lock of a run that has died is not taken over
        before its lease ends. RV(flaskops.server.release#module:summary) and the diff are missing.
    support: partial
  bypass_host_loop:
    description: Runs for each host.
    support: none
  check_mode:
    description: Predicts for every state, and names what differs from the live release.
    support: full
  diff_mode:
    description:
      - With O(state=verify), shows the server's configuration, the units and the settings of the live release and of the
        new one. Secrets are only reported as changed.
    support: full
  platform:
    description: Debian with systemd.
    platforms: debian
    support: full
"""
