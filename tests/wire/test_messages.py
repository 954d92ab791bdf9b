"""Whole messages out of pieces, and the credit that goes with them."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.wire.errors import ConnectionLostError, MessageTooLargeError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.messages import WITHHELD, MessageAssembler, MessageReader
from fairlead.wire.stream import INITIAL_CREDIT, Stream, cost
from tests.wire.calls import PATIENCE
from tests.wire.frame_making import OWNER
from tests.wire.message_writer import MessageWriter


class FakeLink:
    """Notes what is credited, and takes messages while ``room`` is true."""

    def __init__(self) -> None:
        self.credited = 0
        self.room = True
        self.sent: list[tuple[bytes, bool]] = []

    def consumed(self, stream: Stream, amount: int) -> None:
        assert amount > 0
        self.credited += amount

    def send(self, stream: Stream, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        self.sent.append((payload, last))
        return self.room


@pytest.fixture
def stream() -> Stream:
    made = Stream(1, OWNER, INITIAL_CREDIT, INITIAL_CREDIT)
    made.link = FakeLink()
    return made


def test_a_message_of_one_piece_passes_as_it_is(stream):
    assembler = MessageAssembler()
    payload = b"whole"
    assert assembler.add(stream, payload, False) is payload
    assert assembler.owed == cost(payload)
    assert stream.link.credited == 0


@pytest.mark.parametrize("withhold", [0, WITHHELD])
def test_pieces_are_joined_and_every_byte_of_credit_is_returned_once(stream, withhold):
    assembler = MessageAssembler(withhold=withhold)
    pieces = [b"a" * MAX_PIECE, b"", b"b" * 10, b"c" * MAX_PIECE, b"d"]
    for _ in range(2):
        stream.link.credited = 0
        assert [assembler.add(stream, piece, True) for piece in pieces[:-1]] == [None] * 4
        assert assembler.add(stream, pieces[-1], False) == b"".join(pieces)
        assert assembler.owed == cost(pieces[-1]) + withhold
        assert stream.link.credited + assembler.owed == sum(map(cost, pieces))
    assert assembler.add(stream, b"next", False) == b"next"


@pytest.mark.parametrize("pieces", [[b"12345"], [b"123", b"45"], [b"1"] * 5])
def test_a_message_above_the_limit_is_an_error(stream, pieces):
    assembler = MessageAssembler(limit=4)
    with pytest.raises(MessageTooLargeError, match="4 bytes"):
        for piece in pieces:
            assembler.add(stream, piece, True)
    assert MessageAssembler(limit=4).add(stream, b"1234", False) == b"1234"


async def test_a_reader_credits_a_message_when_it_is_taken(stream):
    reader = MessageReader()
    reader.feed(stream, b"one", False)
    reader.feed(stream, b"two", False, True)
    assert stream.link.credited == 0
    assert await reader.get() == b"one"
    assert stream.link.credited == cost(b"one")
    assert [message async for message in reader] == [b"two"]
    assert stream.link.credited == 2 * cost(b"two")
    with pytest.raises(StopAsyncIteration):
        await reader.get()


async def test_a_reader_waits(stream):
    reader = MessageReader()
    waiting = asyncio.create_task(reader.get())
    await asyncio.sleep(0)
    reader.feed(stream, b"a", True)
    await asyncio.sleep(0)
    assert not waiting.done()
    reader.feed(stream, b"b", False)
    assert await asyncio.wait_for(waiting, PATIENCE) == b"ab"


async def test_a_cancelled_reader_loses_nothing(stream):
    reader = MessageReader()
    waiting = asyncio.create_task(reader.get())
    await asyncio.sleep(0)
    reader.feed(stream, b"x", False)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(reader.get(), PATIENCE) == b"x"


async def test_an_error_comes_after_what_was_there(stream):
    reader = MessageReader()
    reader.feed(stream, b"x", False)
    reader.finish(ConnectionLostError("gone"))
    reader.finish(None)
    reader.feed(stream, b"ignored", False)
    assert await reader.get() == b"x"
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            await reader.get()


async def test_an_error_wakes_a_waiting_reader(stream):
    reader = MessageReader()
    waiting = asyncio.create_task(reader.get())
    await asyncio.sleep(0)
    reader.finish(ConnectionLostError("gone"))
    with pytest.raises(ConnectionLostError):
        await asyncio.wait_for(waiting, PATIENCE)


async def test_an_oversized_message_ends_a_reader_and_is_not_kept(stream):
    reader = MessageReader(limit=10)
    reader.feed(stream, b"fits", False)
    reader.feed(stream, b"1234567890", True)
    reader.feed(stream, b"1", False)
    assert await reader.get() == b"fits"
    with pytest.raises(MessageTooLargeError):
        await reader.get()
    assert reader._assembler._parts == []


async def test_a_writer_waits_for_room(stream):
    writer = MessageWriter(stream)
    await writer.send(b"a")
    stream.link.room = False
    waiting = asyncio.create_task(writer.send(b"b", last=True))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert stream.link.sent == [(b"a", False), (b"b", True)]
    writer.writable()
    writer.writable()
    await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.parametrize("state", ["closed", "cancelled"])
async def test_a_writer_of_a_call_that_is_over_does_not_wait(stream, state):
    setattr(stream, state, True)
    stream.link.room = False
    await asyncio.wait_for(MessageWriter(stream).send(b"x"), PATIENCE)


async def test_a_cancelled_writer_can_be_woken(stream):
    stream.link.room = False
    writer = MessageWriter(stream)
    waiting = asyncio.create_task(writer.send(b"b"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    writer.writable()
