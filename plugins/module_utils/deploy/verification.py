# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checking the health of a release on its own socket, before any visitor can reach it."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import (
    FIX,
    DeployError,
    Where,
)
from ansible_collections.flaskops.server.plugins.module_utils.host import health
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import OUTPUT_LINES
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import UnitState

#: Healthy answers in a row that a release needs, and seconds between them: one answer can be the last.
HEALTHY_ANSWERS = 3
ANSWER_PAUSE = 0.25
#: A wrong status this often in a row fails the health check; 503 means that the app is still starting.
MOST_REFUSALS = 3
STARTING_STATUS = 503
#: Seconds between two looks at an instance that does not answer yet.
POLL = 0.05
#: Seconds for the one question right before the switch.
LAST_QUESTION = 10
#: The page behind a redirect can need what a migration makes.
BEFORE_COMMANDS = (
    "fix it, then {again}. The release_commands run after this check: if the page needs them, run them in"
    " hooks.after_stage, or have the redirect itself count (health: {{status: 302}})"
)


def verify(release: Release, unit: str, started: float) -> None:
    """Wait until an instance is healthy: several answers in a row, and no worker that died meanwhile.

    :param started: when it was started, on the monotonic clock.
    :raises DeployError: when it ends, answers wrongly, or is not healthy in time.
    """
    wanted, clock = release.app["health"], release.host.clock
    deadline = started + float(wanted["timeout"])
    answers, refusals, last = 0, 0, "nothing listens on its socket"
    seen: frozenset[int] = frozenset()
    while answers < HEALTHY_ANSWERS:
        workers = _workers(release, _alive(release, unit))
        if clock.monotonic() > deadline:
            raise DeployError(Where.VERIFY, f"was not healthy within {wanted['timeout']} s: {last}")
        try:
            answer = _ask(release, max(1.0, deadline - clock.monotonic()))
        except health.NoAnswerError as error:
            if answers:
                times = "once" if answers == 1 else f"{answers} times"
                raise DeployError(Where.VERIFY, f"answered {times} and then {_without_subject(error)}") from error
            last = str(error)
            clock.sleep(POLL)
            continue
        if health.is_healthy(answer.status, wanted["status"]):
            answers += 1
            refusals = 0
            # Those who were there before it answered: the one who did may be gone already.
            seen |= workers
        else:
            last = f"it answered {answer.status}"
            refusals += answer.status != STARTING_STATUS
            if answers or refusals >= MOST_REFUSALS:
                raise _wrong_status(release, answer)
        if answers < HEALTHY_ANSWERS:
            clock.sleep(ANSWER_PAUSE)
    if seen - _workers(release, _alive(release, unit)):
        raise DeployError(Where.VERIFY, "answered, and then one of its workers died")


def verify_again(release: Release, unit: str) -> None:
    """Make sure that a release that was healthy a while ago still is.

    :raises DeployError: when it is not.
    """
    _alive(release, unit)
    try:
        answer = _ask(release, LAST_QUESTION)
    except health.NoAnswerError as error:
        raise DeployError(Where.VERIFY, f"was healthy, and then {_without_subject(error)}") from error
    if not health.is_healthy(answer.status, release.app["health"]["status"]):
        raise _wrong_status(release, answer)


def _alive(release: Release, unit: str) -> UnitState:
    state = release.host.systemd.state(unit)
    if state.is_dead:
        # systemd says "success" until it knows better, and again when it has begun the next try.
        result = f" ({state.result})" if state.result not in ("", "success") else ""
        raise DeployError(Where.VERIFY, f"started and then ended{result}")
    return state


def _workers(release: Release, state: UnitState) -> frozenset[int]:
    return release.host.children(release.host.runtime(release.id).main_pid(release.id, state.main_pid))


def _ask(release: Release, timeout: float) -> health.Answer:
    app, socket = release.app, release.host.layout.instance_socket(release.id)
    wanted = app["health"]
    try:
        return release.host.ask(socket, wanted["path"], health.headers(app), timeout, wanted["status"], app["domains"])
    except health.RedirectError as error:
        # It would not end when asked again either.
        raise DeployError(Where.VERIFY, _without_subject(error)) from error


def _wrong_status(release: Release, answer: health.Answer) -> DeployError:
    wanted = release.app["health"]
    what = f"answered {answer.said(wanted['path'])}, expected {health.expected(wanted['status'])}"
    is_behind = bool(answer.via and release.app["release_commands"]) and wanted["status"] is None
    return DeployError(
        Where.VERIFY, what, answer.body.splitlines()[:OUTPUT_LINES], BEFORE_COMMANDS if is_behind else FIX
    )


def _without_subject(error: Exception) -> str:
    return str(error).removeprefix("it ")
