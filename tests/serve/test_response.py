"""Streams of results and of arguments, and ``fairlead.get`` and ``fairlead.wait``."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

import fairlead
from fairlead.serve import connection
from fairlead.serve.exceptions import CardinalityError, DeadlineExceededError, RequestCancelledError
from fairlead.serve.handle import DeploymentResponseGenerator, StreamingDeploymentHandle
from fairlead.wire.errors import ConnectionLostError

TIMEOUT_S = 60


async def count(call, n, size=0):
    for i in range(n):
        yield "x" * size if size else i


async def forever(call):
    i = 0
    while not call.cancelled.is_set():
        yield i
        i += 1


def wait_for(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def streaming(gateway, handle) -> StreamingDeploymentHandle:
    gateway.methods |= {"count": count, "forever": forever}
    return handle.options(stream=True)


def test_a_generator(gateway, streaming):
    response = streaming.count.remote(3)
    assert type(response) is DeploymentResponseGenerator
    assert list(response) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(response)
    assert gateway.calls[0].header.stream
    assert list(streaming.count.remote(0)) == []


async def test_an_asynchronous_generator(streaming):
    response = streaming.count.remote(3)
    assert [item async for item in response] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(response)


async def test_from_several_loops_at_once(streaming):
    async def collect():
        return [item async for item in streaming.count.remote(500)]

    threads = [asyncio.to_thread(asyncio.run, collect()) for _ in range(3)]
    blocking = asyncio.to_thread(lambda: list(streaming.count.remote(500)))
    assert await asyncio.gather(collect(), collect(), blocking, *threads) == [list(range(500))] * 6


async def test_what_a_generator_is_not(handle, streaming):
    response = streaming.count.remote(1)
    with pytest.raises(RuntimeError, match="Use `async for`"):
        next(response)
    with pytest.raises(TypeError, match="cannot be awaited"):
        await response
    with pytest.raises(TypeError):
        response.result()
    with pytest.raises(RuntimeError, match="cannot be passed to downstream handle calls"):
        handle.remote(response)
    with pytest.raises(RuntimeError, match="cannot be passed to downstream handle calls"):
        handle.remote(x=response)


def test_options_lead_back(handle, streaming):
    assert handle.count.options(stream=True).options(stream=False).remote is not None
    assert type(streaming.options(stream=False)).__name__ == "DeploymentHandle"
    assert repr(streaming) == "DeploymentHandle(deployment='Echo')"


def test_errors_come_after_the_items_before_them(gateway, streaming):
    async def fails(call, after):
        for i in range(after):
            yield i
        raise ValueError("boom")

    gateway.methods["fails"] = fails
    for after in (0, 3):
        response = streaming.fails.remote(after)
        assert [next(response) for _ in range(after)] == list(range(after))
        with pytest.raises(ValueError, match="boom"):
            next(response)
        with pytest.raises(StopIteration):
            next(response)


def test_a_type_error_of_the_callees(gateway, streaming):
    def mismatch(call):
        raise CardinalityError("Method 'x' returned a generator.")

    gateway.methods["x"] = mismatch
    with pytest.raises(TypeError, match="returned a generator"):
        next(streaming.x.remote())


def test_a_slow_reader_stops_the_callee(gateway, streaming):
    response = streaming.forever.remote()
    assert next(response) == 0
    settled = 0
    while gateway.sent_items != settled or not settled:
        settled = gateway.sent_items
        threading.Event().wait(0.02)
    assert settled < 3000
    for i in range(1, settled + 2000):
        assert next(response) == i
    response.cancel()


def test_large_items_pass(streaming):
    size = 700_000
    assert [len(item) for item in streaming.count.remote(5, size)] == [size] * 5


def test_cancel(gateway, streaming):
    response = streaming.forever.remote()
    assert [next(response) for _ in range(5)] == list(range(5))
    response.cancel()
    for _ in range(2):
        with pytest.raises(RequestCancelledError):
            next(response)
    wait_for(lambda: gateway.cancellations == ["forever"])


def test_cancel_wakes_a_reader(gateway, streaming):
    async def silent(call):
        await call.cancelled.wait()
        yield None

    gateway.methods["silent"] = silent
    response = streaming.silent.remote()
    timer = threading.Timer(0.02, response.cancel)
    timer.start()
    with pytest.raises(RequestCancelledError):
        next(response)
    timer.join()


def test_a_dropped_generator_is_cancelled(gateway, streaming):
    response = streaming.forever.remote()
    assert next(response) == 0
    del response
    gc.collect()
    wait_for(lambda: gateway.cancellations == ["forever"])


def test_a_deadline_ends_a_stream(gateway, streaming):
    async def silent(call):
        yield 1
        await call.cancelled.wait()

    gateway.methods["silent"] = silent
    response = streaming.options(timeout_s=0.5).silent.remote()
    assert next(response) == 1
    with pytest.raises(DeadlineExceededError):
        next(response)


def test_a_lost_connection_ends_a_stream_after_what_came(gateway, streaming):
    async def silent(call):
        yield 1
        await call.cancelled.wait()

    gateway.methods["silent"] = silent
    response = streaming.silent.remote()
    assert next(response) == 1
    connection.current().post(lambda: gateway.links[-1].lose(ConnectionLostError("cut")))
    with pytest.raises(ConnectionLostError):
        next(response)


# -- client streaming


async def summed(call, start=0):
    total = start
    async for item in call.items():
        total += item
    return total


async def doubled(call):
    async for item in call.items():
        yield item * 2


async def numbers(n):
    for i in range(n):
        yield i


async def test_an_asynchronous_iterator_streams_to_the_callee(gateway, handle, streaming):
    gateway.methods |= {"summed": summed, "doubled": doubled}
    assert await handle.summed.remote(numbers(1000), start=1) == 499501
    assert await handle.summed.remote(numbers(0)) == 0
    assert [item async for item in streaming.doubled.remote(numbers(100))] == [2 * i for i in range(100)]


def test_an_asynchronous_iterator_without_an_event_loop(gateway, handle):
    gateway.methods["summed"] = summed
    assert handle.summed.remote(numbers(10), 5).result(timeout_s=TIMEOUT_S) == 50


async def test_both_ways_in_turns(gateway, streaming):
    gateway.methods["doubled"] = doubled
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def conversation():
        yield 1
        for _ in range(5):
            yield await answers.get()

    received = []
    async for item in streaming.doubled.remote(conversation()):
        received.append(item)
        answers.put_nowait(item)
    assert received == [2, 4, 8, 16, 32, 64]


async def test_a_slow_callee_stops_the_iterator(gateway, handle):
    release = threading.Event()

    async def slow(call):
        while not release.is_set():
            await asyncio.sleep(0.001)
        return await summed(call)

    made = 0

    async def endless():
        nonlocal made
        while not release.is_set():
            made += 1
            yield 1

    gateway.methods["slow"] = slow
    response = handle.slow.remote(endless())
    settled = -1
    while made != settled or not made:
        settled = made
        await asyncio.sleep(0.02)
    assert made < 3000
    release.set()
    assert await response == made


async def test_an_iterator_that_fails_ends_the_call(gateway, handle):
    async def fails():
        yield 1
        raise LookupError("no more")

    gateway.methods["summed"] = summed
    with pytest.raises(LookupError, match="no more"):
        await handle.summed.remote(fails())


async def test_an_iterator_ends_with_its_call(gateway, handle):
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def first(call):
        return await anext(call.items())

    gateway.methods["first"] = first
    assert await handle.first.remote(endless()) == 1
    await asyncio.wait_for(closed.wait(), TIMEOUT_S)


# -- get and wait


def test_get(handle):
    responses = [handle.remote(n) for n in range(3)]
    assert fairlead.get(responses[0]) == 0
    assert fairlead.get(responses, timeout=TIMEOUT_S) == [0, 1, 2]
    with pytest.raises(TypeError):
        fairlead.get([1])


def test_wait(gateway, handle):
    async def never(call):
        await asyncio.Event().wait()

    gateway.methods["never"] = never
    late, soon = handle.never.remote(), handle.remote(1)
    assert fairlead.wait([late, soon], timeout=TIMEOUT_S) == ([soon], [late])
    assert fairlead.wait([late, soon], num_returns=2, timeout=0.01) == ([soon], [late])
    with pytest.raises(TimeoutError):
        fairlead.get(late, timeout=0.01)
    with pytest.raises(ValueError, match="num_returns"):
        fairlead.wait([soon], num_returns=2)
    with pytest.raises(ValueError, match="more than once"):
        fairlead.wait([soon, soon])
    late.cancel()


async def test_what_is_done_with_a_response_that_was_not_awaited_says_so(gateway, handle):
    response = handle.remote("text")
    gives = r"`await response` or `response\.result\(\)` gives"
    with pytest.raises(AttributeError, match=f"has no attribute 'upper': it is not the result itself, which {gives}"):
        response.upper()
    with pytest.raises(TypeError, match=f"is not iterable: .*{gives}.*stream=True"):
        list(response)
    with pytest.raises(TypeError, match=f"is not iterable: .*{gives}.*stream=True"):
        async for _ in response:
            pass
    assert not hasattr(response, "upper")
    assert await response == "text"
