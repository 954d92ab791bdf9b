"""Running a call of a typed service's method: as any other, but for its messages, its context and its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc

from fairlead.serve.grpc_util import Metadata, RpcAborted, gRPCContext, gRPCInputStream
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import CardinalityError, InvalidCallError, ResultNotSerializableError
from fairlead.wire.stream import Stream
from fairlead_replica.call import Host
from fairlead_replica.callable import MethodKind
from fairlead_replica.execution import Execution
from fairlead_replica.streams import Inbound
from fairlead_replica.tracebacks import user_traceback
from fairlead_replica.typed.services import Rpc, TypedServices
from fairlead_replica.typed.statuses import entries_of, failure_in, is_users_status, success_of

logger = logging.getLogger(__name__)

_INTERNAL = grpc.StatusCode.INTERNAL
_GENERATORS = (MethodKind.GENERATOR, MethodKind.ASYNC_GENERATOR)


class TypedExecution(Execution):
    """A call whose payloads are messages of a typed service."""

    __slots__ = ("_grpc", "_rpc", "_services")

    _rpc: Rpc

    def __init__(
        self,
        host: Host,
        stream: Stream,
        header: session_pb2.CallHeader,
        services: TypedServices,
        *,
        admitted: bool = True,
    ) -> None:
        super().__init__(host, stream, header, admitted=admitted)
        self._services = services
        self._grpc = gRPCContext(header, self._deadline)
        self._grpc.is_cancelled = self._is_interrupted

    def _is_interrupted(self) -> bool:
        return self._interrupted is not None

    def _look_up(self) -> None:
        header = self.header
        self._rpc = rpc = self._services.find(header.method)
        self._method = rpc.method
        self._codec = self._answers = rpc.codec
        self._dumps = rpc.conversion.dump
        if rpc.stream != header.stream:
            raise CardinalityError(f"{rpc.path} answers with {'a stream' if rpc.stream else 'one message'}")
        if not rpc.stream and rpc.method.kind in _GENERATORS:
            raise RpcAborted(_INTERNAL, f"{rpc.path} answers with one message, and its method is a generator")

    def _open_inbound(self, last: bool) -> None:
        if self._rpc.client_streaming:
            self._inbound = inbound = TypedInbound(
                self._codec,
                self._host.loop,
                max_message=self._host.max_message,
                is_interrupted=self._is_interrupted,
            )
            if last:
                inbound.finish(None)
        elif not last:
            raise CardinalityError(f"{self._rpc.path} takes one message")

    def _arguments(self) -> tuple[Any, dict[str, Any]]:
        if self._interrupted is not None:
            raise self._interrupted
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise self._late("before it could start")
        payload, self._payload = self._payload, b""
        rpc = self._rpc
        read = None if self._inbound is None else self._inbound.__anext__
        self._grpc.connect(read, self._write if rpc.stream else None, self._begin_answer)
        assert self._context is not None
        self._context.grpc_context = self._grpc
        return rpc.arguments(payload, self._inbound, self._grpc)

    async def _write(self, message: Any) -> None:
        await self._send(self._encode(message))

    def _begin_answer(self, metadata: Metadata) -> None:
        """Sends the head of the answer. In the method's thread, or on the loop."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:  # a thread of the pool
            running = None
        if running is self._host.loop:
            self._send_head(metadata)
        else:
            asyncio.run_coroutine_threadsafe(self._send_head_later(metadata), self._host.loop).result()

    async def _send_head_later(self, metadata: Metadata) -> None:
        self._send_head(metadata)

    def _send_head(self, metadata: Metadata) -> None:
        stream: Stream | None = getattr(self, "stream", None)  # there is none any more after the end of the call
        if stream is None:
            return
        if stream.sent_last is not None:
            raise RuntimeError("a message was sent before; initial metadata go before all messages")
        try:
            self._link.head(stream, entries_of(metadata))
        except InvalidCallError as error:  # too much
            raise ValueError(error.message) from error

    async def _finish(self, result: Any) -> bytes | None:
        if result is None and (self._grpc.answered or success_of(self._grpc) is not None):
            return None  # what there was to send has been written
        return await super()._finish(result)

    # -- the end

    def _encode(self, result: Any) -> bytes:
        code = self._grpc.code()
        if result is None and code is not None and code.value[0]:
            return b""  # there is no result beside a status that says so
        return super()._encode(result)

    def _succeed(self, payload: bytes | None) -> None:
        outcome = None if self._interrupted is not None else success_of(self._grpc)
        if outcome is None:
            super()._succeed(payload)
        elif payload is None or outcome.status.code or self._link.send(self.stream, payload):
            self._end_with(outcome)
        else:  # an END with an outcome does not wait for what still waits for credit
            self._host.loop.create_task(self._end_later(outcome))

    async def _end_later(self, outcome: session_pb2.Outcome) -> None:
        self._task = asyncio.current_task()
        try:
            await self._writable()
        finally:
            if self._interrupted is not None:
                super()._succeed(None)
            else:
                self._end_with(outcome)

    def _fail(self, error: BaseException) -> None:
        if self._interrupted is not None:
            super()._fail(error)
            return
        if isinstance(error, CardinalityError):  # what the method returned does not fit: no fault of the caller's
            error = ResultNotSerializableError(f"the result of {self._rpc.path}: {error}")
        self._failure = type(error).__name__
        if not is_users_status(error, self._grpc) and not isinstance(error, asyncio.CancelledError):
            logger.error("request %s failed\n%s", self.header.request_id, user_traceback(error))
        self._end_with(failure_in(error, self._grpc))

    def _refuse(self, error: Exception) -> None:
        self._failure = type(error).__name__
        self._end_with(failure_in(error, self._grpc))

    def _end_with(self, outcome: session_pb2.Outcome) -> None:
        self._link.end(self.stream, outcome)
        self._release()

    def _release(self) -> None:
        cancelled = self._interrupted is not None
        self._grpc.finish(cancelled)
        if isinstance(self._inbound, TypedInbound):
            self._inbound.let_go(cancelled)
        super()._release()


class TypedInbound(Inbound, gRPCInputStream[Any]):
    """The messages of a client stream. Unlike other items they may be empty: an empty last piece alone is the end."""

    def __init__(
        self, codec: Codec, loop: asyncio.AbstractEventLoop, *, max_message: int, is_interrupted: Callable[[], bool]
    ) -> None:
        super().__init__(codec, loop, max_message=max_message)
        self._within = False
        self._exhausted = False
        self._cancelled = False
        self._is_interrupted = is_interrupted

    def feed(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """Takes a piece from the peer. On the loop."""
        if last and not payload and not more and not self._within:
            self._reader.finish(None)
        else:
            self._within = more
            super().feed(stream, payload, more, last)

    async def __anext__(self) -> Any:
        try:
            payload = await self._reader.get()
        except StopAsyncIteration:
            self._exhausted = True
            raise
        return self._decoded(payload)

    def let_go(self, cancelled: bool) -> None:
        """The call is over. It holds this, and would wait for the garbage collector if this held it."""
        self._cancelled |= cancelled
        self._is_interrupted = bool

    @property
    def is_exhausted(self) -> bool:
        """See gRPCInputStream."""
        return self._exhausted

    def is_cancelled(self) -> bool:
        """See gRPCInputStream."""
        return self._cancelled or self._is_interrupted()

    def cancel(self) -> None:
        """See gRPCInputStream."""
        self._cancelled = True
        self._loop.call_soon_threadsafe(self._reader.finish, None)
