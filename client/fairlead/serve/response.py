"""What ``DeploymentHandle.remote`` returns: a result, or a stream of results, that may still be under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from fairlead.serve.caller import Call, StreamCall, UnaryCall
from fairlead.serve.waiting import in_event_loop
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import FairleadError, RequestCancelledError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

NOT_SERIALIZABLE = (
    "`DeploymentResponse` is not serializable. If you are passing the `DeploymentResponse` in a nested object (e.g. a "
    "list or dictionary) to a downstream deployment handle call, that is no longer supported. Please only pass "
    "`DeploymentResponse` objects as top level arguments."
)
IN_EVENT_LOOP = "Sync methods should not be called from within an `asyncio` event loop. Use `{}` instead."
NOT_THE_RESULT = (
    "'DeploymentResponse' object {}: it is not the result itself, which `await response` or `response.result()` gives"
)
HOW_TO_ITERATE = "; the items of a generator come from calls with `handle.options(stream=True)`"
_PENDING: Any = object()


def decode(codec: Codec, body: bytes) -> Any:
    """A result's value. Raises FairleadError that says what is wrong with it."""
    try:
        return codec.loads(body)
    except Exception as error:
        raise FairleadError(
            f"the result could not be decoded with {codec.name}: {type(error).__name__}: {error}"
        ) from error


class ResponseOfCall:
    """What all responses share."""

    __slots__ = ("__weakref__", "_cancelled")
    _call: Call

    @property
    def request_id(self) -> str:
        """The request's id, as in logs and errors."""
        return self._call.request_id

    @property
    def by_reference(self) -> bool:
        """Always False: values travel by value."""
        return False

    def cancel(self) -> None:
        """Gives the call up, and the calls that it made. Does not block; no effect if the call is over.

        Fetching the result then raises RequestCancelledError. From any thread.
        """
        self._cancelled = True
        self._call.cancel()

    def cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def __reduce__(self) -> NoReturn:
        raise FairleadError(NOT_SERIALIZABLE)

    async def _to_object_ref(self) -> NoReturn:
        raise RuntimeError("there are no object references: values travel by value")

    def _to_object_ref_sync(self) -> NoReturn:
        raise RuntimeError("there are no object references: values travel by value")

    def __repr__(self) -> str:
        call = self._call
        state = "under way" if not call.done else "failed" if call.error or call.outcome else "done"
        return f"<{type(self).__name__} {call.template.callee} {call.request_id} {state}>"


class DeploymentResponse(ResponseOfCall, Generic[R_co]):
    """The result of a call, which was sent when this was made. Awaited, fetched with ``result()``, or passed on.

    May be used from any thread and any event loop, any number of times. Passed as an argument to another call, its
    value arrives there. Cancelling a task that awaits it leaves the call alone.
    """

    __slots__ = ("_call", "_value")

    def __init__(self, call: UnaryCall) -> None:
        self._call: UnaryCall = call
        self._cancelled = False
        self._value: R_co = _PENDING

    def __await__(self) -> Generator[Any, None, R_co]:
        """The value. Raises what the callee raised, or a FairleadError."""
        call = self._call
        if not call.done:
            future = call.wire.running_loop().create_future()
            if call.add(future):
                try:
                    yield from future
                except asyncio.CancelledError:
                    call.discard(future)
                    raise
        return self._fetch()

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> R_co:
        """Blocks until the value is there, at most ``timeout_s`` seconds; None: as long as it takes.

        Raises TimeoutError when the time is over (the call goes on; a later ``result()`` may succeed), RuntimeError in
        an event loop, and what the callee raised, or a FairleadError.
        """
        if not _skip_asyncio_check and in_event_loop():
            raise RuntimeError(IN_EVENT_LOOP.format("await response"))
        if not self._call.done and not self._call.wait_blocking(timeout_s):
            raise TimeoutError(f"no result within {timeout_s} s; the call goes on")
        return self._fetch()

    def _fetch(self) -> R_co:
        """The value of a call that is over, decoded by who asks first."""
        value = self._value
        if value is not _PENDING:
            return value
        call = self._call
        error = call.failure()
        if error is not None:
            raise error
        body = call.body
        if body is not None:
            self._value = decode(call.template.response_codec, body)
            call.body = None
        return self._value

    if not TYPE_CHECKING:  # what is often forgotten is told; type checkers know that there is no such thing

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(NOT_THE_RESULT.format(f"has no attribute {name!r}"), name=name, obj=self)

        def __iter__(self) -> NoReturn:
            raise TypeError(NOT_THE_RESULT.format("is not iterable") + HOW_TO_ITERATE)

        def __aiter__(self) -> NoReturn:
            raise TypeError(NOT_THE_RESULT.format("is not iterable") + HOW_TO_ITERATE)


class DeploymentResponseGenerator(ResponseOfCall, Generic[R]):
    """The results of a streaming call, as they come. One reader at a time, in any thread or event loop.

    Flow-controlled: the callee waits when about 256 KiB are not yet read. Dropping the generator cancels the call.
    """

    __slots__ = ("_call", "_exhausted")

    def __init__(self, call: StreamCall) -> None:
        self._call: StreamCall = call
        self._cancelled = False
        self._exhausted = False

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        """The next item, blocking. Raises RuntimeError in an event loop."""
        if in_event_loop():
            raise RuntimeError(IN_EVENT_LOOP.format("async for` or `await response.__anext__()"))
        call = self._call
        while (item := call.take()) is None or self._cancelled:
            if self._cancelled and not self._exhausted:
                raise RequestCancelledError
            if call.done and not call.items:
                self._raise_end(StopIteration)
            call.wait_blocking(None)
        value: R = decode(call.template.response_codec, item)
        return value

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        """The next item."""
        call = self._call
        while (item := call.take()) is None or self._cancelled:
            if self._cancelled and not self._exhausted:
                raise RequestCancelledError
            if call.done and not call.items:
                self._raise_end(StopAsyncIteration)
            await call.wait()
        value: R = decode(call.template.response_codec, item)
        return value

    def _raise_end(self, end: type[Exception]) -> NoReturn:
        """Raises the call's error once, then the end of iteration."""
        error = None if self._exhausted else self._call.failure()
        self._exhausted = True
        raise end if error is None else error

    def __await__(self) -> NoReturn:
        raise TypeError(
            "`DeploymentResponseGenerator` cannot be awaited directly. Use `async for` or `await response.__anext__()`."
        )

    def result(self, *, timeout_s: float | None = None) -> NoReturn:
        """Raises TypeError: there is no single result."""
        raise TypeError(
            "`DeploymentResponseGenerator` doesn't support `result()`: iterate over it, or call the method without "
            "`handle.options(stream=True)`."
        )

    def __del__(self) -> None:
        # Nobody can read it any more: without this, the callee would wait for credit for ever.
        try:
            self._call.abandon()
        except (AttributeError, RuntimeError):  # never made, or the interpreter is going down
            return
