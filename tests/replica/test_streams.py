"""Calls with several messages, of the caller's, of the method's, or both ways."""

from __future__ import annotations

import pytest

from fairlead.wire.codecs import MSGPACK, ORJSON
from fairlead.wire.errors import (
    CardinalityError,
    InvalidArgumentsError,
    RequestCancelledError,
)
from tests.replica.calling import Stage
from tests.replica.model import CustomError, Model


@pytest.mark.parametrize("method", ["numbers", "numbers_sync", "indirect", "indirect_async"])
@pytest.mark.parametrize("count", [0, 1, 3000])
async def test_streams(stage: Stage, method: str, count: int) -> None:
    assert await stage.caller.open(method, count, stream=True).all() == list(range(count))


@pytest.mark.parametrize("method", ["numbers", "numbers_sync", "indirect", "indirect_async"])
async def test_generators_called_without_stream(stage: Stage, method: str) -> None:
    error = await stage.caller.error(method, 1)
    assert isinstance(error, CardinalityError)
    assert isinstance(error, TypeError)
    assert str(error) == (
        f"Method '{method}' returned a generator. You must use `handle.options(stream=True)` to call generators on a "
        "deployment."
    )


@pytest.mark.parametrize("method", ["echo", "echo_sync"])
async def test_stream_of_what_is_no_generator(stage: Stage, method: str) -> None:
    error = await stage.caller.error(method, 1, stream=True)
    assert str(error) == (
        f"Called method '{method}' with `handle.options(stream=True)` but it did not return a generator."
    )


@pytest.mark.parametrize("method", ["numbers_then_error", "numbers_then_error_sync"])
async def test_items_before_an_error_arrive(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, 1000, stream=True)
    for number in range(1000):
        assert await answer.next() == number
    with pytest.raises(CustomError):
        await answer.next()


@pytest.mark.parametrize("method", ["endless", "endless_sync"])
async def test_slow_readers_stop_generators_and_cancelling_closes_them(stage: Stage, model: Model, method: str) -> None:
    answer = stage.caller.open(method, stream=True)
    for _ in range(50):
        await answer.next()
    seen = -1
    while seen != model.produced:
        seen = model.produced
        for _ in range(20):
            await stage.caller.call("", 1)
    assert model.produced < 1000
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == [method]


@pytest.mark.parametrize("method", ["total", "total_sync"])
async def test_client_streams(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, last=False, factor=10)
    for number in range(100):
        answer.send(number)
    answer.send(100, last=True)
    assert await answer.next() == 50500
    empty = stage.caller.open(method, last=False)
    empty.half_close()
    assert await empty.next() == 0


@pytest.mark.parametrize("method", ["total", "total_sync"])
async def test_a_client_that_streams_may_expect_a_stream_of_one(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, last=False, stream=True)
    answer.send(3)
    answer.send(4, last=True)
    assert await answer.all() == [7]


async def test_streams_both_ways(stage: Stage) -> None:
    answer = stage.caller.open("running_totals", last=False, stream=True, codec=MSGPACK)
    total = 0
    for number in range(10):
        answer.send(number)
        total += number
        assert await answer.next() == total
    answer.half_close()
    assert await answer.all() == []


async def test_an_undecodable_item(stage: Stage) -> None:
    answer = stage.caller.open("total", last=False, codec=ORJSON)
    stage.caller.link.send(answer.stream, b"{nonsense", last=True)
    assert isinstance(await answer.error(), InvalidArgumentsError)
