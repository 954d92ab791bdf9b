"""``serve.accept_batch``: lists of requests, whatever comes, and one result for each."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.batching.accept import BatchAcceptor, accepts_batch
from fairlead.serve.exceptions import RayServeException


@serve.accept_batch
def doubled(requests: list[int]) -> list[int]:
    return [2 * request for request in requests]


def test_the_mark() -> None:
    class Marked:
        @serve.accept_batch
        def __call__(self, requests: list[Any]) -> list[Any]:
            return requests

    class Elsewhere:
        @serve.accept_batch
        def other(self, requests: list[Any]) -> list[Any]:
            return requests

        def __call__(self, request: Any) -> Any:
            return request

    assert accepts_batch(doubled)
    assert accepts_batch(Marked)
    assert accepts_batch(type("Heir", (Marked,), {}))
    assert accepts_batch("package.module:Class")
    assert not accepts_batch(Elsewhere)
    assert not accepts_batch(lambda request: request)
    assert doubled([1]) == [2]  # a function still
    for wrong in (5, Marked):
        with pytest.raises(TypeError, match="accept_batch"):
            serve.accept_batch(wrong)  # type: ignore[type-var]


async def sizes_of(handler: Any, requests: int, size: int | None, wait: float = 60.0) -> list[int]:
    sizes: list[int] = []

    def noting(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return handler(batch)

    acceptor = BatchAcceptor(noting)
    acceptor.limit(size, wait)
    assert await asyncio.gather(*map(acceptor, range(requests))) == [2 * each for each in range(requests)]
    return sizes


async def test_batches_are_filled() -> None:
    assert await sizes_of(doubled, 5, 2, 0.05) == [2, 2, 1]
    assert await sizes_of(doubled, 20, 5) == [5, 5, 5, 5]
    assert await sizes_of(doubled, 3, None) == [1, 1, 1]  # a list all the same


async def test_limits_change_while_it_runs() -> None:
    acceptor = BatchAcceptor(doubled)
    assert await acceptor(1) == 2
    acceptor.limit(3, 60.0)
    assert await asyncio.gather(*map(acceptor, range(3))) == [0, 2, 4]
    with pytest.raises(ValueError):
        acceptor.limit(0, 0.0)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"a": 1, "b": 2}, "iterable"),
        ({1, 2}, "iterable"),
        (5, "iterable"),
        (None, "iterable"),
        ("ab", "iterable"),
        ([1], "preserve batch size"),
        ([1, 2, 3], "preserve batch size"),
    ],
)
async def test_results_that_do_not_fit_are_every_requests_error(result: Any, text: str) -> None:
    acceptor = BatchAcceptor(lambda requests: result)
    acceptor.limit(2, 60.0)
    for error in await asyncio.gather(acceptor(1), acceptor(2), return_exceptions=True):
        assert isinstance(error, RayServeException)
        assert text in str(error)


async def test_any_ordered_iterable_will_do() -> None:
    for results in ((1, 2), (each for each in (1, 2)), range(1, 3)):
        acceptor = BatchAcceptor(lambda requests, results=results: results)
        acceptor.limit(2, 60.0)
        assert await asyncio.gather(acceptor(1), acceptor(2)) == [1, 2]


async def test_an_exception_is_every_requests() -> None:
    def failing(requests: list[int]) -> list[int]:
        raise KeyError(len(requests))

    acceptor = BatchAcceptor(failing)
    acceptor.limit(2, 60.0)
    assert [str(error) for error in await asyncio.gather(acceptor(1), acceptor(2), return_exceptions=True)] == ["2"] * 2


async def test_synchronous_batches_take_turns_and_asynchronous_ones_overlap() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def blocking(requests: list[int]) -> list[int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return requests

    acceptor = BatchAcceptor(blocking)
    await asyncio.gather(*map(acceptor, range(20)))
    assert most == 1

    all_here = asyncio.Barrier(3)

    async def meeting(requests: list[int]) -> list[int]:
        await asyncio.wait_for(all_here.wait(), 60)
        return requests

    assert await asyncio.gather(*map(BatchAcceptor(meeting), range(3))) == [0, 1, 2]
