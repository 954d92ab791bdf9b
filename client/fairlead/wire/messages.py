"""Whole messages of a stream of pieces, with flow control: an assembler and a reader for one call."""

from __future__ import annotations

import asyncio
from collections import deque

from fairlead.wire.errors import MessageTooLargeError
from fairlead.wire.stream import INITIAL_CREDIT, Stream, cost

MAX_MESSAGE = 1024 * 1024 * 1024
"""The default limit of one message, in bytes."""

WITHHELD = INITIAL_CREDIT // 4
"""Credit that a message of several pieces keeps until it is taken, so that only a few such messages can pile up."""


class MessageAssembler:
    """Joins pieces to messages. Pieces of a message that goes on are credited at once, so that any size passes.

    With ``withhold`` so many bytes of credit are kept back from each message, until it is taken: ``owed`` says how many
    there are to return for the message that :meth:`add` gave last. Without, it is the cost of the last piece.
    """

    __slots__ = ("_kept", "_parts", "_size", "limit", "owed", "withhold")

    def __init__(self, limit: int = MAX_MESSAGE, *, withhold: int = 0) -> None:
        self.limit = limit
        self.withhold = withhold
        self.owed = 0
        self._kept = 0
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, stream: Stream, payload: bytes, more: bool) -> bytes | None:
        """The message that this piece completes; None: it goes on. Raises MessageTooLargeError above the limit."""
        self._size += len(payload)
        if self._size > self.limit:
            self._parts.clear()
            raise MessageTooLargeError(f"a message of more than {self.limit} bytes")
        if more:
            self._parts.append(payload)
            amount = cost(payload)
            kept = min(amount, self.withhold - self._kept)
            self._kept += kept
            if amount > kept:
                stream.link.consumed(stream, amount - kept)
            return None
        self.owed = self._kept + cost(payload)
        self._size = self._kept = 0
        if not self._parts:
            return payload
        self._parts.append(payload)
        message = b"".join(self._parts)
        self._parts.clear()
        return message


class MessageReader:
    """The messages of one call, read one at a time. Belongs to the link's loop; one reader at a time.

    A message's credit is returned when it is taken, so a slow reader stops the sender.
    """

    __slots__ = ("_assembler", "_error", "_finished", "_messages", "_waiter")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._assembler = MessageAssembler(limit, withhold=WITHHELD)
        self._messages: deque[tuple[Stream, bytes, int]] = deque()
        self._finished = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, stream: Stream, payload: bytes, more: bool, last: bool = False) -> None:
        """Takes a piece. After ``last`` the messages end. An oversized message ends them with MessageTooLargeError."""
        if self._finished:
            return
        try:
            message = self._assembler.add(stream, payload, more)
        except MessageTooLargeError as error:
            self.finish(error)
            return
        if message is not None:
            self._messages.append((stream, message, self._assembler.owed))
            self._wake()
        if last:
            self.finish(None)

    def finish(self, error: BaseException | None) -> None:
        """No more messages come. Those that are here are still read; then ``error`` is raised, or the end reached."""
        if not self._finished:
            self._finished = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def get(self) -> bytes:
        """The next message. Raises StopAsyncIteration at the end, or the error that ended them."""
        while not self._messages:
            if self._finished:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        stream, message, amount = self._messages.popleft()
        stream.link.consumed(stream, amount)
        return message

    def __aiter__(self) -> MessageReader:
        return self

    async def __anext__(self) -> bytes:
        return await self.get()
