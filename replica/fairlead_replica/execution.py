"""One call in a replica: taken from its link, run as the user's method wants to be run, answered.

A call holds its slot until the user's code has really returned, and its END is sent then: a peer that counts the calls
it has open knows which slots are taken, also of calls that were cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Any, Protocol

from fairlead.serve.context import RequestContext, set_request_context
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import Codec, codec_of, load_arguments
from fairlead.wire.errors import (
    DeadlineExceededError,
    FairleadError,
    MessageTooLargeError,
    RequestCancelledError,
)
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.session import Stream
from fairlead_replica import http
from fairlead_replica.callable import Method, MethodKind, UserCallable
from fairlead_replica.outcomes import failure_of
from fairlead_replica.pool import Mailbox, ThreadPool
from fairlead_replica.results import GENERATORS, UNFINISHED, encode, missing_generator, unexpected_generator
from fairlead_replica.streams import Inbound, Outbox
from fairlead_replica.tracebacks import user_traceback

logger = logging.getLogger(__name__)

_HTTP = session_pb2.SERIALIZATION_HTTP


class Host(Protocol):
    """What a call needs of the replica that runs it."""

    loop: asyncio.AbstractEventLoop
    callable: UserCallable
    mailbox: Mailbox
    pool: ThreadPool
    context: contextvars.Context
    application: str
    max_message: int

    def release(self, call: Call) -> None:
        """The call has ended and gives its slot back."""


class Call:
    """A call under way. It is its stream's owner; everything happens on the loop unless it says otherwise."""

    __slots__ = (
        "_answered",
        "_answers",
        "_assembler",
        "_codec",
        "_context",
        "_deadline",
        "_dumps",
        "_host",
        "_inbound",
        "_interrupted",
        "_link",
        "_method",
        "_outbox",
        "_payload",
        "_request",
        "_result",
        "_task",
        "_timer",
        "_waiter",
        "_whole",
        "admitted",
        "header",
        "http",
        "stream",
    )

    _method: Method
    _codec: Codec
    _answers: Codec
    _dumps: Callable[[Any], bytes]

    def __init__(self, host: Host, stream: Stream, header: session_pb2.CallHeader, *, admitted: bool = True) -> None:
        self._host = host
        self._link = stream.link
        self.stream = stream
        self.header = header
        self.http = header.request_serialization == _HTTP
        self.admitted = admitted
        self._whole: tuple[bytes, bool] | None = None
        self._payload: bytes = b""
        self._assembler: MessageAssembler | None = None
        self._inbound: Inbound | None = None
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._context: RequestContext | None = None
        self._request: Any = None
        self._result: Any = None
        self._answered = False
        self._interrupted: FairleadError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        if header.timeout_us:
            timeout = header.timeout_us / 1e6
            self._deadline = time.monotonic() + timeout
            self._timer = host.loop.call_later(timeout, self._expire)

    def __repr__(self) -> str:
        state = "interrupted" if self._interrupted else "running" if self._context else "waiting"
        return f"<Call {self.header.method or '__call__'!r} request_id={self.header.request_id!r} {state}>"

    # -- what comes in

    def begin(self, payload: bytes, more: bool, last: bool) -> None:
        """Takes the first message, and runs the call when it is complete."""
        if more:
            self._assembler = MessageAssembler(self._host.max_message)
            self.on_message(self.stream, payload, more, last)
        else:
            self._received(payload, last)

    def admit(self) -> None:
        """Gives a slot to a call that waits for one."""
        self.admitted = True
        if self._whole is not None:
            whole, self._whole = self._whole, None
            self._received(*whole)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A message of the caller's, or a piece of one."""
        if self._inbound is not None:
            self._inbound.feed(stream, payload, more, last)
        elif self._assembler is not None and self._interrupted is None:
            try:
                message = self._assembler.add(stream, payload, more)
            except MessageTooLargeError as error:
                self._refuse(error)
                return
            if message is not None:
                self._assembler = None
                self._received(message, last)

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """Not for acceptors."""

    def on_writable(self, stream: Stream) -> None:
        """The peer has read: whoever waits may send more."""
        if self._outbox is not None:
            self._outbox.writable()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_cancel(self, stream: Stream) -> None:
        """The caller gave up, or is gone."""
        self._interrupt(RequestCancelledError())

    def _expire(self) -> None:
        self._interrupt(DeadlineExceededError("the call's deadline passed"))

    def _interrupt(self, error: FairleadError) -> None:
        """Ends the call with ``error``, as soon as the user's code has returned."""
        if self._interrupted is not None:
            return
        self._interrupted = error
        if self._context is None:  # it has not begun
            self._refuse(error)
            return
        self._context.cancel_children()
        if self._inbound is not None:
            self._inbound.finish(error)
        if self._outbox is not None:
            self._outbox.stop()
        if self._task is not None:
            self._task.cancel()

    # -- running

    def _received(self, payload: bytes, last: bool) -> None:
        """The first message is complete."""
        if not self.admitted:
            self._whole = (payload, last)
            return
        host = self._host
        header = self.header
        try:
            self._method = method = host.callable.method(header.method)
            kind = method.kind
            if self.http:
                self._codec = self._answers = codec = http.CODEC
            else:
                self._codec = codec = codec_of(header.request_serialization)
                answers = header.response_serialization
                self._answers = codec if answers == codec.serialization else codec_of(answers)
                if not header.stream and (kind is MethodKind.GENERATOR or kind is MethodKind.ASYNC_GENERATOR):
                    raise unexpected_generator(method)  # known before the call, so refused before it
            self._dumps = self._answers.dumps
        except Exception as error:  # looking up a method may run the user's code: a property, or __getattr__
            self._refuse(error)
            return
        self._payload = payload
        self._context = RequestContext(
            header, app_name=host.application, deadline=self._deadline, is_http_request=self.http
        )
        if not last and not self.http:
            self._inbound = Inbound(codec, host.loop, max_message=host.max_message)
        if kind is MethodKind.COROUTINE or kind is MethodKind.ASYNC_GENERATOR:
            host.loop.create_task(self._run(), context=host.context.copy())
        else:
            if header.stream or self.http:
                self._outbox = Outbox(self.stream, host.mailbox)
            host.pool.submit(self._run_in_thread, self._thread_done)

    def _arguments(self) -> tuple[Any, dict[str, Any]]:
        """The last step before the user's code. Raises what keeps the call from starting."""
        if self._interrupted is not None:
            raise self._interrupted
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlineExceededError("the call's deadline passed before it could start")
        payload, self._payload = self._payload, b""
        if self.http:
            self._request = self._codec.loads(payload)
            return (self._request,) if self._method.takes_request else (), {}
        args, kwargs = load_arguments(self._codec, payload)
        if self._inbound is not None:
            args = (self._inbound, *args)
        return args, kwargs

    async def _run(self) -> None:
        """Runs an asynchronous method, in a task of its own."""
        try:
            self._task = asyncio.current_task()  # from here on cancelling reaches a try
            set_request_context(self._context)
            args, kwargs = self._arguments()
            result = self._method.call(*args, **kwargs)
            del args, kwargs
            if self._method.kind is MethodKind.COROUTINE:
                result = await result
            payload = await self._finish(result) if self.header.stream or self.http else self._encode(result)
        except BaseException as error:  # whatever the user's code raises is the call's error and not the replica's
            self._fail(error)
        else:
            self._succeed(payload)

    async def _finish(self, result: Any) -> bytes | None:
        """Sends what a stream or a HTTP handler returned. The last message, if there is one left to send."""
        if isinstance(result, GENERATORS):
            return await self._pump(result)
        if not self.http:
            if self._inbound is None:
                raise missing_generator(self._method)
            # A caller that streams need not know whether it is answered once or often: CallBidi in serving.proto.
            await self._send(self._encode(result))
            return None
        if http.is_response(result):
            payload = http.encode_plain_response(result)
            if payload is None:
                await http.play(result, self._request, self._send)
            return payload
        return self._encode(result)

    async def _pump(self, items: Any) -> bytes | None:
        """Sends a generator's items as fast as the peer reads them."""
        chunks = self._start_chunks()
        send, stream, encode = self._link.send, self.stream, self._encode
        if isinstance(items, GeneratorType):  # out of a coroutine: it is no more blocking than the coroutine itself
            try:
                for item in items:
                    if not send(stream, encode(item)):
                        await self._writable()
            finally:
                items.close()
        else:
            try:
                async for item in items:
                    if not send(stream, encode(item)):
                        await self._writable()
            finally:
                await items.aclose()
        return chunks.finish() if chunks is not None else None

    async def _send(self, payload: bytes) -> None:
        self._answered = True
        if not self._link.send(self.stream, payload):
            await self._writable()

    async def _writable(self) -> None:
        self._waiter = self._host.loop.create_future()
        await self._waiter

    def _encode(self, result: Any) -> bytes:
        """A result as a payload. On any thread."""
        return encode(result, self._method, self._answers, self._dumps, self._host.max_message)

    def _start_chunks(self) -> http.ChunkEncoder | None:
        """From here on results are pieces of one HTTP response, if this is a HTTP call."""
        if not self.http:
            return None
        chunks = http.ChunkEncoder()
        self._dumps = chunks.encode
        self._answered = True
        return chunks

    # -- running in a thread

    def _run_in_thread(self) -> None:
        """Runs a synchronous method in the pool, in a context of the call's own. Leaves (payload, later, error)."""
        try:
            self._result = self._host.context.copy().run(self._call_in_thread)
        except BaseException as error:  # SystemExit too: it is the user's, and ends the call, not the thread
            self._result = (None, None, error)

    def _call_in_thread(self) -> tuple[bytes | None, Any, BaseException | None]:
        set_request_context(self._context)
        args, kwargs = self._arguments()
        result = self._method.call(*args, **kwargs)
        del args, kwargs
        if isinstance(result, UNFINISHED):
            return None, result, None
        if isinstance(result, GeneratorType) and self._outbox is not None:
            return self._pump_in_thread(result, self._outbox), None, None
        if self.http:
            if http.is_response(result):
                payload = http.encode_plain_response(result)
                return (None, result, None) if payload is None else (payload, None, None)
        elif self._outbox is not None:
            if self._inbound is None:
                raise missing_generator(self._method)
            self._outbox.put(self._encode(result))
            return None, None, None
        return self._encode(result), None, None

    def _pump_in_thread(self, items: Any, outbox: Outbox) -> bytes | None:
        chunks = self._start_chunks()
        try:
            for item in items:
                if not outbox.put(self._encode(item)):
                    break
        finally:
            items.close()
        return chunks.finish() if chunks is not None else None

    def _thread_done(self) -> None:
        """The thread is through: on the loop again."""
        payload, later, error = self._result
        self._result = None
        if later is not None:
            self._host.loop.create_task(self._run_rest(later), context=self._host.context.copy())
        elif self._outbox is not None:
            self._outbox.close(lambda: self._fail(error) if error is not None else self._succeed(payload))
        elif error is not None:
            self._fail(error)
        else:
            self._succeed(payload)

    async def _run_rest(self, later: Any) -> None:
        """A synchronous method returned a coroutine, an asynchronous generator, or a Response that must be played."""
        try:
            self._task = asyncio.current_task()
            set_request_context(self._context)
            if self._interrupted is not None:
                self._task.cancel()  # type: ignore[union-attr]  # takes effect where the user's code first waits
            result = await later if isinstance(later, CoroutineType) else later
            payload = await self._finish(result) if self.header.stream or self.http else self._encode(result)
        except BaseException as error:
            self._fail(error)
        else:
            self._succeed(payload)

    # -- the end

    def _succeed(self, payload: bytes | None) -> None:
        if self._interrupted is not None:  # also if the user's code took no notice
            self._link.end(self.stream, failure_of(self._interrupted))
        else:
            self._link.end(self.stream, None, payload)
        self._release()

    def _refuse(self, error: Exception) -> None:
        """Ends a call that has not begun."""
        self._link.end(self.stream, failure_of(error))
        self._release()

    def _fail(self, error: BaseException) -> None:
        payload = None
        if self._interrupted is not None:
            error = self._interrupted
        elif self.http and not self._answered and not isinstance(error, FairleadError | asyncio.CancelledError):
            payload = http.error_response(error)
            if payload is None:
                logger.error("request %s failed\n%s", self.header.request_id, user_traceback(error))
                payload = http.encode_error(500, "Internal Server Error")
        if payload is None:
            self._link.end(self.stream, failure_of(error))
        else:
            self._link.end(self.stream, None, payload)
        self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._task = None
        del self.stream  # each owns the other: without this, every call would wait for the garbage collector
        self._host.release(self)
