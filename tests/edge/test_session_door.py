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

from fairlead.wire.errors import GatewayDrainingError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.grpc_link import SERVING_SESSION, connect
from fairlead.wire.outcomes import error_info
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import session_door
from fairlead_gateway.routing.call import Call as RoutedCall
from tests.edge.session_stage import BOUND, CLOUDPICKLE, LARGE, Call, Reading, Stage, staged
from tests.routing.fake_replica import settle
from tests.wire.calls import PATIENCE, until


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


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
