"""A gateway's end of an in-memory link: it answers calls with Python functions, without routing anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fairlead.serve import connection
from fairlead.serve.connection import Connection
from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.codecs import codec_of, load_arguments
from fairlead.wire.errors import ConnectionLostError, MethodNotFoundError, RequestCancelledError
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.messages import MessageReader
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import Stream, cost
from fairlead.wire.trust import Trust
from tests.wire.message_writer import MessageWriter


@dataclass
class FakeCall:
    """A call as the gateway got it."""

    gateway: FakeGateway
    stream: Stream
    header: session_pb2.CallHeader
    payload: bytes = b""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    messages: MessageReader = field(default_factory=MessageReader)
    parts: list[bytes] = field(default_factory=list)
    complete: bool = False
    writer: Any = None
    task: asyncio.Task[None] | None = None

    def begin(self, payload: bytes, more: bool, last: bool) -> None:
        self.writer = MessageWriter(self.stream)
        self.on_message(self.stream, payload, more, last)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        if self.complete:
            if payload or not last:
                self.messages.feed(stream, payload, more, last)
            else:
                self.messages.finish(None)
            return
        self.parts.append(payload)
        if more:
            stream.link.consumed(stream, cost(payload))
            return
        self.complete = True
        self.payload = b"".join(self.parts)
        if last:
            self.messages.finish(None)
        self.task = asyncio.get_running_loop().create_task(self.answer())

    def on_head(self, stream: Stream, metadata: Any) -> None: ...

    def on_end(self, stream: Stream, outcome: Any, payload: Any) -> None: ...

    def on_writable(self, stream: Stream) -> None:
        self.writer.writable()

    def on_cancel(self, stream: Stream) -> None:
        self.cancelled.set()
        self.writer.writable()
        self.gateway.cancellations.append(self.header.method)
        stream.link.end(stream, outcome_of(RequestCancelledError(), trusted=True))

    async def items(self) -> AsyncIterator[Any]:
        """The caller's further messages, decoded."""
        codec = codec_of(self.header.request_serialization)
        async for message in self.messages:
            yield codec.loads(message)

    async def answer(self) -> None:
        stream, header = self.stream, self.header
        codec = codec_of(header.response_serialization)
        try:
            args, kwargs = load_arguments(codec_of(header.request_serialization), self.payload)
            if header.broadcast:
                await self.broadcast(codec, args, kwargs)
                return
            method = self.gateway.methods.get(header.method)
            if method is None:
                raise MethodNotFoundError(f"no method {header.method}")
            result = method(self, *args, **kwargs)
            if hasattr(result, "__aiter__"):
                async with contextlib.aclosing(result):
                    async for item in result:
                        await self.writer.send(codec.dumps(item))
                        self.gateway.sent_items += 1
                        if self.cancelled.is_set():
                            break
                stream.link.end(stream)
                return
            if asyncio.iscoroutine(result):
                result = await result
            stream.link.end(stream, None, codec.dumps(result))
        except Exception as error:
            stream.link.end(stream, outcome_of(error, trusted=True, traceback="the remote traceback"))

    async def broadcast(self, codec: Any, args: Any, kwargs: Any) -> None:
        replicas = self.gateway.replicas
        first = serving_pb2.BroadcastResponse(replicas=serving_pb2.ReplicaSet(replica_ids=list(replicas)))
        await self.writer.send(first.SerializeToString())
        one_sender = asyncio.Lock()

        async def one(replica_id: str, method: Callable[..., Any]) -> None:
            answer = serving_pb2.BroadcastResponse(result=serving_pb2.ReplicaResult(replica_id=replica_id))
            try:
                result = method(*args, **kwargs)
                if asyncio.iscoroutine(result):
                    result = await result
                answer.result.payload.content_type = codec.media_type
                answer.result.payload.data = codec.dumps(result)
            except KeyError:
                return  # as if it had been lost in silence
            except Exception as error:
                outcome = outcome_of(error, trusted=True, traceback="there")
                answer.result.status.CopyFrom(outcome.status)
                answer.result.exception = outcome.exception
                answer.result.traceback = outcome.traceback
            async with one_sender:
                await self.writer.send(answer.SerializeToString())

        await asyncio.gather(*(one(*item) for item in replicas.items()))
        self.stream.link.end(self.stream)


class FakeGateway:
    """Answers the calls of any number of connections with ``methods``; broadcasts with ``replicas``.

    Its calls are tasks of the loop that the connection lives on, and end with it at the latest.
    """

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self.methods: dict[str, Callable[..., Any]] = {"__call__": lambda call, *args: args[0] if args else None}
        self.methods |= methods
        self.replicas: dict[str, Callable[..., Any]] = {}
        self.calls: list[FakeCall] = []
        self.cancellations: list[str] = []
        self.links: list[Link] = []
        self.connects = 0
        self.sent_items = 0
        self.refuse = 0
        """So many attempts to connect fail."""

    async def connect(self, address: str) -> Link:
        self.connects += 1
        if self.refuse:
            self.refuse -= 1
            raise ConnectionLostError(f"{address} is not there")
        opener, accepting = link_pair(self.accept)
        self.links.append(accepting)
        return opener

    def accept(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        call = FakeCall(self, stream, header)
        stream.owner = call
        self.calls.append(call)
        call.begin(payload, more, last)

    def hold(self, name: str, answer: Any = None) -> Callable[[], None]:
        """Makes a method that answers, with its argument if it gets one, only when what this returns has been called.

        From any thread.
        """
        released = asyncio.Event()

        async def held(call: FakeCall, *given: Any) -> Any:
            await released.wait()
            return given[0] if given else answer

        self.methods[name] = held
        return lambda: connection.current().post(released.set)

    def connection(self, trust: Trust = Trust.OWNER) -> Connection:
        connection = Connection(self.connect)
        connection.set_address("unix:/fake", trust)
        return connection

    @contextlib.contextmanager
    def connected(self, trust: Trust = Trust.OWNER) -> Iterator[None]:
        """The process's connection leads here meanwhile."""
        mine = self.connection(trust)
        before = connection.use(mine)
        try:
            yield
        finally:
            connection.use(before)
            mine.close()
