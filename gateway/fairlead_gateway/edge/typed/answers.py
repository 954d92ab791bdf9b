"""The door's end of a typed method's call: initial metadata may precede the messages of the response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from fairlead.v1 import session_pb2
from fairlead_gateway.edge.answers import Answer

Head: TypeAlias = Sequence[session_pb2.Metadata]
"""Initial metadata."""


class TypedAnswer(Answer):
    """The response to one call, with its head. As Answer, for one consumer.

    ``send_head``: awaited, at most once, by whoever waits for the first message, as soon as the method has sent initial
    metadata; None: the head waits for the first message, or the end.
    """

    __slots__ = ("_due", "_send_head", "head")

    def __init__(self, limit: int, send_head: Callable[[Head], Awaitable[None]] | None = None) -> None:
        super().__init__(limit)
        self.head: Head = ()
        """The initial metadata that have come."""
        self._send_head = send_head
        self._due = False

    def on_head(self, metadata: Head) -> None:
        """See Downstream."""
        if not self._ended:
            self.head = [session_pb2.Metadata(key=entry.key, value=entry.value) for entry in metadata]
            self._due = True
            self._wake()

    async def next(self) -> tuple[bytes, int] | None:
        """See Answer. Raises what ``send_head`` raises."""
        while True:
            if self._due and self._send_head is not None:
                self._due = False
                await self._send_head(self.head)
            if self._messages:
                return self._messages.popleft()
            if self._ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
