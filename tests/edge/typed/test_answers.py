"""Answers of typed methods: when their heads go, and that a head changes nothing else."""

import asyncio

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InternalError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.edge.typed.answers import TypedAnswer
from tests.wire.calls import until

METADATA = [session_pb2.Metadata(key="k", value=b"v")]


class Door:
    """An answer whose door notes what it sends, in order."""

    def __init__(self):
        self.sent = []
        self.answer = TypedAnswer(1000, self.send_head)

    async def send_head(self, head):
        self.sent.append([(entry.key, entry.value) for entry in head])

    async def drain(self):
        while (entry := await self.answer.next()) is not None:
            self.sent.append(entry[0])
        self.sent.append(self.answer.outcome and self.answer.outcome.status.message)


@pytest.fixture
def door():
    return Door()


async def test_a_head_goes_before_there_is_a_message(door):
    draining = asyncio.create_task(door.drain())
    await until(lambda: door.answer._waiter)
    door.answer.on_head(METADATA)
    await until(lambda: door.sent)
    assert not draining.done()
    door.answer.on_message(b"a", False)
    door.answer.on_end(None, b"b")
    await draining
    assert door.sent == [[("k", b"v")], b"a", b"b", None]


async def test_a_head_that_came_with_the_rest_goes_first(door):
    door.answer.on_head([])
    door.answer.on_message(b"a", False)
    door.answer.on_end(outcome_of(InternalError("why"), trusted=False), None)
    await door.drain()
    assert door.sent == [[], b"a", "why"]


async def test_an_answer_without_a_head(door):
    door.answer.on_message(b"a", False)
    door.answer.on_end(None, None)
    await door.drain()
    assert door.sent == [b"a", None]
    assert door.answer.head == ()


async def test_the_head_of_a_single_result(door):
    waiting = asyncio.create_task(door.answer.single())
    await until(lambda: door.answer._waiter)
    door.answer.on_head(METADATA)
    await until(lambda: door.sent)
    door.answer.on_end(None, b"result")
    assert await waiting == b"result"


async def test_a_head_that_waits_is_there_with_the_first_message():
    answer = TypedAnswer(1000)
    answer.on_head(METADATA)
    answer.on_message(b"a", False)
    assert await answer.next() is not None
    assert answer.head == METADATA


async def test_it_keeps_no_memory_of_the_packet_and_nothing_after_the_end(door):
    frame = session_pb2.Frame(metadata=METADATA)
    door.answer.on_head(frame.metadata)
    assert door.answer.head == METADATA
    assert door.answer.head[0] is not frame.metadata[0]
    door.answer.close()
    door.answer.on_head([])
    assert door.answer.head == METADATA


async def test_what_the_door_raises_reaches_whoever_waits():
    async def fails(head):
        raise ConnectionError("the client is gone")

    answer = TypedAnswer(1000, fails)
    answer.on_head(METADATA)
    with pytest.raises(ConnectionError):
        await answer.next()
