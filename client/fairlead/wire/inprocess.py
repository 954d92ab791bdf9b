"""Links between event loops of one process, without sockets: for replicas that share a process with their gateway.

Neither end waits until the other has taken a packet: a debugger may hold one of the loops for as long as it likes. What
piles up meanwhile is bounded by the number of calls and their credit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.link import Acceptor, Link


class InProcessListener:
    """Takes links from other event loops. Belongs to the loop that it is made on."""

    def __init__(self, acceptor: Acceptor, *, links: set[Link], on_link: Callable[[Link], None]) -> None:
        """``links``: those alive, which the listener keeps true; ``on_link`` hears of each new one."""
        self._acceptor = acceptor
        self._links = links
        self._on_link = on_link
        self._loop = asyncio.get_running_loop()
        self._pumps: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<InProcessListener {len(self._links)} links>"

    async def dial(self, on_load: Callable[[session_pb2.Load], None] | None = None) -> Link:
        """The opener's end of a new link, on the running loop, whichever it is. Raises ConnectionLostError."""
        opener = Link(on_load=on_load, name="in-process opener")
        accepting = self._accept(opener, asyncio.get_running_loop())
        try:
            accepted = asyncio.run_coroutine_threadsafe(accepting, self._loop)
        except RuntimeError as error:
            accepting.close()
            raise ConnectionLostError("the listener's event loop has ended") from error
        peer = await asyncio.wrap_future(accepted)
        pump = asyncio.create_task(_pump(opener, peer, self._loop))

        async def closed() -> None:
            await asyncio.wait({pump})

        opener.on_close = closed
        return opener

    async def _accept(self, opener: Link, loop: asyncio.AbstractEventLoop) -> Link:
        link = Link(acceptor=self._acceptor, name="in-process acceptor")
        self._links.add(link)
        self._on_link(link)
        pump = asyncio.create_task(_pump(link, opener, loop))
        self._pumps.add(pump)

        def ended(_: asyncio.Task[None]) -> None:
            self._pumps.discard(pump)
            self._links.discard(link)

        pump.add_done_callback(ended)
        return link

    async def close(self) -> None:
        """Ends all links."""
        for link in list(self._links):
            await link.close()
        if self._pumps:
            await asyncio.wait(self._pumps)


async def _pump(source: Link, target: Link, loop: asyncio.AbstractEventLoop) -> None:
    """Carries packets to a link of another loop until there are no more, then ends that link."""
    try:
        while packet := await source.packet():
            loop.call_soon_threadsafe(target.receive, packet)
        loop.call_soon_threadsafe(target.lose, ConnectionLostError("the peer closed the session"))
    except RuntimeError:  # its loop is closed
        source.lose(ConnectionLostError("the peer's event loop has ended"))
