"""``@serve.batch``, and what it makes of functions and methods."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from fairlead.serve.batching.batcher import Batcher, Work, _RuntimeSummaryStatistics
from fairlead.serve.batching.callers import End, StreamCaller, UnaryCaller
from fairlead.serve.batching.limits import Limits, whole
from fairlead.serve.batching.objects import ByObject
from fairlead.serve.batching.parameters import Parameters
from fairlead.serve.batching.running import answer, stream
from fairlead.serve.context import get_request_context

R = TypeVar("R")


class Batches:
    """The batches of one object: a batcher for each event loop that it is called on."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work = work
        self._batchers: dict[asyncio.AbstractEventLoop, Batcher] = {}
        self.limits = limits

    def batcher(self, loop: asyncio.AbstractEventLoop) -> Batcher:
        """The one of this loop, which is running."""
        found = self._batchers.get(loop)
        if found is None:
            for other in list(self._batchers):
                if other.is_closed():
                    self._batchers.pop(other, None)
            found = self._batchers[loop] = Batcher(self._work, self.limits, loop)
        return found

    def all(self) -> list[Batcher]:
        """Those of all loops."""
        return list(self._batchers.values())

    def limit(self, limits: Limits) -> None:
        """Sets the limits of the batches that begin to form from now on. From any thread."""
        self.limits = limits
        for batcher in self.all():
            batcher.limit(limits)


class Definition:
    """A function with the settings of its decorator."""

    def __init__(self, function: Callable[..., Any], limits: Limits, max_concurrent_batches: int, size_fn: Any) -> None:
        self.function = function
        self.limits = limits
        self.max_concurrent_batches = max_concurrent_batches
        self.size_fn = size_fn
        self.in_class = not f"<locals>.{function.__qualname__}".rpartition(".")[0].endswith("<locals>")
        """Whether it was written in a class: it may be called with its object as an argument."""
        self.own = Batches(self._work(is_method=False), limits)
        work = self._work(is_method=True)
        self.of_objects = ByObject(lambda: Batches(work, self.limits))

    def _work(self, *, is_method: bool) -> Work:
        run = stream if inspect.isasyncgenfunction(self.function) else answer
        parameters = Parameters(self.function, is_method=is_method)
        return Work(run, self.function, parameters, self.max_concurrent_batches, self.size_fn)


class Batched:
    """A batched function; or a batched method, of its class or bound to an object.

    One object's calls share batches with no other's. Changes at run time are those of one object; on the class, they
    are for the objects whose method has not been used yet.
    """

    __slots__ = ("__dict__", "__weakref__", "_batches", "_definition", "_target")

    def __init__(self, definition: Definition, target: tuple[Any, ...] = ()) -> None:
        self._definition = definition
        self._target = target
        self._batches = definition.of_objects.of(target[0]) if target else definition.own

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        if instance is None or self._target:
            return self
        return type(self)(self._definition, (instance,))

    def __reduce__(self) -> tuple[Any, ...]:
        definition = self._definition
        if self._target:
            return getattr, (self._target[0], definition.function.__name__)
        given = (definition.function, definition.limits, definition.max_concurrent_batches, definition.size_fn)
        return _restore, (type(self), *given)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._definition.function.__qualname__} {self._definition.limits}>"

    @property
    def capacity(self) -> int:
        """How many calls its batches can hold at once, as decorated."""
        size = self._definition.limits.max_batch_size
        if self._definition.size_fn is not None:  # it is a weight, which says little about a number
            size = min(size, _WEIGHED)
        return size * self._definition.max_concurrent_batches

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """Sets the size of batches that begin to form from now on. Raises as the decorator does. From any thread."""
        self._limit(max_batch_size=new_max_batch_size)

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """Sets how long batches wait that begin to form from now on, in seconds. As above."""
        self._limit(batch_wait_timeout_s=new_batch_wait_timeout_s)

    def _limit(self, **changes: Any) -> None:
        self._batches.limit(replace(self._batches.limits, **changes))
        if not self._target:
            self._definition.limits = self._batches.limits

    def _get_max_batch_size(self) -> int:
        return self._batches.limits.max_batch_size

    def _get_batch_wait_timeout_s(self) -> float:
        return self._batches.limits.batch_wait_timeout_s

    def _get_curr_iteration_start_times(self) -> _RuntimeSummaryStatistics:
        return _RuntimeSummaryStatistics([at for batcher in self._batches.all() for at in batcher.start_times()])

    async def _is_batching_task_alive(self) -> bool:
        return True  # there is no task that could have ended: calls and timers drive the batches

    async def _get_handling_task_stack(self) -> str:
        return "".join(batcher.stacks() for batcher in self._batches.all())

    def _bound(self, args: tuple[Any, ...]) -> tuple[Self, tuple[Any, ...]]:
        """Finds the object in a call that did not come through it, as ``Class.method(object)``."""
        if self._definition.in_class and args and not self._target and self._is_method_of(type(args[0])):
            return type(self)(self._definition, args[:1]), args[1:]
        return self, args

    def _is_method_of(self, owner: type) -> bool:
        found = inspect.getattr_static(owner, self._definition.function.__name__, None)
        while found is not None and found is not self:
            if isinstance(found, staticmethod):
                return False
            found = getattr(found, "__wrapped__", None)  # by a decorator above this one
        return found is self


