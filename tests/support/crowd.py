# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Visitors who never stop asking, in every way that visitors do, while an app is deployed on every host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ansible_collections.flaskops.server.tests.load.client import Lane, Load, Summary, Target
from ansible_collections.flaskops.server.tests.support import deploying, visitor

#: What the probe can be asked.
LANES = [
    Lane("short", "/version", workers=2),
    Lane("short", "/static/probe.css", workers=1, pause=0.3),
    Lane("keep-alive", "/version", workers=4),
    Lane("post", "/echo", workers=1),
    Lane("large", "/echo", workers=1, pause=1.0),
    Lane("slow-body", "/echo", workers=1, seconds=1.5),
    Lane("slow", "/slow?seconds=1.5", workers=2),
    Lane("stream", "/stream?lines=5&seconds=1", workers=1, expect="end"),
]
KINDS = {lane.kind for lane in LANES}
#: Requests a second to each host.
RATE = 25.0


@contextlib.contextmanager
def visiting(
    name: str, lanes: Sequence[Lane] = (), rate: float = RATE, *, tls: bool = True
) -> Iterator[dict[str, Load]]:
    """Keep asking every host; the summaries are complete when the block ends.

    :param name: the host name that visitors use.
    """
    port = 443 if tls else 80
    loads = {
        host: Load(Target(visitor.address(host), port, tls=tls, name=name), list(lanes or LANES), rate=rate)
        for host in deploying.addresses()
    }
    for load in loads.values():
        load.start()
    try:
        for host, load in loads.items():
            assert load.answered.wait(30), f"{host} answers nobody"
        yield loads
    finally:
        for load in loads.values():
            load.over.set()
        for load in loads.values():
            load.finish()


def went_well(summary: Summary) -> None:
    """Make sure that nobody noticed anything, and that every kind of request was sent."""
    assert summary.failed == 0, f"{summary}\n{summary.samples}"
    assert summary.cut == 0, str(summary)
    assert set(summary.kinds) == KINDS and all(count.requests for count in summary.kinds.values())
