# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must be true after a deploy, whether it went well or not: on every host of the scenario."""

from __future__ import annotations

import base64
import dataclasses
import subprocess

from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.tests.support import deploying


def look(app: str = "probe") -> dict[str, deploying.Found]:
    """Look at what there is of an app on each host."""
    return {host: deploying.on_host(address, app) for host, address in deploying.addresses().items()}


def settled(host: str, app: str = "probe") -> deploying.Found:
    """What there is on a host when the old instance has ended, for which no deploy waits."""
    address = deploying.addresses()[host]
    deploying.wait_until("only one instance", lambda: len(deploying.on_host(address, app).instances) == 1)
    return deploying.on_host(address, app)


def all_settled(app: str = "probe") -> dict[str, deploying.Found]:
    """What there is on each host, as :func:`settled`."""
    return {host: settled(host, app) for host in deploying.addresses()}


def serves(address: str) -> bool:
    """Say whether a host answers with 200 through nginx."""
    try:
        return deploying.fetch(address)[0] == 200
    except AssertionError:
        return False


def reboot() -> None:
    """Reboot every host, and wait until its systemd is done."""
    for address in deploying.addresses().values():
        subprocess.run(["docker", "restart", "--time", "20", address], check=True, capture_output=True, timeout=120)
    for address in deploying.addresses().values():
        booted = "systemctl is-system-running --wait"
        deploying.wait_until("booted", lambda: deploying.shell(address, booted, check=False) in ("running", "degraded"))  # noqa: B023


def assert_serving(visits: dict[str, deploying.Visits], *bodies: str) -> None:
    """Every visitor got one of the bodies, and each of them was seen."""
    for host, visit in visits.items():
        assert not visit.failures, host
        assert set(visit.bodies) == set(bodies), host
        assert sum(visit.bodies.values()) >= 5, host


def assert_only_live(before: deploying.Found, after: deploying.Found) -> None:
    """Nothing but the record changed, and only the live release runs."""
    assert after.live == before.live
    assert after.instances == {after.live: "active"}
    assert after.runtime == [after.live]
    assert after.lock is None
    assert dataclasses.replace(after, record=[]) == dataclasses.replace(before, record=[])
    assert after.record[: len(before.record)] == before.record


def assert_no_secret(run: deploying.Run, secret: str) -> None:
    """Neither a secret nor its base64 at any offset was printed."""
    assert secret not in run.output
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + secret.encode()).decode()
        assert encoded[4:-4] not in run.output


def first_of_its_runtime(server: str) -> bool:
    """Say whether a server stands for all that share its runtime: gunicorn for virtualenvs, container for images."""
    runtime = SERVERS[server].runtime
    return server == next(name for name, one in SERVERS.items() if one.runtime == runtime)
