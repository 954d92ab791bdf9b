"""``@serve.accept_batch``: a handler that always gets a list of requests, on the engine of ``serve.batch``.

How many, and how long a batch waits, is not the handler's to say but its backend's configuration.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, TypeVar

from fairlead.serve.batching.decorator import BatchedFunction, batch
from fairlead.wire.errors import FairleadError

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__fairlead_accept_batch__"
_OVERLAPPING = 1_000
"""Batches of an asynchronous handler that may run at once."""


def accept_batch(func: F) -> F:
    """Marks a function, or a class's ``__call__``, whose one argument is a list of requests.

    It returns as many results, in the same order. Raises TypeError for what cannot be called.
    """
    if not callable(func) or isinstance(func, type):
        raise TypeError(f"@serve.accept_batch marks a function or a method, not {func!r}")
    setattr(func, _MARK, True)
    return func


def accepts_batch(target: Any) -> bool:
    """Whether a function, a class by its ``__call__``, or what an import path leads to, takes lists."""
    if isinstance(target, str):
        return True  # it is not imported here: it is believed
    handler = inspect.getattr_static(target, "__call__", None) if isinstance(target, type) else target
    return bool(getattr(handler, _MARK, False))


class BatchAcceptor:
    """Takes requests one by one, and has a handler that takes lists of them handle them. Of one event loop.

    Batches of a synchronous handler run in a thread, one after the other; those of an asynchronous one overlap.
    """

    def __init__(self, handler: Callable[[list[Any]], Any]) -> None:
        """Makes one whose batches hold one request each: see :meth:`limit`."""
        self._handler = handler
        self._asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - of an object, the method itself
        )
        self._handle: BatchedFunction[Any] = self._handle_overlapping if self._asynchronous else self._handle_in_turn
        self.limit(None, 0.0)

    def __repr__(self) -> str:
        return f"<BatchAcceptor of {self._handler!r}>"

    def limit(self, max_batch_size: int | None, batch_wait_timeout: float) -> None:
        """Sets the size of batches that begin to form from now on (None: 1), and how long they wait, in seconds.

        Raises TypeError or ValueError for what cannot be. From any thread.
        """
        self._handle.set_max_batch_size(1 if max_batch_size is None else max_batch_size)
        self._handle.set_batch_wait_timeout_s(batch_wait_timeout)

    async def __call__(self, request: Any) -> Any:
        """The result of one request. Raises what the handler raises; FairleadError where its results do not fit."""
        return await self._handle(request)

    @batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=1)
    async def _handle_in_turn(self, requests: list[Any]) -> list[Any]:
        return _checked(await asyncio.to_thread(self._handler, requests), len(requests))

    @batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=_OVERLAPPING)
    async def _handle_overlapping(self, requests: list[Any]) -> list[Any]:
        return _checked(await self._handler(requests), len(requests))


def _checked(results: Any, requests: int) -> list[Any]:
    if not isinstance(results, Iterable) or isinstance(results, Mapping | Set | str | bytes):
        raise FairleadError(
            "A handler that accepts batches must return an ordered iterable with a result for each request; "
            f"it returned {type(results).__name__}."
        )
    found = list(results)
    if len(found) != requests:
        raise FairleadError(
            f"A handler that accepts batches must preserve batch size: it got {requests} requests, and returned "
            f"{len(found)} results."
        )
    return found
