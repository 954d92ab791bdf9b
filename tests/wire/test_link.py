"""Links, over memory and over grpc.aio alike."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire import link as link_module
from fairlead.wire.errors import ConnectionLostError, GatewayDrainingError, ProtocolViolationError, TooManyCallsError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.outcomes import error_of, outcome_of
from fairlead.wire.stream import INITIAL_CREDIT
from tests.wire.calls import PATIENCE, BrokenCaller, Caller, until
from tests.wire.conftest import Transport

LARGE = bytes(range(256)) * (5 * 4096)  # 5 MiB


async def test_a_call_is_answered(transport: Transport):
    opener, acceptor = await transport.pair()
    assert await Caller().open(opener, payload=b"hello").result() == b"hello"
    assert await Caller().open(opener, payload=b"").result() == b""
    assert opener.session.streams == acceptor.session.streams == {}


async def test_calls_interleave(transport: Transport):
    opener, _ = await transport.pair()
    calls = [Caller().open(opener, payload=str(number).encode()) for number in range(300)]
    results = await asyncio.gather(*(call.result() for call in calls))
    assert results == [str(number).encode() for number in range(300)]


async def test_large_payloads_both_ways_next_to_small_calls(transport: Transport):
    opener, acceptor = await transport.pair()
    large = [Caller().open(opener, payload=LARGE + bytes([number])) for number in range(2)]
    small = Caller().open(opener, payload=b"small")
    assert await small.result() == b"small"
    assert not any(call.ended.done() for call in large)
    for number, call in enumerate(large):
        assert await call.result() == LARGE + bytes([number])
    assert opener.session.streams == acceptor.session.streams == {}


async def test_streams_both_ways(transport: Transport):
    opener, _ = await transport.pair()
    call = Caller().open(opener, "echo each", b"0", last=False)
    assert await call.get() == b"0"
    await call.writer.send(b"1")
    assert await call.get() == b"1"
    await call.writer.send(LARGE, last=True)
    assert await call.get() == LARGE
    with pytest.raises(StopAsyncIteration):
        await call.get()
    assert await call.outcome() is None


async def test_a_long_upload_waits_for_credit(transport: Transport):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold", b"", last=False)
    await until(lambda: transport.service.calls)
    sending = asyncio.create_task(send_many(call, 64))
    callee = transport.service.calls[0]
    await until(lambda: call.stream.send_credit <= 0)
    await Caller().open(opener, payload=b"other calls go on").result()
    assert not sending.done()
    assert sum(len(message) for _, message, _ in callee.reader._messages) <= INITIAL_CREDIT + MAX_PIECE
    total = 0
    async for item in callee.reader:
        total += len(item)
    acceptor.end(callee.stream, None, str(total).encode())
    assert await call.result() == str(64 * 64 * 1024).encode()
    await sending


async def send_many(call: Caller, count: int) -> None:
    for number in range(count):
        await call.writer.send(bytes(64 * 1024), last=number == count - 1)


async def test_a_slow_reader_holds_memory_to_a_bound_and_blocks_nobody(transport: Transport):
    opener, acceptor = await transport.pair()
    slow = Caller().open(opener, "items")
    await until(lambda: slow.stream.receive_credit <= 0)
    for number in range(20):
        assert await Caller().open(opener, payload=bytes(number)).result() == bytes(number)
    assert slow.buffered <= INITIAL_CREDIT + MAX_PIECE
    assert acceptor.session.outbox.size < MAX_PIECE
    for number in range(20):
        assert (await slow.get())[:4] == number.to_bytes(4, "big")
    assert slow.most_buffered <= INITIAL_CREDIT + MAX_PIECE
    opener.cancel(slow.stream)
    await slow.outcome()


async def test_a_slow_reader_of_large_messages_holds_them_to_a_bound(transport: Transport):
    """Messages that take several frames are credited while they arrive, yet no more than a few may pile up."""
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls)
    callee = transport.service.calls[0]
    size = 2 * MAX_PIECE + 1
    sending = asyncio.create_task(_send(callee.writer, 30, size))
    for _ in range(200):
        await Caller().open(opener).result()
    assert call.buffered <= 6 * size
    for _ in range(30):
        assert len(await call.get()) == size
    await asyncio.wait_for(sending, PATIENCE)
    acceptor.end(callee.stream)
    assert await call.outcome() is None


async def _send(writer, count: int, size: int) -> None:
    for _ in range(count):
        await writer.send(bytes(size))


async def test_many_large_calls_at_once_do_not_block_each_other_for_ever(transport: Transport, monkeypatch):
    """With both ends full of what they want to write, somebody still has to read."""
    monkeypatch.setattr(link_module, "CONGESTED", 1024 * 1024)
    opener, _ = await transport.pair()
    payload = bytes(200 * 1024)
    calls = [Caller().open(opener, payload=payload) for _ in range(100)]
    results = await asyncio.gather(*(call.result() for call in calls))
    assert all(result == payload for result in results)


async def test_an_acceptor_reads_no_more_from_a_peer_that_does_not_read(transport: Transport, monkeypatch):
    monkeypatch.setattr(link_module, "CONGESTED", 512 * 1024)
    read_on = transport.hold_openers(monkeypatch)
    opener, acceptor = await transport.pair()
    count, payload = 200, bytes(64 * 1024)
    calls = [Caller().open(opener, payload=payload) for _ in range(count)]
    await until(lambda: acceptor.congested)
    for _ in range(100):
        await asyncio.sleep(0)
    assert acceptor.session.outbox.size < 2 * 1024 * 1024
    assert len(transport.service.calls) < count
    read_on.set()
    for call in calls:
        assert await call.result() == payload
    assert not acceptor.congested


@pytest.mark.parametrize("ending", ["answer", "error", "loss"])
async def test_a_call_that_ended_leaves_no_cycle_behind(transport: Transport, ending: str):
    opener, acceptor = await transport.pair()
    caller = Caller().open(opener, "hold", payload=b"x")
    await until(lambda: transport.service.calls)
    callee = transport.service.calls.pop()
    stream = callee.stream
    gone = [weakref.ref(caller), weakref.ref(callee)]
    if ending == "answer":
        acceptor.end(callee.stream, None, b"r")
    elif ending == "error":
        acceptor.end(callee.stream, outcome_of(ValueError("x")))
    else:
        await opener.close()
    await caller.outcome()
    await until(lambda: stream.owner is None)
    gc.disable()
    try:
        del caller, callee
        await until(lambda: [reference() for reference in gone] == [None, None])
    finally:
        gc.enable()


async def test_cancel(transport: Transport):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls)
    callee = transport.service.calls[0]
    opener.cancel(call.stream)
    await asyncio.wait_for(callee.cancelled.wait(), PATIENCE)
    acceptor.end(callee.stream, None, LARGE)
    assert await call.outcome() is None
    assert call.ends == 1
    assert opener.session.streams == acceptor.session.streams == {}
    assert await Caller().open(opener, payload=b"still here").result() == b"still here"


async def test_cancel_before_anything_was_written(transport: Transport):
    opener, _ = await transport.pair()
    call = Caller().open(opener, "items")
    opener.cancel(call.stream)
    assert await call.outcome() is None


async def test_an_acceptor_says_goodbye(transport: Transport):
    opener, acceptor = await transport.pair()
    heard = asyncio.Event()
    opener.on_goodbye = heard.set
    kept = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls)
    acceptor.goodbye()
    crossing = Caller().open(opener, payload=b"too late")
    await asyncio.wait_for(heard.wait(), PATIENCE)
    assert isinstance(error_of(await crossing.outcome()), GatewayDrainingError)
    assert crossing.stream.never_started
    assert opener.draining
    assert not opener.closed
    with pytest.raises(GatewayDrainingError) as refused:
        Caller().open(opener)
    assert refused.value.never_started
    acceptor.end(transport.service.calls[0].stream, None, b"kept")
    assert await kept.result() == b"kept"
    await asyncio.wait_for(opener.wait_idle(), PATIENCE)


async def test_an_opener_says_goodbye(transport: Transport):
    opener, acceptor = await transport.pair()
    heard = asyncio.Event()
    acceptor.on_goodbye = heard.set
    call = Caller().open(opener, payload=b"kept")
    opener.goodbye()
    with pytest.raises(GatewayDrainingError):
        Caller().open(opener)
    await asyncio.wait_for(heard.wait(), PATIENCE)
    assert await call.result() == b"kept"


@pytest.mark.parametrize("closing", ["opener", "acceptor"])
async def test_closing_ends_all_calls_on_both_sides(transport: Transport, closing: str):
    opener, acceptor = await transport.pair()
    calls = [Caller().open(opener, "hold", LARGE) for _ in range(3)]
    await until(lambda: len(transport.service.calls) == 3)
    await asyncio.wait_for((opener if closing == "opener" else acceptor).close(), PATIENCE)
    for call in calls:
        assert isinstance(error_of(await call.outcome()), ConnectionLostError)
        assert not call.stream.never_started
    for callee in transport.service.calls:
        await asyncio.wait_for(callee.cancelled.wait(), PATIENCE)
        acceptor.end(callee.stream, None, b"too late")
    for link in (opener, acceptor):
        await asyncio.wait_for(link.wait_closed(), PATIENCE)
        await asyncio.wait_for(link.wait_idle(), PATIENCE)
        assert isinstance(link.lost, ConnectionLostError)
        assert link.closed
        assert link.draining
        assert link.session.streams == {}
        link.lose(ConnectionLostError("again"))
        link.fail(ConnectionLostError("again"))
        link.goodbye()
    with pytest.raises(GatewayDrainingError, match="closed"):
        Caller().open(opener)
    assert [call.ends for call in calls] == [1, 1, 1]


async def test_calls_that_were_never_written_did_not_start(transport: Transport):
    opener, _ = await transport.pair()
    call = Caller().open(opener)
    opener.lose(ConnectionLostError("gone"))
    assert call.stream.never_started
    assert isinstance(error_of(await call.outcome()), ConnectionLostError)


GARBAGE = {
    "no message": b"\xff\xff\xff\xff",
    "cut short": b"\x0a\x7f\x08\x01",
    "a wrong frame": b"\x0a\x04\x08\x63\x10\x02",  # DATA for call 99
    "an unknown kind": b"\x0a\x02\x10\x63",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_from_the_opener_ends_that_session_only(transport: Transport, garbage: bytes):
    opener, acceptor = await transport.pair()
    other, _ = await transport.pair()
    calls = [Caller().open(opener, "hold") for _ in range(3)]
    await until(lambda: len(transport.service.calls) == 3)
    opener.session.outbox.put(garbage)
    opener._wake()
    for call in calls:
        assert isinstance(error_of(await call.outcome()), ProtocolViolationError)
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
    for callee in transport.service.calls:
        assert callee.cancelled.is_set()
    assert isinstance(acceptor.lost, ProtocolViolationError)
    assert isinstance(opener.lost, ProtocolViolationError)
    assert opener.lost.message == acceptor.lost.message
    assert [call.ends for call in calls] == [1, 1, 1]
    assert await Caller().open(other, payload=b"unharmed").result() == b"unharmed"


async def test_garbage_from_the_acceptor_ends_the_session(transport: Transport):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls)
    acceptor.session.outbox.put(b"\xff\xff")
    acceptor._wake()
    assert isinstance(error_of(await call.outcome()), ProtocolViolationError)
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
    assert isinstance(acceptor.lost, ProtocolViolationError)
    assert acceptor.lost.message == opener.lost.message
    assert transport.service.calls[0].cancelled.is_set()


async def test_what_came_before_a_violation_counts_and_what_comes_after_does_not(transport: Transport):
    opener, _ = await transport.pair()
    before = Caller().open(opener, "hold")
    opener.session.outbox.put(b"\x0a\x02\x10\x63")
    Caller().open(opener, "hold")
    await before.outcome()
    assert [callee.stream.call_id for callee in transport.service.calls] == [1]


async def test_a_reason_reaches_the_peer_though_much_waits_to_be_written(transport: Transport):
    opener, acceptor = await transport.pair()
    for _ in range(10):
        Caller().open(opener, "hold", LARGE)
    opener.fail(ProtocolViolationError("had enough"))
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
    assert acceptor.lost.message == "had enough"
    assert acceptor.session.streams == {}


async def test_a_reason_that_cannot_be_restored_still_ends_the_session(transport: Transport):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls)
    reason = session_pb2.Outcome()
    reason.status.code = 8
    reason.status.message = "full"
    reason.status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    acceptor.session.goodbye(reason)
    acceptor._wake()
    await asyncio.wait_for(opener.wait_closed(), PATIENCE)
    assert "full" in opener.lost.message
    assert "full" in (await call.outcome()).status.message


@pytest.mark.parametrize("method", ["defect in the acceptor", "defect in the owner"])
async def test_a_callee_that_raises_ends_its_own_call_only(transport: Transport, method: str, caplog):
    opener, acceptor = await transport.pair()
    other = Caller().open(opener, "hold")
    broken = Caller().open(opener, method, last=False)
    opener.send(broken.stream, b"x")
    outcome = await broken.outcome()
    assert outcome is not None
    assert outcome.status.code == 13
    assert "RuntimeError" in caplog.text
    acceptor.end(transport.service.calls[0].stream, None, b"fine")
    assert await other.result() == b"fine"
    assert opener.session.streams == acceptor.session.streams == {}


async def test_a_caller_that_raises_ends_its_own_call_only(transport: Transport, caplog):
    opener, acceptor = await transport.pair()
    broken = BrokenCaller().open(opener, "items")
    assert await Caller().open(opener, payload=b"fine").result() == b"fine"
    assert await broken.outcome() is None  # it was cancelled, and its callee stopped
    await until(lambda: not acceptor.session.streams)
    assert "a defect in on_message" in caplog.text
    assert "a defect in on_end" in caplog.text


async def test_owners_that_raise_do_not_stop_a_link_from_closing(transport: Transport):
    opener, acceptor = await transport.pair()
    calls = [BrokenCaller().open(opener, "defect in the owner", last=False) for _ in range(3)]
    await until(lambda: len(transport.service.calls) == 3)
    opener.on_packet = acceptor.on_packet = lambda: 1 / 0
    await opener.close()
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
    assert [call.ends for call in calls] == [1, 1, 1]


async def test_too_many_calls_are_refused_by_either_end(transport: Transport):
    opener, acceptor = await transport.pair()
    acceptor.session.max_calls = 2
    held = [Caller().open(opener, "hold") for _ in range(2)]
    refused = Caller().open(opener)
    assert isinstance(error_of(await refused.outcome()), TooManyCallsError)
    opener.session.max_calls = 2
    with pytest.raises(TooManyCallsError):
        Caller().open(opener)
    for callee in transport.service.calls:
        acceptor.end(callee.stream, None, b"")
    for call in held:
        await call.result()
    assert await Caller().open(opener, payload=b"room again").result() == b"room again"


async def test_hooks(transport: Transport):
    reports = []
    opener, acceptor = await transport.pair(load=lambda: session_pb2.Load(ongoing=7, sequence=len(reports)))
    opener._on_load = lambda report: (reports.append(report), 1 / 0)
    packets = []

    def on_packet() -> None:
        packets.append(len(opener.session.streams))

    opener.on_packet = on_packet
    await Caller().open(opener, payload=b"x").result()
    assert reports
    assert reports[0].ongoing == 7
    assert packets == [0]
    count = len(reports)
    acceptor.report_load()
    await until(lambda: len(reports) > count)
    await opener.close()
    assert len(packets) >= 3


async def test_a_peer_that_stops_reading_is_given_up(transport: Transport, monkeypatch):
    """The timer is the loop's, set very short: the peer is stuck in a callback's place, its transport reads nothing."""
    opener, acceptor = await transport.pair()
    stuck = asyncio.get_running_loop().create_future()

    async def room() -> None:
        await stuck

    monkeypatch.setattr(link_module.Link, "congested", property(lambda link: link is acceptor))
    monkeypatch.setattr(acceptor, "room", room, raising=False)
    monkeypatch.setattr(link_module, "STALLED_AFTER", 0.05)
    calls = [Caller().open(opener, "hold", LARGE) for _ in range(60)]
    await asyncio.wait_for(opener.wait_closed(), PATIENCE)
    assert "has not read anything" in opener.lost.message
    for call in calls:
        assert isinstance(error_of(await call.outcome()), ConnectionLostError)
    stuck.set_result(None)
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)


async def test_a_quiet_link_is_not_given_up(transport: Transport):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "hold")
    await until(lambda: transport.service.calls and not opener.session.outbox.frames and opener._watch is not None)
    opener._watch.cancel()
    opener._check_progress()  # as the timer would
    opener._check_progress()
    assert opener._watch is None
    assert not opener.closed
    acceptor.end(transport.service.calls[0].stream, None, b"r")
    assert await call.result() == b"r"


async def test_repr(transport: Transport):
    opener, acceptor = await transport.pair()
    assert "open" in repr(opener)
    await opener.close()
    assert "closed" in repr(opener)
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
