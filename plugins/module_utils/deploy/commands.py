# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Running commands in a release, with the user, environment and code of the app."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import cause
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import read_environment
from ansible_collections.flaskops.server.plugins.module_utils.host.process import run


def shell(release: Release, kind: str, commands: list[str]) -> list[str]:
    """Run shell commands in a release, one after the other, without a time limit.

    :param kind: what they are called in the inventory.
    :returns: those that ran.
    :raises DeployError: when one fails; those after it do not run.
    """
    for command in commands:
        words = f"failed a command of {kind} ({command})"
        # What is begun in the live world (a migration) comes to its end, even when this step is killed.
        in_release(release, Where.COMMAND, ["/bin/sh", "-c", command], words, outlives=True)
    return commands


def in_release(
    release: Release,
    where: Where,
    command: list[str],
    failed: str,
    timeout: float | None = None,
    outlives: bool = False,
) -> None:
    """Run a command in a release.

    :param failed: the end of the error's sentence if it fails.
    :param timeout: seconds; None for no limit.
    :param outlives: whether it goes on when this step is killed.
    :raises DeployError: when it fails, or does not end in time.
    """
    runtime = release.host.runtime(release.id)
    # Its own secrets: a rollback can be to a release that has others than the inventory now.
    variables = {**read_environment(release.home / "env"), **read_environment(release.home / "secrets.env")}
    arguments, options = runtime.command(release.id, command, variables)
    done = run(arguments, timeout=timeout, outlives=outlives, **options)
    if done.code is None:
        runtime.ended(release.id)
        failed += f": it did not finish within {timeout} s"
    if done.code != 0:
        raise DeployError(where, failed, cause(done.output.splitlines(), noise=release.request.noise))
