# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""After a reboot the live release serves, and only it; what killed it does not keep it down."""

from __future__ import annotations

from ansible_collections.flaskops.server.tests.support import deploying, outcome


def test_after_a_reboot(found: dict[str, deploying.Found], live: str) -> None:
    outcome.reboot()
    for host, address in deploying.addresses().items():
        deploying.wait_until("serving", lambda: outcome.serves(address), seconds=60)  # noqa: B023
        assert deploying.fetch(address) == (200, f"probe {live}\n")
        here = outcome.settled(host)
        assert (here.live, here.instances, here.runtime) == (found[host].live, {here.live: "active"}, [here.live])


def test_a_server_that_is_killed_comes_back(found: dict[str, deploying.Found], live: str) -> None:
    for host, address in deploying.addresses().items():
        unit = f"probe@{found[host].live}.service"
        deploying.shell(address, f"systemctl kill --signal=SIGKILL {unit}")
        deploying.wait_until("it has ended", lambda: not outcome.serves(address), seconds=10)  # noqa: B023
        deploying.wait_until("serving again", lambda: outcome.serves(address), seconds=60)  # noqa: B023
        assert outcome.settled(host).instances == {found[host].live: "active"}
