"""A pair of links in one event loop, without sockets: for tests, and for local testing mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.link import FAREWELL, Acceptor, Link


def link_pair(acceptor: Acceptor, *, load: Callable[[], session_pb2.Load] | None = None) -> tuple[Link, Link]:
    """An opener's link and the acceptor's, each other's peer. Closing one ends the other."""
    opener = Link(name="memory opener")
    accepting = Link(acceptor=acceptor, load=load, name="memory acceptor")
    pumps = [asyncio.create_task(_pump(*ends)) for ends in ((opener, accepting), (accepting, opener))]

    async def shutdown() -> None:
        await asyncio.wait(pumps, timeout=FAREWELL)

    for link in (opener, accepting):
        link.on_close = shutdown
    return opener, accepting


async def _pump(source: Link, target: Link) -> None:
    while packet := await source.packet():
        target.receive(packet)
        if target.congested:
            await target.room()
        await asyncio.sleep(0)  # as a socket would: the other side's loop turns before the next packet
    target.lose(ConnectionLostError("the peer closed the session"))
