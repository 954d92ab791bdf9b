"""A gateway without ports, on an event loop of somebody else's process, for local testing mode.

It routes, queues and sheds as a worker does, by the same code; it has no controller, but is told what to route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from fairlead.v1 import control_pb2
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.trust import Trust
from fairlead_gateway.control.traffic import checked_policy
from fairlead_gateway.edge.session_door import SessionDoor
from fairlead_gateway.routing.router import Router
from fairlead_gateway.routing.upstream import Connect, Upstreams


class EmbeddedGateway:
    """Belongs to the event loop that it is made on."""

    def __init__(self, connect: Connect) -> None:
        """``connect`` opens a session with the replica at an address."""
        self._router = Router(asyncio.get_running_loop())
        self._accept = SessionDoor(self._router).acceptor(Trust.OWNER)
        self._upstreams = Upstreams(connect)
        self._acceptors: list[Link] = []

    def __repr__(self) -> str:
        return f"<EmbeddedGateway {list(self._router.table.applications)}>"

    def dial(self) -> Link:
        """A session with it, for a caller on its loop."""
        opener, acceptor = link_pair(self._accept)
        self._acceptors = [*(link for link in self._acceptors if not link.closed), acceptor]
        return opener

    def checked_policy(
        self, application: str, policy: control_pb2.TrafficPolicy, applications: Mapping[str, Collection[str]]
    ) -> control_pb2.TrafficPolicy:
        """As :func:`fairlead_gateway.control.traffic.checked_policy`."""
        return checked_policy(application, policy, applications)

    async def apply(self, snapshot: control_pb2.WatchResponse) -> None:
        """Routes by a snapshot from now on. Returns when each new replica is connected, or found unreachable."""
        await self._upstreams.apply(self._router.table.apply(snapshot))

    async def close(self) -> None:
        """Ends all sessions."""
        self._router.draining = True
        for link in self._acceptors:
            await link.close()
        await self._upstreams.close()
