"""Links between event loops of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fairlead.serve.wireloop import WireThread
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.inprocess import InProcessListener
from fairlead.wire.link import Link
from tests.wire.calls import PATIENCE, Caller, Service


class Elsewhere:
    """A listener on an event loop of another thread."""

    def __init__(self) -> None:
        self.thread = WireThread()
        self.loop = self.thread.loop
        self.links: set[Link] = set()
        self.listener = self.run(self.listen())

    async def listen(self) -> InProcessListener:
        return InProcessListener(Service().accept, links=self.links, on_link=lambda link: None)

    def run(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def end(self) -> None:
        if not self.loop.is_closed():
            self.thread.stop()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()
    yield made
    made.end()


async def test_calls_cross_threads(elsewhere: Elsewhere) -> None:
    link = await elsewhere.listener.dial()
    calls = [Caller().open(link, payload=str(number).encode()) for number in range(300)]
    assert [await call.result() for call in calls] == [str(number).encode() for number in range(300)]
    large = bytes(5 * 1024 * 1024)
    assert await Caller().open(link, payload=large).result() == large
    await asyncio.wait_for(link.close(), PATIENCE)


async def test_streams_cross_threads(elsewhere: Elsewhere) -> None:
    link = await elsewhere.listener.dial()
    call = Caller().open(link, "echo each", b"0", last=False)
    assert await call.get() == b"0"
    await call.writer.send(b"1", last=True)
    assert await call.get() == b"1"
    assert await call.outcome() is None
    await asyncio.wait_for(link.close(), PATIENCE)


async def test_either_end_ends_the_other(elsewhere: Elsewhere) -> None:
    link = await elsewhere.listener.dial()
    await asyncio.to_thread(elsewhere.run, elsewhere.listener.close())
    await asyncio.wait_for(link.wait_closed(), PATIENCE)
    assert isinstance(link.lost, ConnectionLostError)
    assert not elsewhere.links

    link = await elsewhere.listener.dial()
    await asyncio.wait_for(link.close(), PATIENCE)

    async def gone() -> None:
        while elsewhere.links:
            await asyncio.sleep(0.002)

    await asyncio.to_thread(elsewhere.run, gone())


async def test_a_loop_that_has_ended_cannot_be_dialled(elsewhere: Elsewhere) -> None:
    link = await elsewhere.listener.dial()
    await asyncio.wait_for(link.close(), PATIENCE)
    await asyncio.to_thread(elsewhere.run, elsewhere.listener.close())
    elsewhere.end()
    with pytest.raises(ConnectionLostError, match="ended"):
        await elsewhere.listener.dial()
