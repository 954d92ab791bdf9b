"""Two ends of a link for tests: callers that wait for what they get, and callees that follow the method's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.link import Link
from fairlead.wire.messages import MessageReader
from fairlead.wire.stream import Stream
from tests.wire.message_writer import MessageWriter

PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""


def header(method: str = "echo", **fields: Any) -> session_pb2.CallHeader:
    return session_pb2.CallHeader(method=method, **fields)


async def until(condition: Callable[[], object]) -> None:
    """Waits, without a clock of its own, until something has come true on this loop."""

    async def turn() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(turn(), PATIENCE)


class Caller:
    """An opener's call. It takes messages as they come, or with ``reading=False`` when ``reader.get()`` is called."""

    def __init__(self) -> None:
        self.reader = MessageReader()
        self.head: asyncio.Future[list[tuple[str, bytes]]] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[session_pb2.Outcome | None] = asyncio.get_running_loop().create_future()
        self.ends = 0
        self.buffered = 0
        self.most_buffered = 0
        self.pieces = 0
        self.stream: Stream | None = None
        self.writer: MessageWriter | None = None

    def open(self, link: Link, method: str = "echo", payload: bytes = b"", *, last: bool = True) -> Caller:
        self.stream = link.open(header(method), payload, self, last=last)
        self.writer = MessageWriter(self.stream)
        return self

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.pieces += 1
        self.buffered += len(payload)
        self.most_buffered = max(self.most_buffered, self.buffered)
        self.reader.feed(stream, payload, more, last)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        self.head.set_result([(entry.key, entry.value) for entry in metadata])

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        self.ends += 1
        if payload is not None:
            self.buffered += len(payload)
            self.reader.feed(stream, payload, False, True)
        self.reader.finish(None)
        if self.writer is not None:
            self.writer.writable()
        if not self.ended.done():
            self.ended.set_result(outcome)

    def on_cancel(self, stream: Stream) -> None:
        raise AssertionError("openers are not cancelled")

    def on_writable(self, stream: Stream) -> None:
        assert self.writer is not None
        self.writer.writable()

    async def get(self) -> bytes:
        message = await asyncio.wait_for(self.reader.get(), PATIENCE)
        self.buffered -= len(message)
        return message

    async def outcome(self) -> session_pb2.Outcome | None:
        return await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)

    async def result(self) -> bytes:
        """The one message of a call that succeeded."""
        message = await self.get()
        assert await self.outcome() is None
        return message


class Callee:
    """An acceptor's call: what it does with messages is said by its method, see :class:`Service`."""

    def __init__(self, stream: Stream, method: str) -> None:
        self.stream = stream
        self.method = method
        self.reader = MessageReader()
        self.writer = MessageWriter(stream)
        self.cancelled = asyncio.Event()

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.reader.feed(stream, payload, more, last)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        raise AssertionError("openers send no heads")

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        raise AssertionError("openers do not end calls")

    def on_cancel(self, stream: Stream) -> None:
        self.cancelled.set()
        self.writer.writable()
        self.reader.finish(None)

    def on_writable(self, stream: Stream) -> None:
        self.writer.writable()


class Service:
    """Accepts calls: echo, echo each item, also after a head, count what comes, endless items, hold, and defects."""

    def __init__(self) -> None:
        self.calls: list[Callee] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        if header.method == "defect in the acceptor":
            raise RuntimeError("a defect in the acceptor")
        callee = (
            BrokenCallee(stream, header.method)
            if header.method == "defect in the owner"
            else Callee(stream, header.method)
        )
        stream.owner = callee
        self.calls.append(callee)
        callee.reader.feed(stream, payload, more, last)
        work = getattr(self, header.method.replace(" ", "_"), None)
        if work is not None:
            task = asyncio.create_task(work(callee))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def echo(self, callee: Callee) -> None:
        callee.stream.link.end(callee.stream, None, await callee.reader.get())

    async def echo_each(self, callee: Callee) -> None:
        async for item in callee.reader:
            await callee.writer.send(item)
        callee.stream.link.end(callee.stream)

    async def head_first(self, callee: Callee) -> None:
        first = await callee.reader.get()
        callee.stream.link.head(callee.stream, [session_pb2.Metadata(key="first", value=first)])
        await self.echo_each(callee)

    async def count(self, callee: Callee) -> None:
        total = 0
        async for item in callee.reader:
            total += len(item)
        callee.stream.link.end(callee.stream, None, str(total).encode())

    async def items(self, callee: Callee) -> None:
        await callee.reader.get()
        number = 0
        while not callee.cancelled.is_set():
            await callee.writer.send(number.to_bytes(4, "big") + bytes(64 * 1024))
            number += 1
        callee.stream.link.end(callee.stream)


class BrokenCallee(Callee):
    """Raises whenever it is called."""

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        raise RuntimeError("a defect in on_message")

    def on_cancel(self, stream: Stream) -> None:
        raise RuntimeError("a defect in on_cancel")


class BrokenCaller(Caller):
    """Raises whenever it is called, but knows the end."""

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        raise RuntimeError("a defect in on_message")

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        super().on_end(stream, outcome, payload)
        raise RuntimeError("a defect in on_end")
