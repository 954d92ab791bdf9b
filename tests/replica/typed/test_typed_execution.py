"""Calls of typed services' methods in a replica: cardinalities, contexts, statuses, and bytes that are no message."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead.serve.context import get_request_context
from fairlead.serve.grpc_util import RpcAborted, gRPCContext, gRPCInputStream
from fairlead.v1 import serving_pb2
from fairlead.wire.codecs import CLOUDPICKLE
from fairlead_replica.typed.execution import TypedExecution
from tests.replica.calling import until
from tests.replica.typed.calling import text


class Sync:
    def Say(self, request):
        return type(request)(text=f"hello {request.text}")

    def Repeat(self, request):
        for _ in range(3):
            yield request

    def Join(self, requests):
        return {"text": "+".join(each.text for each in requests)}

    def Chat(self, requests):
        for each in requests:
            yield {"text": each.text.upper()}


class Async:
    async def Say(self, request):
        return type(request)(text=f"hello {request.text}")

    async def Repeat(self, request):
        for _ in range(3):
            yield request

    async def Join(self, requests):
        return {"text": "+".join([each.text async for each in requests])}

    async def Chat(self, requests):
        async for each in requests:
            yield {"text": each.text.upper()}


class Servicer:
    """As generated code wants it: request and context by their places."""

    async def Say(self, request, context):
        return type(request)(text=f"hello {request.text}")

    async def Repeat(self, request, context):
        for _ in range(3):
            await context.write(request)

    async def Join(self, request_iterator, context):
        texts = []
        while (message := await context.read()) is not grpc.aio.EOF:
            texts.append(message.text)
        return {"text": "+".join(texts)}

    async def Chat(self, request_iterator, context):
        async for each in request_iterator:
            await context.write({"text": each.text.upper()})


@pytest.mark.parametrize("target", [Sync, Async, Servicer])
async def test_all_cardinalities(typed, target):
    stage = typed(target())
    assert await stage.rpc("Say", text("x")).result() == text("hello x")
    assert await stage.rpc("Repeat", text("x"), stream=True).all() == [text("x")] * 3
    join = stage.rpc("Join", last=False)
    for each in ("a", "", "b"):
        join.put(text(each))
    join.half_close()
    assert await join.result() == text("a++b")  # an empty message is a message
    chat = stage.rpc("Chat", stream=True, last=False)
    for each in ("a", "", "b"):
        chat.put(text(each))
        assert await chat.next() == text(each.upper())
    chat.half_close()
    assert await chat.all() == []
    nothing = stage.rpc("Join", last=True)
    assert await nothing.result() == b""


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_stream_that_a_method_has_enough_of(typed, blocking):
    class Picky:
        async def Join(self, requests):
            assert isinstance(requests, gRPCInputStream)
            texts = []
            async for each in requests:
                assert not requests.is_exhausted
                texts.append(each.text)
                if each.text == "stop":
                    requests.cancel()
                    assert requests.is_cancelled()
            assert requests.is_exhausted
            return {"text": "+".join(texts)}

    class Blocking:
        def Join(self, requests):
            texts = []
            for each in requests:
                texts.append(each.text)
                if each.text == "stop":
                    requests.cancel()
            return {"text": "+".join(texts)}

    stage = typed((Blocking if blocking else Picky)())
    join = stage.rpc("Join", last=False)
    join.put(text("a"))
    join.put(text("stop"))
    assert await join.result() == text("a+stop")  # although the caller has not half-closed


async def test_names_may_differ(typed):
    class Named:
        def speak(self, request):
            return {"text": "!"}

    stage = typed(Named(), methods={"Say": "speak"})
    assert await stage.rpc("Say").result() == text("!")


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        ("Absent", {}, 12, "not implemented"),
        ("Nothing", {}, 12, "not served"),
        ("Say", {"service": "Other"}, 12, "not served"),
        ("Say", {"payload": b"\xff\xff\xff"}, 3, "not a valid message"),
        ("Say", {"stream": True}, 3, "one message"),
        ("Repeat", {"stream": False}, 3, "stream"),
        ("Say", {"last": False}, 3, "takes one message"),
    ],
)
async def test_what_is_refused(typed, name, options, code, message):
    stage = typed(Async())
    status = await stage.rpc(name, **options).status()
    assert status.code == code
    assert message in status.message
    assert await stage.rpc("Say", text("x")).result() == text("hello x")  # it lives


async def test_an_item_that_is_no_message(typed):
    stage = typed(Async())
    join = stage.rpc("Join", last=False)
    join.put(b"\xff\xff\xff")
    assert (await join.status()).code == 3


async def test_contexts_are_given_by_name_or_place(typed):
    seen = []

    class Named:
        async def Say(self, request, *, grpc_context):
            seen.append(grpc_context)
            assert get_request_context().grpc_context is grpc_context
            return request

        def Repeat(self, request, grpc_context: gRPCContext, flag: bool = False):
            seen.append(grpc_context)
            yield request

    stage = typed(Named())
    metadata = [("a", b"b"), ("c-bin", b"\x00")]
    await stage.rpc("Say", metadata=metadata, timeout_s=30).result()
    await stage.rpc("Repeat", stream=True, metadata=metadata).all()
    for context in seen:
        assert context.invocation_metadata() == [("a", "b"), ("c-bin", b"\x00")]
        assert context.peer() == "ipv4:10.0.0.1:5"
        assert not context.cancelled()
    assert 0 < seen[0].time_remaining() <= 30
    assert seen[1].time_remaining() is None


async def test_handles_call_the_same_methods(typed):
    class Named:
        async def Say(self, request, grpc_context):
            grpc_context.abort(grpc.StatusCode.NOT_FOUND, "no") if request.deployment == "x" else None
            return request

    stage = typed(Named())
    message = serving_pb2.Target(deployment="d")
    assert await stage.caller.call("Say", message, codec=CLOUDPICKLE) == message
    error = await stage.caller.error("Say", serving_pb2.Target(deployment="x"), codec=CLOUDPICKLE)
    assert isinstance(error, RpcAborted)
    assert error.code() is grpc.StatusCode.NOT_FOUND


def details():
    status = status_pb2.Status(code=5, message="gone")
    status.details.add().Pack(error_details_pb2.ResourceInfo(resource_name="b"))
    return status


class Fails:
    def Say(self, request, grpc_context):
        match request.text:
            case "abort":
                grpc_context.set_trailing_metadata([("k", "v")])
                grpc_context.abort(grpc.StatusCode.NOT_FOUND, "gone", (("b-bin", b"\x01"),))
            case "status":
                grpc_context.abort_with_status(details())
            case "set":
                grpc_context.set_code(grpc.StatusCode.DATA_LOSS)
                grpc_context.set_details("lost")
            case "set and raise":
                grpc_context.set_code(grpc.StatusCode.OUT_OF_RANGE)
                raise ValueError("too far")
            case "raise":
                raise ValueError("secret")
            case "other server":
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.ABORTED,
                    grpc.aio.Metadata(),
                    grpc.aio.Metadata(("grpc-status-details-bin", details().SerializeToString()), ("x", "y")),
                    "there",
                )
            case "wrong type":
                return serving_pb2.Target()
        return request

    async def Repeat(self, request, grpc_context):
        yield request
        await asyncio.sleep(0)
        grpc_context.set_trailing_metadata([("k", "v")])
        if request.text:
            grpc_context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, request.text)


@pytest.mark.parametrize(
    ("case", "code", "message", "metadata"),
    [
        ("abort", 5, "gone", [("k", b"v"), ("b-bin", b"\x01")]),
        ("status", 5, "gone", []),
        ("set", 15, "lost", []),
        ("set and raise", 11, "too far", []),
        ("raise", 13, "ValueError: secret", []),
        ("other server", 10, "there", [("x", b"y")]),
        ("wrong type", 13, "the method returns test.v1.Text", []),
    ],
)
async def test_statuses(typed, case, code, message, metadata):
    stage = typed(Fails())
    answer = stage.rpc("Say", text(case))
    status = await answer.status()
    assert status.code == code
    assert message in status.message
    assert [(each.key, each.value) for each in answer.outcome.trailing_metadata] == metadata
    if case in ("status", "other server"):
        info = error_details_pb2.ResourceInfo()
        assert status.details[0].Unpack(info)
        assert info.resource_name == "b"


async def test_a_stream_ends_with_its_status(typed):
    stage = typed(Fails())
    answer = stage.rpc("Repeat", text("full"), stream=True)
    assert await answer.next() == text("full")
    assert ((await answer.status()).code, answer.outcome.status.message) == (8, "full")
    answer = stage.rpc("Repeat", stream=True)
    assert await answer.next() == b""
    assert (await answer.status()).code == 0
    assert [(each.key, each.value) for each in answer.outcome.trailing_metadata] == [("k", b"v")]


async def test_a_stream_out_of_a_thread_ends_with_its_status(typed):
    class Blocking:
        def Repeat(self, request, grpc_context):
            yield request
            grpc_context.set_trailing_metadata([("k", "v")])
            if request.text:
                grpc_context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, request.text)

    stage = typed(Blocking())
    answer = stage.rpc("Repeat", text("full"), stream=True)
    assert await answer.next() == text("full")
    assert ((await answer.status()).code, answer.outcome.status.message) == (8, "full")
    answer = stage.rpc("Repeat", stream=True)
    assert await answer.next() == b""
    assert (await answer.status()).code == 0
    assert [each.key for each in answer.outcome.trailing_metadata] == ["k"]


async def test_a_method_that_takes_something_else_is_no_fault_of_the_callers(typed):
    class Odd:
        def Say(self): ...

        async def Join(self, requests, *, more): ...

    stage = typed(Odd())
    assert (await stage.rpc("Say").status()).code == 13
    assert (await stage.rpc("Join").status()).code == 13


async def test_results_that_do_not_fit_are_no_fault_of_the_callers(typed):
    class Odd:
        async def Say(self, request):
            return (each for each in "ab")

        def Repeat(self, request):
            return request

        def Join(self, requests):
            yield {"text": "x"}

    stage = typed(Odd())
    assert (await stage.rpc("Say").status()).code == 13
    assert (await stage.rpc("Repeat", stream=True).status()).code == 13
    assert (await stage.rpc("Join").status()).code == 13


@pytest.mark.parametrize("size", [1, 3_000_000])
async def test_a_result_with_metadata_is_whole(typed, size):
    class Tells:
        async def Say(self, request, grpc_context):
            await grpc_context.send_initial_metadata([("i", "1")])
            grpc_context.set_trailing_metadata([("t", "2")])
            return {"text": "x" * size}

    stage = typed(Tells())
    answer = stage.rpc("Say")
    assert (await answer.next()).endswith(b"x" * size)
    assert (await answer.status()).code == 0
    assert answer.head.result() == [("i", b"1")]
    assert [each.key for each in answer.outcome.trailing_metadata] == ["t"]
    await until(lambda: not stage.runtime.statistics().ongoing)


async def test_cancelling_reaches_the_method(typed):
    entered, cancelled = asyncio.Event(), asyncio.Event()

    class Slow:
        async def Say(self, request, grpc_context):
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                assert grpc_context.cancelled()
                cancelled.set()

    stage = typed(Slow())
    answer = stage.rpc("Say")
    await asyncio.wait_for(entered.wait(), 60)
    answer.cancel()
    await asyncio.wait_for(cancelled.wait(), 60)
    answer = stage.rpc("Say", timeout_s=0.01)
    assert (await answer.status()).code == 4


async def test_defects_are_logged_and_statuses_are_not(typed, caplog):
    stage = typed(Fails())
    await stage.rpc("Say", text("abort")).status()
    await stage.rpc("Say", text("set and raise")).status()
    assert not caplog.records
    await stage.rpc("Say", text("raise")).status()
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize("target", [Sync, Async, Servicer])
async def test_calls_that_are_over_leave_nothing_to_the_garbage_collector(typed, target):
    stage = typed(target())
    gc.collect()
    gc.disable()
    try:
        assert await stage.rpc("Say", text("x")).result() == text("hello x")
        chat = stage.rpc("Chat", stream=True, last=False)
        chat.put(text("a"))
        chat.half_close()
        assert await chat.all() == [text("A")]
        await until(lambda: not [one for one in gc.get_objects() if type(one) is TypedExecution])
    finally:
        gc.enable()
