"""Initial metadata of typed services' methods: they leave the replica when the method sends them."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from tests.replica.calling import until
from tests.replica.typed.calling import text

HEAD = [("i", b"1"), ("b-bin", b"\x00")]
METADATA = (("i", "1"), ("b-bin", b"\x00"))


async def head(answer):
    return await asyncio.wait_for(answer.head, 60)


class Asynchronous:
    """Methods that go on when the test has them."""

    def __init__(self):
        self.go_on = asyncio.Event()

    async def Say(self, request, grpc_context):
        await grpc_context.send_initial_metadata(METADATA)
        await self.go_on.wait()
        return request

    async def Repeat(self, request, grpc_context):
        await grpc_context.send_initial_metadata(METADATA)
        await self.go_on.wait()
        yield request

    async def Join(self, requests, grpc_context):
        await grpc_context.send_initial_metadata(METADATA)
        return {"text": "".join([each.text async for each in requests])}

    async def Chat(self, requests, grpc_context):
        await grpc_context.send_initial_metadata(METADATA)
        async for each in requests:
            yield each


class Synchronous:
    """The same in threads."""

    def __init__(self):
        self.go_on = threading.Event()

    def Say(self, request, grpc_context):
        grpc_context.send_initial_metadata(METADATA)
        self.go_on.wait(60)
        return request

    def Repeat(self, request, grpc_context):
        grpc_context.send_initial_metadata(METADATA)
        self.go_on.wait(60)
        yield request

    def Join(self, requests, grpc_context):
        grpc_context.send_initial_metadata(METADATA)
        return {"text": "".join(each.text for each in requests)}

    def Chat(self, requests, grpc_context):
        grpc_context.send_initial_metadata(METADATA)
        yield from requests


@pytest.mark.parametrize("kind", [Asynchronous, Synchronous])
@pytest.mark.parametrize("name", ["Say", "Repeat"])
async def test_they_come_while_the_method_runs(typed, kind, name):
    target = kind()
    answer = typed(target).rpc(name, text("x"), stream=name == "Repeat")
    assert await head(answer) == HEAD
    assert not answer.ended.is_set()
    target.go_on.set()
    assert await answer.result() == text("x")
    assert answer.outcome is None


@pytest.mark.parametrize("kind", [Asynchronous, Synchronous])
@pytest.mark.parametrize("name", ["Join", "Chat"])
async def test_a_caller_may_wait_for_them_before_it_sends(typed, kind, name):
    answer = typed(kind()).rpc(name, last=False, stream=name == "Chat")
    assert await head(answer) == HEAD
    answer.put(text("x"))
    answer.half_close()
    assert await answer.result() == text("x")


async def test_the_methods_of_generated_servicers(typed):
    class Servicer:
        async def Repeat(self, request, context):
            await context.send_initial_metadata(())
            await go_on.wait()  # and writes nothing at all

    go_on = asyncio.Event()
    answer = typed(Servicer()).rpc("Repeat", stream=True)
    assert await head(answer) == []
    go_on.set()
    assert await answer.all() == []


@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
async def test_after_a_message_it_is_too_late(typed, synchronous):
    class Late:
        async def Repeat(self, request, grpc_context):
            yield request
            try:
                await grpc_context.send_initial_metadata(METADATA)
            except RuntimeError as error:
                yield {"text": str(error)[:22]}

    class LateInThread:
        def Repeat(self, request, grpc_context):
            yield request
            try:
                grpc_context.send_initial_metadata(METADATA)
            except RuntimeError as error:
                yield {"text": str(error)[:22]}

    stage = typed(LateInThread() if synchronous else Late())
    answer = stage.rpc("Repeat", text("x"), stream=True)
    assert await answer.all() == [text("x"), text("a message was sent bef")]
    assert not answer.head.done()


async def test_too_much_of_them_is_an_error_of_the_method(typed):
    class Much:
        async def Say(self, request, grpc_context):
            with pytest.raises(ValueError, match="the limit is"):
                await grpc_context.send_initial_metadata([("k-bin", bytes(2_000_000))])
            await grpc_context.send_initial_metadata(METADATA)
            return request

    answer = typed(Much()).rpc("Say", text("x"))
    assert await answer.result() == text("x")
    assert answer.head.result() == HEAD


async def test_an_error_may_follow_them(typed):
    class Fails:
        async def Say(self, request, grpc_context):
            await grpc_context.send_initial_metadata(METADATA)
            grpc_context.set_trailing_metadata([("t", "2")])
            grpc_context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    answer = typed(Fails()).rpc("Say")
    assert (await answer.status()).code == 5
    assert answer.head.result() == HEAD
    assert [(each.key, each.value) for each in answer.outcome.trailing_metadata] == [("t", b"2")]


@pytest.mark.parametrize("kind", [Asynchronous, Synchronous])
async def test_cancelling_after_them(typed, kind):
    target = kind()
    stage = typed(target)
    answer = stage.rpc("Say")
    assert await head(answer) == HEAD
    answer.cancel()
    target.go_on.set()
    assert (await answer.status()).code == 1
    await until(lambda: not stage.runtime.statistics().ongoing)


async def test_after_the_end_they_go_nowhere(typed):
    class Leaves:
        async def Say(self, request, grpc_context):
            contexts.append(grpc_context)
            return request

    contexts = []
    stage = typed(Leaves())
    answer = stage.rpc("Say", text("x"))
    assert await answer.result() == text("x")
    await until(lambda: not stage.runtime.statistics().ongoing)
    contexts[0].send_initial_metadata(METADATA)
    assert not stage.caller.link.closed
