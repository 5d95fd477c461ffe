# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every way in which a release can be bad: what is said, what still serves, and that nothing is left behind.

Each deploy runs on all hosts at once, and visitors come all the while. What is found out before a server starts is the
same whatever the server: it is asked of the first server of each runtime only.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.tests.support import deploying, outcome

#: Seconds that a release has to prove itself: as many as a busy machine may need, and few for those that never will.
PATIENCE, IMPATIENCE = 60, 8


@dataclasses.dataclass(frozen=True)
class Bad:
    """A release that must not go live.

    :param variant: how the probe is broken.
    :param step: where it has to be found out.
    :param words: what the message has to hold, the app's or the installer's own words among it.
    :param instead: other words, by what the code runs in.
    :param more: settings of the app.
    :param timeout: of its health, in seconds.
    """

    name: str
    variant: str | None
    step: str
    words: tuple[str, ...]
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    timeout: int = PATIENCE
    instead: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


UNBUILT = "the image cannot be built from Containerfile"
UNCHECKED = {"checks": {"import": False}}

#: What stands for what the server itself says when it starts its workers, and when one of them dies.
STARTS, DIES = "<starts>", "<dies>"

BAD = [
    Bad(
        "requirement missing",
        "requirements_missing.txt",
        "stage",
        ("cannot install requirements.txt", "there is no version of itsdangerous==99.0.0"),
        instead={"image": (UNBUILT, "No matching distribution found for itsdangerous==99.0.0")},
    ),
    Bad(
        "requirements in conflict",
        "requirements_conflict.txt",
        "stage",
        ("cannot install requirements.txt", "depends on werkzeug>=3.1.0", "you require werkzeug==2.3.8"),
        instead={"image": (UNBUILT, "depends on werkzeug>=3.1.0", "user requested werkzeug==2.3.8")},
    ),
    Bad(
        "requirement does not compile",
        "requirements_compile.txt",
        "stage",
        # Where there is a compiler, the header files are missing.
        ("cannot install requirements.txt", "'gcc'|-gcc'|fatal error: "),
        instead={"image": (UNBUILT, "Failed building wheel for python-ldap", "-gcc'")},
    ),
    Bad(
        "syntax error",
        "syntax_error.py.txt",
        "check",
        ("cannot be imported as probe:create_app()", "def starting(:", "SyntaxError: invalid syntax"),
    ),
    Bad(
        "import error",
        "import_error.py",
        "check",
        ("cannot be imported as probe:create_app()", "ModuleNotFoundError: No module named 'flask_teapot'"),
    ),
    Bad(
        "import error, found by the health check",
        "import_error.py",
        "verify",
        ("started and then ended", "ModuleNotFoundError: No module named 'flask_teapot'"),
        UNCHECKED,
    ),
    Bad(
        "no such callable",
        "no_callable.py",
        "check",
        ("cannot be imported as probe:create_app()", "AttributeError: module 'probe' has no attribute 'create_app'"),
    ),
    Bad(
        "no such callable, found by the health check",
        "no_callable.py",
        "verify",
        ("started and then ended", "AttributeError: module 'probe' has no attribute 'create_app'"),
        UNCHECKED,
    ),
    Bad(
        "factory raises",
        "factory_raises.py",
        "verify",
        ("started and then ended", "raise RuntimeError(", "RuntimeError: PROBE_DATABASE_URL is not set"),
    ),
    Bad(
        "hangs at import",
        "hangs_at_import.py",
        "check",
        ("cannot be imported as probe:create_app()", f"it did not finish within {IMPATIENCE} s"),
        timeout=IMPATIENCE,
    ),
    Bad(
        "hangs at import, found by the health check",
        "hangs_at_import.py",
        "verify",
        (f"was not healthy within {IMPATIENCE} s", "it accepted the request but did not answer in time", STARTS),
        UNCHECKED,
        IMPATIENCE,
    ),
    Bad(
        "wrong status",
        "health_500.py",
        "verify",
        ("answered GET /healthz with 500, expected 200", "    the cache at 192.0.2.1 does not answer"),
    ),
    Bad(
        "another status than the one asked for",
        None,
        "verify",
        ("answered GET /healthz with 200, expected 204", "    ok"),
        {"health": {"path": "/healthz", "status": 204, "timeout": PATIENCE}},
    ),
    Bad(
        "dies after its first answer",
        "dies_after_first_answer.py",
        "verify",
        # Whichever is seen first: that its socket is gone, or that systemd knows.
        ("answered once and then |started and then ended (signal)", STARTS),
        # In a container the server is the first process, which nothing in it can kill.
        instead={"image": ("answered, and then one of its workers died|closed the connection|answered ", STARTS)},
    ),
    Bad(
        "a worker dies after its first answer",
        "worker_dies_after_first_answer.py",
        "verify",
        ("answered", "one of its workers died|closed the connection", DIES),
    ),
    Bad(
        "the only worker dies after its first answer",
        "worker_dies_after_first_answer.py",
        "verify",
        ("answered", DIES),
        {"workers": 1},
    ),
    Bad(
        "needs longer than the timeout",
        "slow_start.py",
        "verify",
        (f"was not healthy within {IMPATIENCE} s", "it accepted the request but did not answer in time"),
        UNCHECKED,
        IMPATIENCE,
    ),
]


#: The steps that end before the server is started.
BEFORE_THE_SERVER = ("stage", "check")
SERVER = deploying.inventory_apps()["probe"]["server"]
MINE = [bad for bad in BAD if outcome.first_of_its_runtime(SERVER) or bad.step not in BEFORE_THE_SERVER]


@pytest.mark.parametrize("bad", MINE, ids=lambda bad: str(bad.name))
def test_a_bad_release_is_refused(
    bad: Bad, server: str, make: deploying.Make, found: dict[str, deploying.Found], live: str
) -> None:
    health = {"path": "/healthz", "status": 200, "timeout": bad.timeout}
    app = make(f"bad: {bad.name}", bad.variant, **{"health": health, **bad.more})
    with deploying.visitors() as visits:
        run = deploying.playbook("deploy", apps=[app])
    assert run.code != 0
    outcome.assert_serving(visits, f"probe {live}\n")
    now = outcome.look()
    assert len({here.record[-1]["release"] for here in now.values()}) == 1
    for host, here in now.items():
        refused = here.record[-1]
        outcome.assert_only_live(found[host], here)
        assert len(here.record) == len(found[host].record) + 1
        assert (refused["result"], refused["step"]) == ("failed", bad.step)
        assert refused["release"] not in (here.live, *here.releases, *here.drop_ins, *here.instances)
        assert deploying.ask_live(deploying.addresses()[host]) == (200, f"probe {live}\n")

        message = deploying.message(run, host)
        assert message.startswith(f"probe on {host}: release {refused['release']} ")
        # Installers fold their lines.
        unfolded = message + " ".join(message.split())
        own = {STARTS: SERVERS[server].starts, DIES: SERVERS[server].dies}
        for words in (own.get(word, word) for word in bad.instead.get(SERVERS[server].runtime, bad.words)):
            assert any(word in unfolded for word in words.split("|")), f"{words} is not in:\n{message}"
        assert f"Still serving: {here.live} (" in message
        assert f"No visitor saw {refused['release']}." in message
        assert "Next: fix it, then run: ansible-playbook -i INVENTORY flaskops.server.deploy." in message
        assert f"It failed at the step {bad.step};" in message
        # Long enough to say why, short enough to be read.
        assert len(message.splitlines()) <= 32, message
