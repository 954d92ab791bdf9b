"""What comes into a call: its arguments and the items that follow them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.wire.codecs import MSGPACK, dump_arguments
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT
from tests.replica.calling import Stage
from tests.wire.message_writer import MessageWriter


class Model:
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def total(self, items: AsyncIterator[bytes], padding: bytes = b"") -> int:
        return sum([len(item) async for item in items])

    async def wait(self) -> None:
        await self.gate.wait()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(Model(), max_ongoing_requests=1)
    yield made
    await made.close()


@pytest.mark.parametrize("spare", [-300, -256, -1, 0, 1, 200, MAX_PIECE])
async def test_the_credit_of_the_arguments_comes_back(stage: Stage, spare: int) -> None:
    """Large arguments, then items that add up to exactly what their credit left: without it the sender would wait."""
    overhead = len(dump_arguments(MSGPACK, (bytes(MAX_PIECE - 1000),), {})) - MAX_PIECE + 1000
    answer = stage.caller.open("total", bytes(MAX_PIECE - overhead + spare), last=False, codec=MSGPACK)
    writer = MessageWriter(answer.stream)
    answer.on_writable = lambda stream: writer.writable()  # type: ignore[method-assign]
    item = MSGPACK.dumps(bytes(100))
    count = 2 * INITIAL_CREDIT // (len(item) + FRAME_COST)
    for number in range(count):
        await asyncio.wait_for(writer.send(item, last=number == count - 1), 60)
    assert await answer.next() == 100 * count


async def test_items_that_come_while_a_call_waits_for_a_slot(stage: Stage) -> None:
    running = stage.caller.open("wait")
    answer = stage.caller.open("total", last=False, reservation_id="r", codec=MSGPACK)
    for _ in range(3):
        answer.send(bytes(10))
    while stage.runtime.statistics().waiting == 0:
        await asyncio.sleep(0)
    answer.send(bytes(10), last=True)
    await asyncio.sleep(0)
    stage.runtime.callable.target.gate.set()
    assert await running.next() is None
    assert await answer.next() == 40
