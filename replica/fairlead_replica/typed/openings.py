"""Client streams whose first message has arguments beside the item: a method takes them with the stream."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from typing import Any, Protocol

from fairlead.serve.derived.shapes import OMITTED
from fairlead_replica.callable import Method, MethodKind


class Opening(Protocol):
    """What is asked of the method's conversion. All raise InvalidArgumentsError."""

    def opening(self, first: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """The arguments that follow the stream, and its first item or ``OMITTED``."""

    def further(self, message: Any) -> Any:
        """The item of a message after the first."""


class Items:
    """The items of such a stream, asynchronously or, in a thread, one by one."""

    def __init__(self, messages: Any, conversion: Opening, first: Any) -> None:
        self._messages = messages
        self._conversion = conversion
        self._first = first

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        """The next item. Raises InvalidArgumentsError for a message without one."""
        first, self._first = self._first, OMITTED
        return self._conversion.further(await anext(self._messages)) if first is OMITTED else first

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        """The next item, for a synchronous method in its thread."""
        first, self._first = self._first, OMITTED
        return self._conversion.further(next(self._messages)) if first is OMITTED else first


def opened(method: Method, conversion: Opening) -> Method:
    """The same method, called with nothing but the messages: it waits for the first one, for the other arguments."""
    call = method.call
    kinds: dict[MethodKind, Callable[..., Any]] = {
        MethodKind.ASYNC_GENERATOR: _async_generator,
        MethodKind.COROUTINE: _coroutine,
        MethodKind.GENERATOR: _generator,
        MethodKind.SYNC: _sync,
    }
    return method.replaced(functools.wraps(call)(functools.partial(kinds[method.kind], call, conversion)))


async def _async_generator(call: Any, conversion: Opening, messages: Any, **context: Any) -> AsyncIterator[Any]:
    args, kwargs, first = conversion.opening(await anext(messages, None))
    async with aclosing(call(Items(messages, conversion, first), *args, **kwargs, **context)) as results:
        async for each in results:
            yield each


async def _coroutine(call: Any, conversion: Opening, messages: Any, **context: Any) -> Any:
    args, kwargs, first = conversion.opening(await anext(messages, None))
    return await call(Items(messages, conversion, first), *args, **kwargs, **context)


def _generator(call: Any, conversion: Opening, messages: Any, **context: Any) -> Iterator[Any]:
    args, kwargs, first = conversion.opening(next(messages, None))
    with closing(call(Items(messages, conversion, first), *args, **kwargs, **context)) as results:
        yield from results


def _sync(call: Any, conversion: Opening, messages: Any, **context: Any) -> Any:
    args, kwargs, first = conversion.opening(next(messages, None))
    return call(Items(messages, conversion, first), *args, **kwargs, **context)
