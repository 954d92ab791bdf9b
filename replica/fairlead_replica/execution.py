"""Running a call: as the user's method wants to be run, with its results on their way as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Any

from fairlead.serve.context import RequestContext
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import Codec, codec_of, load_arguments
from fairlead.wire.errors import InvalidCallError
from fairlead.wire.stream import Stream
from fairlead_replica import asgi, http
from fairlead_replica.call import Call, Host
from fairlead_replica.callable import Method, MethodKind
from fairlead_replica.results import GENERATORS, UNFINISHED, encode, missing_generator, unexpected_generator
from fairlead_replica.streams import Inbound, Outbox


class Execution(Call):
    """A call that is run here: coroutines and asynchronous generators in a task, anything else in the pool."""

    __slots__ = (
        "_answers",
        "_codec",
        "_dumps",
        "_made",
        "_method",
        "_payload",
        "_request",
        "_result",
    )

    _method: Method
    _codec: Codec
    _answers: Codec
    _dumps: Callable[[Any], bytes]

    def __init__(self, host: Host, stream: Stream, header: session_pb2.CallHeader, *, admitted: bool = True) -> None:
        super().__init__(host, stream, header, admitted=admitted)
        self._made: asyncio.Task[None] | None = None
        """The task that runs the call, until it does."""
        self._payload = b""
        self._request: Any = None
        self._result: Any = None

    def _start(self, payload: bytes, last: bool) -> None:
        """Finds the method and runs it where its kind belongs."""
        host = self._host
        header = self.header
        try:
            self._look_up()
            self._open_inbound(last)
        except Exception as error:  # looking up a method may run the user's code: a property, or __getattr__
            self._refuse(error)
            return
        kind = self._method.kind
        self._payload = payload
        self._context = RequestContext(
            header, app_name=host.application, deadline=self._deadline, is_http_request=self.http
        )
        if kind is MethodKind.COROUTINE or kind is MethodKind.ASYNC_GENERATOR:
            self._made = host.loop.create_task(self._run(), context=host.context.copy())
        else:
            if header.stream or self.http:
                self._outbox = Outbox(self.stream, host.mailbox)
            host.pool.submit(self._run_in_thread, self._thread_done)

    def _look_up(self) -> None:
        """Finds the method, and how its arguments and results are encoded. Raises what keeps the call from starting."""
        header = self.header
        self._method = method = self._host.callable.method(header.method)
        kind = method.kind
        if self.http:
            self._codec = self._answers = http.CODEC
        else:
            self._codec = codec = codec_of(header.request_serialization)
            answers = header.response_serialization
            self._answers = codec if answers == codec.serialization else codec_of(answers)
            if not header.stream and (kind is MethodKind.GENERATOR or kind is MethodKind.ASYNC_GENERATOR):
                raise unexpected_generator(method)  # known before the call, so refused before it
        self._dumps = self._answers.dumps

    def _open_inbound(self, last: bool) -> None:
        """Takes the caller's further messages, if there are any. Raises what keeps the call from starting."""
        if not last:
            if self.http:
                raise InvalidCallError("the deployment takes no WebSockets: they need an ASGI application")
            self._inbound = Inbound(self._codec, self._host.loop, max_message=self._host.max_message)

    def _arguments(self) -> tuple[Any, dict[str, Any]]:
        """The last step before the user's code. Raises what keeps the call from starting."""
        if self._interrupted is not None:
            raise self._interrupted
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise self._late("before it could start")
        payload, self._payload = self._payload, b""
        if self.http:
            return self._http_arguments(payload)
        args, kwargs = load_arguments(self._codec, payload)
        if self._inbound is not None:
            args = (self._inbound, *args)
        return args, kwargs

    def _http_arguments(self, payload: bytes) -> tuple[Any, dict[str, Any]]:
        self._request = self._codec.loads(payload)
        return (self._request,) if self._method.takes_request else (), {}

    async def _run(self) -> None:
        """Runs an asynchronous method, in a task of its own."""
        try:
            self._task, self._made = self._made, None  # from here on cancelling reaches a try
            self._enter()
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
                await asgi.play(result, self._request.scope, self._request.receive, self._send)
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
        self._enter()
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
            self._made = self._host.loop.create_task(self._run_rest(later), context=self._host.context.copy())
        elif self._outbox is not None:
            self._outbox.close(lambda: self._fail(error) if error is not None else self._succeed(payload))
        elif error is not None:
            self._fail(error)
        else:
            self._succeed(payload)

    async def _run_rest(self, later: Any) -> None:
        """A synchronous method returned a coroutine, an asynchronous generator, or a Response that must be played."""
        try:
            self._task, self._made = self._made, None
            self._enter()
            if self._interrupted is not None:
                self._task.cancel()  # type: ignore[union-attr]  # takes effect where the user's code first waits
            result = await later if isinstance(later, CoroutineType) else later
            payload = await self._finish(result) if self.header.stream or self.http else self._encode(result)
        except BaseException as error:
            self._fail(error)
        else:
            self._succeed(payload)
