"""The session door, end to end in memory: a caller's link, the door, the router, and replicas' links."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import grpc.aio
import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError, GatewayDrainingError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.grpc_link import SERVING_SESSION, connect
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.messages import MessageReader
from fairlead.wire.outcomes import error_info, error_of
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT, Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import session_door
from fairlead_gateway.edge.session_door import SessionDoor
from fairlead_gateway.routing.call import Call as RoutedCall
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import FakeReplica, ReplicaCall, application, routes, settle, snapshot
from tests.wire.calls import PATIENCE, Caller, until
from tests.wire.message_writer import MessageWriter

JSON = session_pb2.SERIALIZATION_JSON
CLOUDPICKLE = session_pb2.SERIALIZATION_CLOUDPICKLE
LARGE = bytes(range(256)) * (5 * 4096)  # 5 MiB
BOUND = INITIAL_CREDIT + MAX_PIECE
"""Bytes that may be under way on one leg of a call that nobody reads."""


class Stage:
    """A gateway with a deployment of one slot-rich replica, and callers' links into it."""

    def __init__(self, slots: int = 100) -> None:
        self.router = Router(asyncio.get_running_loop())
        self.door = SessionDoor(self.router)
        self.trust = Trust.OWNER
        self.links: list[Link] = []
        self.replicas: list[FakeReplica] = []
        self.router.table.apply(snapshot(application(routes(slots=slots))))

    @property
    def deployment(self) -> Deployment:
        return self.router.table.find("app", "Echo")

    def replica(self, name: str = "a") -> FakeReplica:
        made = FakeReplica(name).join(self.deployment)
        self.replicas.append(made)
        return made

    def caller_link(self) -> Link:
        """A session with the door: the caller's end. ``session_handler`` would do the rest over gRPC."""
        opener, acceptor = link_pair(self.door.acceptor(self.trust))
        self.links += (opener, acceptor)
        self.door.links.add(acceptor)
        return opener

    @property
    def waiting_to_be_written(self) -> int:
        """Bytes that the gateway holds: in outboxes, and in streams that wait for credit."""
        sessions = [link.session for link in self.links[1::2]]
        sessions += [replica.replica.link.session for replica in self.replicas]
        streams = [stream for session in sessions for stream in session.streams.values()]
        pending = sum(len(payload) for stream in streams for payload, _, _ in stream.pending or ())
        return pending + sum(session.outbox.size for session in sessions)

    def idle(self) -> bool:
        sessions = [link.session for link in self.links]
        sessions += [replica.replica.link.session for replica in self.replicas]
        return not any(session.streams for session in sessions) and not any(
            replica.replica.in_flight for replica in self.replicas
        )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    for link in made.links:
        await asyncio.wait_for(link.close(), PATIENCE)
    for replica in made.replicas:
        replica.die()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        _, rest = await asyncio.wait(rest, timeout=PATIENCE)
    assert not rest


class Call(Caller):
    """A caller's call with any header."""

    def start(self, link: Link, payload: bytes = b"[[], {}]", *, last: bool = True, **fields: Any) -> Call:
        defaults = {"request_serialization": JSON, "response_serialization": JSON}
        header = session_pb2.CallHeader(**(defaults | fields))
        self.stream = link.open(header, payload, self, last=last)
        self.writer = MessageWriter(self.stream)
        return self

    async def reason(self) -> str:
        outcome = await self.outcome()
        assert outcome is not None
        info = error_info(outcome.status)
        assert info is not None
        return info.reason


class Reading:
    """Gathers a replica call's messages one by one, as a method of the user's would."""

    def __init__(self, call: ReplicaCall) -> None:
        self.reader = MessageReader()
        self.buffered = 0
        call.on_message = self.on_message  # type: ignore[method-assign]

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.buffered += len(payload)
        self.reader.feed(stream, payload, more, last)

    async def get(self) -> bytes:
        message = await asyncio.wait_for(self.reader.get(), PATIENCE)
        self.buffered -= len(message)
        return message


# -- calls that work


async def test_a_call_is_answered(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), b"hello", method="greet", request_id="id-1")
    seen = await replica.called()
    assert (seen.header.method, seen.header.request_id, seen.request) == ("greet", "id-1", b"hello")
    seen.answer(b"world")
    assert await call.result() == b"world"
    await until(stage.idle)


async def test_a_head_passes_before_any_message(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), stream=True)
    seen = await replica.called()
    seen.head("k", b"v")
    assert await asyncio.wait_for(call.head, PATIENCE) == [("k", b"v")]
    seen.send(b"item")
    assert await call.get() == b"item"
    seen.answer(None)
    assert await call.outcome() is None
    await until(stage.idle)


