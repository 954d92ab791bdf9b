"""Calls through the session door whose ends are slow, give up, or are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import INITIAL_CREDIT, Stream
from fairlead_gateway.edge import session_door
from tests.edge.session_stage import BOUND, LARGE, Call, Reading, Stage, staged
from tests.routing.fake_replica import settle
from tests.wire.calls import PATIENCE, until


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


# -- flow control


async def test_a_slow_caller_stops_the_replica_and_the_gateway_holds_a_bound(stage: Stage):
    replica = stage.replica()
    link = stage.caller_link()
    slow = Call().start(link, stream=True)
    seen = await replica.called()
    size = 32 * 1024
    sent = 0
    while seen.send(bytes(size)):
        sent += 1
        await settle(10)
    assert sent * size <= 3 * BOUND  # with the caller, in the gateway, and under way
    await settle(50)
    assert slow.most_buffered <= BOUND
    assert stage.waiting_to_be_written <= BOUND
    replica.serve = lambda call: call.answer(call.payload)
    for number in range(20):  # nobody else is stopped
        assert await Call().start(link, bytes(number)).result() == bytes(number)
    assert not seen.writable
    for _ in range(sent):
        assert len(await slow.get()) == size
    await until(lambda: seen.writable)
    seen.answer(None)
    assert len(await slow.get()) == size
    assert await slow.outcome() is None
    await until(stage.idle)


async def test_a_slow_replica_stops_the_caller_and_the_gateway_holds_a_bound(stage: Stage):
    replica = stage.replica()
    link = stage.caller_link()
    call = Call().start(link, b"", last=False)
    seen = await replica.called()
    reading = Reading(seen)
    size = 32 * 1024
    assert call.stream is not None
    sent = 1
    while link.send(call.stream, bytes(size)):
        sent += 1
        await settle(10)
    assert sent * size <= 3 * BOUND
    await settle(50)
    assert reading.buffered <= BOUND
    assert stage.waiting_to_be_written <= BOUND
    replica.serve = lambda call: call.answer(call.payload)
    assert await Call().start(link, b"other").result() == b"other"
    for _ in range(sent):
        assert len(await reading.get()) == size
    link.send(call.stream, b"", last=True)
    assert await reading.get() == b""
    seen.answer(b"done")
    assert await call.result() == b"done"
    await until(stage.idle)


async def test_a_large_result_for_a_slow_caller_is_held_to_a_bound(stage: Stage):
    replica = stage.replica()
    link = stage.caller_link()
    call = Call()
    call.on_message = lambda stream, payload, more, last: None  # type: ignore[method-assign]  # takes, gives no credit
    call.start(link)
    seen = await replica.called()
    seen.answer(LARGE)
    await settle(100)
    assert stage.waiting_to_be_written <= BOUND
    link.cancel(call.stream)
    assert await call.reason() == "CANCELLED"
    await until(stage.idle)


# -- giving up, and losses


def noop() -> None: ...


class Unread(Call):
    """A caller that takes nothing until it is told to."""

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.pieces += 1


async def test_who_leaves_a_result_unread_does_not_keep_the_slot(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session_door, "UNREAD_AFTER", 0.01)
    replica = stage.replica()
    call = Unread().start(stage.caller_link())
    (await replica.called()).answer(LARGE)
    outcome = await call.outcome()
    assert outcome is not None
    assert "has not read" in outcome.status.message
    assert await call.reason() == "DEADLINE_EXCEEDED"
    await until(stage.idle)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_reads_slowly_may(stage: Stage, monkeypatch: pytest.MonkeyPatch, stream: bool):
    """A stream has no limit; for a single result each piece that is read begins the time anew."""
    monkeypatch.setattr(session_door, "UNREAD_AFTER", 61.5)  # no other timer is of this length
    started: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        loop, "call_later", lambda delay, action, *args: started.append(delay) or loop.call_at(loop.time(), noop)
    )
    replica = stage.replica()
    link = stage.caller_link()
    call = Unread().start(link, stream=stream)
    seen = await replica.called()
    seen.send(LARGE)
    seen.answer(None)
    while call.ended.done() is False:
        await settle(20)
        assert call.stream is not None
        link.consumed(call.stream, INITIAL_CREDIT)
    assert await call.outcome() is None
    timers = started.count(session_door.UNREAD_AFTER)
    assert timers == 0 if stream else timers > 1
    await until(stage.idle)


async def test_cancelling_reaches_the_replica_and_the_caller_hears_at_once(stage: Stage):
    replica = stage.replica()
    link = stage.caller_link()
    call = Call().start(link)
    seen = await replica.called()
    link.cancel(call.stream)
    assert await call.reason() == "CANCELLED"
    await until(lambda: seen.cancelled)
    assert replica.replica.in_flight == 1
    seen.answer(b"too late")
    await until(stage.idle)


async def test_cancelling_a_call_that_waits(stage: Stage):
    link = stage.caller_link()
    call = Call().start(link, LARGE)
    await until(lambda: stage.deployment.queued)
    link.cancel(call.stream)
    assert await call.reason() == "CANCELLED"
    assert (stage.deployment.queued, stage.deployment.queued_bytes, stage.deployment.kept_bytes) == (0, 0, 0)


async def test_a_caller_that_vanishes_cancels_its_calls(stage: Stage):
    replica = stage.replica()
    vanishing, staying = stage.caller_link(), stage.caller_link()
    calls = [Call().start(vanishing, stream=True) for _ in range(3)]
    other = Call().start(staying, b"other")
    await replica.called(4)
    replica.calls[0].send(bytes(10))
    vanishing.lose(ConnectionLostError("gone"))
    for call in calls:
        assert await call.reason() == "CONNECTION_LOST"
    await until(lambda: sum(seen.cancelled for seen in replica.calls) == 3)
    for seen in replica.calls:
        seen.answer(seen.payload)
    assert await other.result() == b"other"
    await until(lambda: replica.replica.in_flight == 0)


async def test_a_caller_that_vanishes_while_its_calls_wait(stage: Stage):
    link = stage.caller_link()
    for _ in range(10):
        Call().start(link, bytes(1000))
    await until(lambda: stage.deployment.queued == 10)
    link.lose(ConnectionLostError("gone"))
    await until(lambda: stage.deployment.queued == 0)
    assert not stage.deployment.queue


async def test_a_replica_lost_in_the_middle_of_a_call(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link())
    await replica.called()
    replica.die()
    outcome = await call.outcome()
    assert outcome is not None
    error = error_of(outcome)
    assert str(error) == (
        "replica a was lost while it had the call; not sent again, "
        "because it may have started, and it is not declared idempotent"
    )
    await until(stage.idle)


async def test_a_replica_lost_in_the_middle_of_a_stream(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), stream=True, idempotent=True)
    seen = await replica.called()
    seen.send(b"1")
    assert await call.get() == b"1"
    stage.replica("b")
    replica.die()
    assert await call.reason() == "REPLICA_LOST"
    with pytest.raises(StopAsyncIteration):
        await call.get()
    await until(stage.idle)


async def test_large_arguments_are_sent_again_if_they_are_kept(stage: Stage):
    one = stage.replica("a")
    payload = bytes(range(256)) * 2048  # 512 KiB
    call = Call().start(stage.caller_link(), payload, idempotent=True)
    seen = await one.called()
    await until(lambda: seen.complete)
    other = stage.replica("b")
    one.die()
    again = await other.called()
    await until(lambda: again.complete)
    assert again.request == payload
    again.answer(b"done")
    assert await call.result() == b"done"
    await until(stage.idle)


async def test_a_stream_of_items_goes_on_at_another_replica(stage: Stage):
    """The caller sees nothing of it, and its credit goes on as well."""
    one = stage.replica("a")
    link = stage.caller_link()
    call = Call().start(link, b"args", last=False, idempotent=True)
    seen = await one.called()
    seen.reading = False
    assert call.writer is not None
    items = [bytes([number]) * MAX_PIECE for number in range(7)]

    async def send() -> None:
        for item in items:
            await call.writer.send(item)
        await call.writer.send(b"end", last=True)

    sending = asyncio.create_task(send())
    await settle(50)
    assert not sending.done()
    other = stage.replica("b")
    one.die()
    again = await other.called()
    await until(lambda: again.complete)
    assert again.request == b"args" + b"".join(items) + b"end"
    await asyncio.wait_for(sending, PATIENCE)
    again.answer(b"done")
    assert await call.result() == b"done"
    await until(stage.idle)
