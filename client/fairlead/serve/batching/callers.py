"""Those who wait for their part of a batch: for one result, or for a stream of them."""

from __future__ import annotations

import asyncio
import enum
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from fairlead.serve.batching.parameters import Row
from fairlead.serve.context import RequestContext

MAX_AHEAD = 256
"""Items that a streaming batch may be ahead of the slowest of its callers."""


class End(enum.Enum):
    """What a stream gives behind its last item."""

    VALUE = 0


class Caller(ABC):
    """A call that is to be handled in a batch. Belongs to the event loop."""

    __slots__ = ("came_at", "context", "row", "target")

    def __init__(self, target: tuple[Any, ...], row: Row, context: RequestContext) -> None:
        self.target = target
        """The object whose method it is, in a tuple; empty for functions."""
        self.row = row
        self.context = context
        self.came_at = 0.0
        """When it joined the queue, on the loop's clock."""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether there is nothing more to tell it."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Ends it with an error. Nothing if it has ended."""


class UnaryCaller(Caller):
    """Waits for one result."""

    __slots__ = ("future",)

    def __init__(
        self, target: tuple[Any, ...], row: Row, context: RequestContext, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(target, row, context)
        self.future: asyncio.Future[Any] = loop.create_future()

    @property
    def gone(self) -> bool:
        """Whether it was cancelled or answered."""
        return self.future.done()

    def succeed(self, result: Any) -> None:
        """Ends it with a result. Nothing if it has ended."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Ends it with an error. Nothing if it has ended."""
        if self.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(presentable(error))


class StreamCaller(Caller):
    """Takes items at its own pace; the batch waits for it when it is too far behind."""

    __slots__ = ("_ended", "_error", "_items", "_left", "_reader", "_writer")

    def __init__(self, target: tuple[Any, ...], row: Row, context: RequestContext) -> None:
        super().__init__(target, row, context)
        self._items: deque[Any] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._left = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether it left, or its stream has ended."""
        return self._left or self._ended

    @property
    def left(self) -> bool:
        """Whether it left before the end."""
        return self._left

    def put(self, item: Any) -> None:
        """Gives it an item. Nothing if it is gone."""
        if not self.gone:
            self._items.append(item)
            _wake(self._reader)

    def end(self) -> None:
        """There are no more items."""
        if not self.gone:
            self._ended = True
            _wake(self._reader)

    def fail(self, error: BaseException) -> None:
        """An error, behind the items that it has not taken yet. Nothing if it is gone."""
        if not self.gone:
            self._error = presentable(error)
            self.end()

    async def room(self) -> None:
        """Returns when it may be given another item, or is gone."""
        while not self.gone and len(self._items) >= MAX_AHEAD:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def get(self) -> Any:
        """The next item, or ``End.VALUE``. Raises the error that the stream ended with."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                return End.VALUE
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        _wake(self._writer)
        return self._items.popleft()

    def leave(self) -> None:
        """It takes no more."""
        if not self._ended:
            self._left = True
        self._items.clear()
        _wake(self._writer)


def presentable(error: BaseException) -> BaseException:
    """The error itself, or what the interpreter makes of those that end iterations."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    raised = RuntimeError(f"a batch raised {type(error).__name__}")
    raised.__cause__ = error
    return raised


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
