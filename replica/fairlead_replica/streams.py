"""Streams into and out of the user's code: the items that a caller sends, and those that a thread makes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fairlead.wire.codecs import Codec
from fairlead.wire.errors import InvalidArgumentsError
from fairlead.wire.messages import MAX_MESSAGE, MessageReader
from fairlead.wire.stream import Stream
from fairlead_replica.pool import Mailbox

_FULL_ITEMS = 64
_FULL_BYTES = 256 * 1024


class Inbound:
    """The items of a client stream, decoded: an asynchronous iterator, and for synchronous methods a plain one.

    Items that nobody takes stop the sender. One consumer at a time.
    """

    def __init__(self, codec: Codec, loop: asyncio.AbstractEventLoop, *, max_message: int = MAX_MESSAGE) -> None:
        self._codec = codec
        self._loop = loop
        self._reader = MessageReader(max_message)

    def feed(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """Takes a piece from the peer. On the loop."""
        self._reader.feed(stream, payload, more, last)

    def finish(self, error: BaseException | None) -> None:
        """No more comes; consumers get the error after what is here. On the loop."""
        self._reader.finish(error)

    def __aiter__(self) -> Inbound:
        return self

    async def __anext__(self) -> Any:
        """The next item. Raises InvalidArgumentsError for one that cannot be decoded."""
        while not (payload := await self._reader.get()):
            pass  # no codec makes nothing out of something: an empty last message is only a half-close
        return self._decoded(payload)

    def _decoded(self, payload: bytes) -> Any:
        try:
            return self._codec.loads(payload)
        except InvalidArgumentsError:  # it says what is wrong, and where
            raise
        except Exception as error:
            raise InvalidArgumentsError(
                f"an item of the stream is not valid {self._codec.name}: {type(error).__name__}: {error}"
            ) from error

    def __iter__(self) -> Inbound:
        return self

    def __next__(self) -> Any:
        """The next item, for a synchronous method in its thread."""
        try:
            return asyncio.run_coroutine_threadsafe(self.__anext__(), self._loop).result()
        except StopAsyncIteration:
            raise StopIteration from None


class Outbox:
    """Encoded items on their way from a thread to a stream. Full, it stops the thread until the peer has read."""

    def __init__(self, stream: Stream, mailbox: Mailbox) -> None:
        self._stream = stream
        self._mailbox = mailbox
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._room = threading.Event()
        self._room.set()
        self._scheduled = False
        self._blocked = False
        self._stopped = False
        self._then: Callable[[], None] | None = None

    def put(self, payload: bytes) -> bool:
        """Hands over an item, in the thread; waits for room. False: nobody wants more."""
        while not self._stopped and (len(self._items) >= _FULL_ITEMS or self._bytes >= _FULL_BYTES):
            self._room.clear()
            if self._stopped or (len(self._items) < _FULL_ITEMS and self._bytes < _FULL_BYTES):
                break  # it was made in between, by a loop that may not have seen the flag
            self._room.wait()
        if self._stopped:
            return False
        self._items.append(payload)
        self._bytes += len(payload)
        if not self._scheduled:
            self._scheduled = True
            self._mailbox.post(self._drain)
        return True

    def writable(self) -> None:
        """The stream takes more. On the loop."""
        self._blocked = False
        self._drain()

    def stop(self) -> None:
        """Nobody wants more: the thread hears of it at its next item. On the loop."""
        self._stopped = True
        self._blocked = False
        self._items.clear()
        self._room.set()
        self._finish()

    def close(self, then: Callable[[], None]) -> None:
        """Runs ``then`` when all that was put has gone out, or nobody wants it. On the loop, after the last put."""
        self._then = then
        self._drain()

    def _drain(self) -> None:
        self._scheduled = False
        items = self._items
        send = self._stream.link.send
        while items and not self._blocked:
            payload = items.popleft()
            self._blocked = not send(self._stream, payload)
        if not items:
            self._bytes = 0  # a put between the two lines is forgotten, which only lets a little more in
            if not self._blocked:
                self._finish()
        self._room.set()

    def _finish(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()
