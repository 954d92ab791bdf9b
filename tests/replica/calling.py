"""A caller at the opener's end of a link, and what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.codecs import CLOUDPICKLE, Codec, dump_arguments
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.messages import MessageReader
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import Stream
from fairlead_replica.callable import UserCallable
from fairlead_replica.runtime import Runtime

HTTP = session_pb2.SERIALIZATION_HTTP


class Answer:
    """One call: its messages as they come, and its end."""

    def __init__(self, link: Link, codec: Codec | None) -> None:
        self.stream: Stream
        self.outcome: session_pb2.Outcome | None = None
        self.head: asyncio.Future[list[tuple[str, bytes]]] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self._link = link
        self._codec = codec
        self._reader = MessageReader()

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self._reader.feed(stream, payload, more, last)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        self.head.set_result([(entry.key, entry.value) for entry in metadata])

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        self.outcome = outcome
        if payload is not None:
            self._reader.feed(stream, payload, False, True)
        self._reader.finish(None if outcome is None else error_of(outcome))
        self.ended.set()

    def on_writable(self, stream: Stream) -> None: ...

    def on_cancel(self, stream: Stream) -> None: ...

    def cancel(self) -> None:
        self._link.cancel(self.stream)

    def send(self, value: Any, *, last: bool = False) -> None:
        assert self._codec is not None
        self._link.send(self.stream, self._codec.dumps(value), last=last)

    def half_close(self) -> None:
        self._link.send(self.stream, b"", last=True)

    async def next(self) -> Any:
        """The next result, decoded. Raises what the call ended with, StopAsyncIteration after the last result."""
        payload = await asyncio.wait_for(self._reader.get(), 60)
        return http_pb2.HttpResponse.FromString(payload) if self._codec is None else self._codec.loads(payload)

    async def all(self) -> list[Any]:
        items = []
        while True:
            try:
                items.append(await self.next())
            except StopAsyncIteration:
                return items

    async def error(self) -> BaseException:
        await asyncio.wait_for(self.ended.wait(), 60)
        assert self.outcome is not None, "the call succeeded"
        return error_of(self.outcome)


class Caller:
    """Calls methods over a link."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def open(
        self,
        method: str,
        *args: Any,
        codec: Codec = CLOUDPICKLE,
        answer_codec: Codec | None = None,
        stream: bool = False,
        broadcast: bool = False,
        reservation_id: str | None = None,
        timeout_s: float = 0,
        last: bool = True,
        payload: bytes | None = None,
        **kwargs: Any,
    ) -> Answer:
        answers = answer_codec or codec
        header = session_pb2.CallHeader(
            method=method,
            request_serialization=codec.serialization,
            response_serialization=answers.serialization,
            stream=stream,
            broadcast=broadcast,
            reservation_id=reservation_id,
            timeout_us=int(timeout_s * 1e6),
            request_id="r-1",
        )
        answer = Answer(self.link, answers)
        body = dump_arguments(codec, args, kwargs) if payload is None else payload
        answer.stream = self.link.open(header, body, answer, last=last)
        return answer

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        return await self.open(method, *args, **options).next()

    async def error(self, method: str, *args: Any, **options: Any) -> BaseException:
        return await self.open(method, *args, **options).error()

    def request(self, body: bytes = b"", handler: str = "", **fields: Any) -> Answer:
        """A HTTP request for a handler."""
        header = session_pb2.CallHeader(method=handler, request_serialization=HTTP, response_serialization=HTTP)
        message = http_pb2.HttpRequest(
            **{"method": "POST", "scheme": "http", "path": "/p", "raw_path": b"/p", "http_version": "1.1"} | fields,
            body=body,
        )
        answer = Answer(self.link, None)
        answer.stream = self.link.open(header, message.SerializeToString(), answer)
        return answer


class Stage:
    """A runtime with a caller before it."""

    def __init__(self, target: Any, *, max_ongoing_requests: int = 10, **options: Any) -> None:
        deployment = type(target).__name__
        labels = {"deployment": deployment, "replica": f"app#{deployment}#a"}
        options = {"application": "app", "labels": labels} | options
        self.runtime = Runtime(UserCallable(target), max_ongoing_requests=max_ongoing_requests, **options)
        self.loads: list[session_pb2.Load] = []
        opener, self._acceptor = link_pair(self.runtime.accept, load=self.runtime.load)
        self.caller = Caller(opener)

    async def close(self) -> None:
        await self.caller.link.close()
        self.runtime.pool.close()


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Waits for something that tells nobody when it happens."""

    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), timeout_s)
