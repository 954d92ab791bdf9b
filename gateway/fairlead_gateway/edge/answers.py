"""The door's end of a call: the messages of the response, gathered from pieces, waited for, and acknowledged.

Credit goes back to the router when a message has left the door, so that a slow reader slows its own call down and
nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from fairlead.v1 import session_pb2
from fairlead.wire.errors import MessageTooLargeError, ResultNotSerializableError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import cost
from fairlead_gateway.routing.router import StartedCall


class Answer:
    """The response to one call: an asynchronous iterator of messages, then an outcome.

    One consumer at a time. ``limit``: the largest message in bytes; a larger one cancels the call.
    """

    __slots__ = (
        "_abandoned",
        "_call",
        "_ended",
        "_limit",
        "_messages",
        "_owed",
        "_pieces",
        "_released",
        "_size",
        "_waiter",
        "_writable",
        "metadata",
        "outcome",
    )

    def __init__(self, limit: int) -> None:
        self.outcome: session_pb2.Outcome | None = None
        """Why the call failed; None while it runs and after success."""
        self.metadata: session_pb2.Outcome | None = None
        """What a call came with at its end besides messages, failed or not; None: nothing."""
        self._limit = limit
        self._call: StartedCall | None = None
        self._abandoned = False
        self._released = False
        self._ended = False
        self._messages: deque[tuple[bytes, int]] = deque()
        self._pieces: list[bytes] | None = None
        self._size = 0
        self._owed = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the call is over; messages may still wait to be taken."""
        return self._ended

    @property
    def drained(self) -> bool:
        """Whether the call is over and every message has been taken."""
        return self._ended and not self._messages

    # -- the router's side

    def on_message(self, payload: bytes, more: bool) -> None:
        """See Downstream."""
        if self._ended:
            return
        if self._released:
            self._pay(cost(payload))
        elif not more and self._pieces is None:
            self._messages.append((payload, cost(payload)))
            self._wake()
        elif more:
            self._gather(payload)
        elif self._size + len(payload) > self._limit:
            self.fail(self._too_large())
        else:
            self._messages.append((self._join(payload), cost(payload)))
            self._wake()

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        """See Downstream: those that want it are ``edge.typed.answers``."""

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """See Downstream."""
        if self._ended:
            return
        self._ended = True
        self.metadata = outcome
        if outcome is not None and outcome.HasField("status") and not outcome.status.code:
            outcome = None  # it succeeded, and has metadata
        self.outcome = outcome
        if payload is not None and self._size + len(payload) > self._limit:
            self.outcome = outcome_of(self._too_large(), trusted=False)
        elif payload is not None:
            self._messages.append((payload if self._pieces is None else self._join(payload), 0))
        self._wake()
        self.on_writable()
        if self._released:  # nobody closes it any more
            self._call = None

    def on_writable(self) -> None:
        """See Downstream."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _gather(self, payload: bytes) -> None:
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(payload)
        self._size += len(payload)
        # A piece is paid back at once: a message may be larger than the credit.
        self._pay(cost(payload))
        if self._size > self._limit:
            self.fail(self._too_large())

    def _too_large(self) -> MessageTooLargeError:
        return MessageTooLargeError(f"a message of the result is larger than the limit of {self._limit} bytes")

    def _join(self, payload: bytes) -> bytes:
        pieces, self._pieces, self._size = self._pieces or [], None, 0
        pieces.append(payload)
        return b"".join(pieces)

    def _pay(self, amount: int) -> None:
        if self._call is None:
            self._owed += amount
        else:
            self._call.consumed(amount)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the door's side

    def attach(self, call: StartedCall) -> None:
        """Tells the answer its call, as soon as ``Router.start`` has returned it."""
        self._call = call
        if self._abandoned:
            call.cancel()
        elif self._owed:
            call.consumed(self._owed)

    def consumed(self, amount: int) -> None:
        """The message that came with this amount has left the door."""
        if amount and not self._ended:
            self._pay(amount)

    def fail(self, error: BaseException) -> None:
        """Ends the call from the door's side: cancels it and reports the error as its outcome."""
        if not self._ended:
            self.on_end(outcome_of(error, trusted=False), None)
            self._abandon()

    def release(self) -> None:
        """The answer is complete, though the call is not: it goes on by itself, and what it still says is dropped."""
        self._released = True

    def close(self) -> None:
        """The door is done, or its client gone: cancels the call if it still runs, and lets go of who waits for it."""
        if not self._ended and not self._released:
            self._ended = True
            self._messages.clear()
            self._abandon()
            self._wake()
            self.on_writable()
        if self._ended:
            self._call = None  # which holds this too: both would wait for the garbage collector

    def _abandon(self) -> None:
        self._abandoned = True
        if self._call is not None:
            self._call.cancel()

    async def next(self) -> tuple[bytes, int] | None:
        """The next message and what to give to :meth:`consumed` for it; None at the end, when ``outcome`` says why."""
        while not self._messages:
            if self._ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()

    async def writable(self) -> None:
        """Waits until the router takes further messages of the request, or the call is over."""
        if not self._ended:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    async def single(self) -> bytes:
        """The one message of a unary result; ``outcome`` is set if there is none, and the bytes are empty then."""
        entry = await self.next()
        if entry is None:
            if self.outcome is None:
                self.outcome = outcome_of(ResultNotSerializableError("the call ended without a result"), trusted=False)
            return b""
        while not self._ended:  # a unary result normally comes with the end of the call
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return entry[0]