class BatchedFunction(Batched, Generic[R]):
    """What ``@serve.batch`` makes of a coroutine function."""

    __slots__ = ()

    async def __call__(self, *args: Any, **kwargs: Any) -> R:
        """This call's result. Raises what the batch raised, and TypeError for wrong arguments.

        Cancelling it takes it out of its batch, if that has not started.
        """
        this, args = self._bound(args)
        batches = this._batches
        loop = asyncio.get_running_loop()
        batcher = batches.batcher(loop)
        row = batches._work.parameters.row(args, kwargs)
        caller = UnaryCaller(this._target, row, get_request_context(), loop)
        batcher.put(caller)
        try:
            result: R = await caller.future
            return result
        except asyncio.CancelledError:
            batcher.discard(caller)
            raise


class BatchedStream(Batched, Generic[R]):
    """What ``@serve.batch`` makes of an asynchronous generator function."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> AsyncGenerator[R, None]:
        """This call's items. It waits for its batch from now on; outside of an event loop, from the first item on.

        Raises TypeError for wrong arguments. Closing it, or letting go of it, takes it out of its batch.
        """
        this, args = self._bound(args)
        batches = this._batches
        caller = StreamCaller(this._target, batches._work.parameters.row(args, kwargs), get_request_context())
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return _items(caller, batches, None)
        batcher = batches.batcher(loop)
        batcher.put(caller)
        items = _items(caller, batches, batcher)
        # A generator that was never started runs no `finally`.
        weakref.finalize(items, _abandon, caller, batcher, loop).atexit = False
        return items


async def _items(caller: StreamCaller, batches: Batches, batcher: Batcher | None) -> AsyncGenerator[Any, None]:
    if batcher is None:
        batcher = batches.batcher(asyncio.get_running_loop())
        batcher.put(caller)
    try:
        while (item := await caller.get()) is not End.VALUE:
            yield item
    finally:
        _leave(caller, batcher)


def _leave(caller: StreamCaller, batcher: Batcher) -> None:
    caller.leave()
    batcher.discard(caller)


def _abandon(caller: StreamCaller, batcher: Batcher, loop: asyncio.AbstractEventLoop) -> None:
    if not caller.gone:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_leave, caller, batcher)  # maybe from another thread


_WEIGHED = 100
"""As many calls are thought to be in a batch at most whose size is a weight."""


class BatchDecorator(Protocol):
    """``@serve.batch(...)``, waiting for the function."""

    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, Iterable[R]]], /) -> BatchedFunction[R]: ...
    @overload
    def __call__(self, function: Callable[..., AsyncIterator[Iterable[R]]], /) -> BatchedStream[R]: ...


@overload
def batch(_func: Callable[..., Coroutine[Any, Any, Iterable[R]]], /) -> BatchedFunction[R]: ...
@overload
def batch(_func: Callable[..., AsyncIterator[Iterable[R]]], /) -> BatchedStream[R]: ...
@overload
def batch(
    _func: None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], int] | None = None,
) -> BatchDecorator: ...
def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], int] | None = None,
) -> Any:
    """Handles calls of an ``async def`` function, method or generator together; bare, or with settings.

    The function gets a list for each parameter and returns a sequence with a result for each call, in the same order;
    a generator yields such sequences. A batch starts when it has ``max_batch_size`` calls, or its first call has waited
    ``batch_wait_timeout_s`` seconds, and fewer than ``max_concurrent_batches`` run. With ``batch_size_fn``, which gets
    the list of first arguments, ``max_batch_size`` limits what that function returns.

    Raises TypeError for functions that are not ``async def``, TypeError or ValueError for settings that cannot be.
    """
    limits = Limits(max_batch_size=max_batch_size, batch_wait_timeout_s=batch_wait_timeout_s)
    concurrent = whole("max_concurrent_batches", max_concurrent_batches)
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be callable, not {type(batch_size_fn).__name__}")

    def decorate(function: Callable[..., Any]) -> Batched:
        if inspect.iscoroutinefunction(function):
            kind: type[Batched] = BatchedFunction
        elif inspect.isasyncgenfunction(function):
            kind = BatchedStream
        else:
            raise TypeError(f"Functions decorated with @serve.batch must be 'async def'; {function!r} is not.")
        return _restore(kind, function, limits, concurrent, batch_size_fn)

    return decorate if _func is None else decorate(_func)


def _restore(
    kind: type[Batched], function: Callable[..., Any], limits: Limits, max_concurrent_batches: int, size_fn: Any
) -> Batched:
    made = kind(Definition(function, limits, max_concurrent_batches, size_fn))
    functools.update_wrapper(made, function)  # type: ignore[arg-type]  # is callable in each kind
    return made


def capacity(func_or_class: Any) -> int:
    """How many calls the batches of a class or function can hold at once; 0: it has none."""
    if isinstance(func_or_class, type):
        found = (inspect.getattr_static(func_or_class, name, None) for name in dir(func_or_class))
        return sum(one.capacity for one in map(_batched, found) if one is not None)
    own = _batched(func_or_class)
    return 0 if own is None else own.capacity


def _batched(found: Any) -> Batched | None:
    if isinstance(found, staticmethod):
        found = found.__func__
    while found is not None and not isinstance(found, Batched):
        found = inspect.getattr_static(found, "__wrapped__", None)
    return found