async def test_empty_results_are_results(stage: Stage):
    replica = stage.replica()
    replica.serve = lambda call: call.answer(b"")
    assert await Call().start(stage.caller_link()).result() == b""


async def test_thousands_of_calls_interleave(stage: Stage):
    replica = stage.replica()
    stage.replica("b")
    for each in stage.replicas:
        each.serve = lambda call: call.answer(call.payload)
    links = [stage.caller_link() for _ in range(3)]
    calls = [Call().start(links[number % 3], str(number).encode()) for number in range(3000)]
    results = await asyncio.gather(*(call.result() for call in calls))
    assert results == [str(number).encode() for number in range(3000)]
    assert replica.calls
    await until(stage.idle)


async def test_large_arguments_and_results_pass(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), LARGE)
    seen = await replica.called()
    await until(lambda: seen.complete)
    assert seen.request == LARGE
    seen.answer(LARGE[::-1])
    assert await call.result() == LARGE[::-1]
    await until(stage.idle)


async def test_large_arguments_that_wait_for_a_replica(stage: Stage):
    """They are taken as far as the credit goes, and the rest when there is a replica."""
    call = Call().start(stage.caller_link(), LARGE)
    await until(lambda: stage.deployment.queued)
    await settle(50)
    assert stage.deployment.kept_bytes <= BOUND + MAX_PIECE + 4 * FRAME_COST
    replica = stage.replica()
    seen = await replica.called()
    await until(lambda: seen.complete)
    assert seen.request == LARGE
    seen.answer(b"done")
    assert await call.result() == b"done"
    await until(stage.idle)
    assert stage.deployment.kept_bytes == 0


@pytest.mark.parametrize("size", [0, 1, MAX_PIECE - 256, MAX_PIECE - 255, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1])
@pytest.mark.parametrize("item", [1, 100, MAX_PIECE - 300, MAX_PIECE, 3 * MAX_PIECE])
async def test_no_size_brings_a_stream_to_a_halt(stage: Stage, size: int, item: int):
    """Credit comes back for all that was sent, the arguments included, whatever adds up to what."""
    replica = stage.replica()
    call = Call().start(stage.caller_link(), bytes(size), last=False, stream=True)
    seen = await replica.called()
    await until(lambda: not seen.pieces[-1][1])  # the arguments are whole
    reading = Reading(seen)
    count = 2 * INITIAL_CREDIT // (item + FRAME_COST) + 2
    assert call.writer is not None

    async def send() -> None:
        for number in range(count):
            await call.writer.send(bytes(item), last=number == count - 1)

    sending = asyncio.create_task(send())
    received = 0
    async for message in reading.reader:
        received += 1
        seen.send(message)
        assert len(await call.get()) == len(message)
    assert received == count
    await asyncio.wait_for(sending, PATIENCE)
    seen.answer(None)
    assert await call.outcome() is None
    await until(stage.idle)


async def test_a_stream_of_results(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), stream=True)
    seen = await replica.called()
    for number in range(100):
        seen.send(str(number).encode())
    seen.answer(None)
    assert [await call.get() for _ in range(100)] == [str(number).encode() for number in range(100)]
    with pytest.raises(StopAsyncIteration):
        await call.get()
    assert await call.outcome() is None


async def test_streams_both_ways_item_by_item(stage: Stage):
    replica = stage.replica()
    call = Call().start(stage.caller_link(), b"args", last=False, stream=True)
    seen = await replica.called()
    reading = Reading(seen)
    assert call.writer is not None
    for item in (b"1", LARGE, b"3"):
        await call.writer.send(item)
        assert await reading.get() == item
        seen.send(item[::-1])
        assert await call.get() == item[::-1]
    await call.writer.send(b"last", last=True)
    assert await reading.get() == b"last"
    with pytest.raises(StopAsyncIteration):
        await reading.get()
    seen.answer(None)
    assert await call.outcome() is None
    await until(stage.idle)


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


# -- trust


async def test_who_is_not_trusted_gets_no_exception_and_no_traceback(stage: Stage):
    replica = stage.replica()
    for trust in Trust:
        stage.trust = trust
        call = Call().start(stage.caller_link())
        seen = await replica.called(len(replica.calls) + 1)
        seen.fail(KeyError("secret"), traceback="Traceback: /home/secret.py")
        outcome = await call.outcome()
        assert outcome is not None
        assert bool(outcome.exception) == bool(outcome.traceback) == trust.may_run_code
        info = error_info(outcome.status)
        assert info is not None
        assert info.metadata["exception_type"] == "builtins.KeyError"


