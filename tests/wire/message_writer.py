"""Sends messages as a user of the wire does."""

from __future__ import annotations

import asyncio

from fairlead.wire.stream import Stream


class MessageWriter:
    """Sends the messages of one call, waiting for credit. Belongs to the link's loop; one sender at a time."""

    __slots__ = ("_stream", "_waiter")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._waiter: asyncio.Future[None] | None = None

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        """Sends a message and returns when there is room for the next. Returns at once when the call is over."""
        stream = self._stream
        if not stream.link.send(stream, payload, last=last) and not stream.closed and not stream.cancelled:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def writable(self) -> None:
        """To be called by the call's owner in ``on_writable``, ``on_cancel`` and ``on_end``: wakes the sender."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
