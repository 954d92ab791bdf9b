"""Calls that come one by one go on in groups, so that the sessions behind have something to pack.

grpc.aio hands over each call in event loop iterations of its own. Started at once, each would be written to its replica
in a packet of its own, and writing a packet costs ten times what a call in it does. So a call that is not alone is held
for a few iterations of the loop: next to no time when the loop is idle, and time in which others come when it is busy.
"""

from __future__ import annotations

import asyncio

from fairlead.v1 import session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.upstream import CallRouter

GROUP = 16
"""Calls of a group that waits no longer."""

MIN_TURNS = 1
MAX_TURNS = 32
"""Iterations of the event loop that a group waits at most. Grows while waiting pays, shrinks while nobody comes."""


class Gathering:
    """Starts unary calls on a router. Belongs to its event loop."""

    def __init__(self, router: CallRouter, loop: asyncio.AbstractEventLoop) -> None:
        self._router = router
        self._loop = loop
        self._group: list[tuple[session_pb2.CallHeader, bytes, Answer, Trust]] = []
        self._patience = MIN_TURNS
        self._turns = 0
        self.under_way = 0
        """Calls that were started here and have not been reported as :meth:`done`."""

    def __repr__(self) -> str:
        return f"<Gathering under_way={self.under_way} held={len(self._group)} patience={self._patience}>"

    def start(self, header: session_pb2.CallHeader, payload: bytes, answer: Answer, trust: Trust) -> None:
        """Starts a call now or soon. One whose answer is closed before is not started."""
        self.under_way += 1
        group = self._group
        if not group:
            if self.under_way == 1:
                answer.attach(self._router.start(header, payload, answer, trust=trust))
                return
            self._turns = self._patience
            self._loop.call_soon(self._turn)
        group.append((header, payload, answer, trust))

    def done(self) -> None:
        """A call that was given to :meth:`start` is over, however it ended. To be called once for each."""
        self.under_way -= 1

    def _turn(self) -> None:
        self._turns -= 1
        if self._turns > 0 and len(self._group) < GROUP:
            self._loop.call_soon(self._turn)
            return
        group, self._group = self._group, []
        self._patience = min(self._patience * 2, MAX_TURNS) if len(group) > 1 else max(self._patience // 2, MIN_TURNS)
        for header, payload, answer, trust in group:
            if not answer.ended:
                answer.attach(self._router.start(header, payload, answer, trust=trust))