class Canary:
    """Leaves a trace when it is unpickled."""

    sang = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Canary, "sang", True))


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("field", ["request_serialization", "response_serialization"])
@pytest.mark.parametrize("last", [True, False])
async def test_pickles_of_who_is_not_trusted_are_refused(stage: Stage, field: str, broadcast: bool, last: bool):
    replica = stage.replica()
    stage.trust = Trust.UNTRUSTED
    link = stage.caller_link()
    canary = cloudpickle.dumps(((Canary(),), {}))
    call = Call().start(link, canary, last=last, broadcast=broadcast, **{field: CLOUDPICKLE})
    assert await call.reason() == "UNTRUSTED_SERIALIZATION"
    assert not replica.calls
    assert not Canary.sang
    again = Call().start(link, b"json", method="m")  # the session goes on
    (await replica.called()).answer(b"fine")
    assert await again.result() == b"fine"


# -- the session


async def test_unknown_names_are_errors_of_the_call_alone(stage: Stage):
    link = stage.caller_link()
    assert await Call().start(link, application="nope").reason() == "APPLICATION_NOT_FOUND"
    assert await Call().start(link, deployment="nope", last=False).reason() == "DEPLOYMENT_NOT_FOUND"
    assert await Call().start(link, LARGE, deployment="nope").reason() == "DEPLOYMENT_NOT_FOUND"
    replica = stage.replica()
    replica.serve = lambda call: call.answer()
    assert await Call().start(link).result() == b"answer"


async def test_after_goodbye_calls_go_on_and_none_are_opened(stage: Stage):
    replica = stage.replica()
    link = stage.caller_link()
    call = Call().start(link)
    seen = await replica.called()
    stage.door.goodbye()
    await until(lambda: link.draining)
    with pytest.raises(GatewayDrainingError):
        Call().start(link)
    seen.answer()
    assert await call.result() == b"answer"


async def test_a_broadcast(stage: Stage):
    for name in "ab":
        stage.replica(name).serve = lambda call: call.answer(LARGE)
    call = Call().start(stage.caller_link(), LARGE, broadcast=True)
    messages = [await call.get() for _ in range(3)]
    assert [len(message) > len(LARGE) for message in messages] == [False, True, True]
    assert await call.outcome() is None
    await until(stage.idle)


async def test_ended_calls_are_not_kept(stage: Stage):
    """However they ended: nothing in the gateway refers to them, no timer and no queue."""
    link = stage.caller_link()
    waiting = [Call().start(link, LARGE, timeout_us=60_000_000) for _ in range(3)]
    await until(lambda: stage.deployment.queued == 3)
    link.cancel(waiting[0].stream)
    await waiting[0].outcome()
    replica = stage.replica()
    await replica.called(2)
    await until(lambda: all(seen.complete for seen in replica.calls))
    replica.calls[0].answer()
    link.cancel(waiting[2].stream)
    await asyncio.gather(*(call.outcome() for call in waiting))
    replica.calls[1].fail(ValueError("too late"))
    await Call().start(link, deployment="nope").outcome()
    await until(stage.idle)
    gc.collect()
    assert [one for one in gc.get_objects() if type(one) in (RoutedCall, session_door._SessionCall)] == []


async def test_answered_calls_leave_nothing_to_the_garbage_collector(stage: Stage):
    """What it has to find lies about until then, and its memory is no longer in the processor's cache."""
    link = stage.caller_link()
    replica = stage.replica()
    gc.collect()
    gc.disable()
    try:
        calls = [Call().start(link, stream=stream) for stream in (False, True)]
        await replica.called(2)
        replica.calls[1].send(b"item")
        for seen in replica.calls:
            seen.answer()
        await asyncio.gather(*(call.outcome() for call in calls))
        await until(stage.idle)
        ours = (RoutedCall, session_door._SessionCall, session_door._Answer)
        assert [one for one in gc.get_objects() if type(one) in ours] == []
    finally:
        gc.enable()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name: paths of Unix sockets are limited to 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fl-"))
    yield path
    shutil.rmtree(path)


async def test_the_handler_serves_sessions_over_grpc(stage: Stage, directory: Path):
    replica = stage.replica()
    server = grpc.aio.server()
    server.add_registered_method_handlers(
        "fairlead.v1.ServingService", {"Session": stage.door.handler(Trust.UNTRUSTED)}
    )
    server.add_insecure_port(f"unix:{directory}/s")
    await server.start()
    link = await connect(f"unix:{directory}/s", SERVING_SESSION)
    try:
        call = Call().start(link, LARGE)
        refused = Call().start(link, request_serialization=CLOUDPICKLE)
        assert await refused.reason() == "UNTRUSTED_SERIALIZATION"
        seen = await replica.called()
        await until(lambda: seen.complete)
        seen.answer(seen.request)
        assert await call.result() == LARGE
        assert len(stage.door.links) == 1
    finally:
        await link.close()
        await server.stop(None)
    await until(lambda: not stage.door.links)
