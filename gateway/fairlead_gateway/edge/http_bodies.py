"""Bodies that come in pieces: how much of them may be here, and until when there must be more. No I/O, no clock.

A body that comes in one piece with its head has nothing to do with any of this.
"""

from __future__ import annotations

import enum
from typing import Protocol

from fairlead_gateway.edge.http_limits import HttpLimits


class Cycle(Protocol):
    """As much of uvicorn's request as counts here."""

    response_complete: bool
    """Whether it is answered: what still comes is dropped."""


class Excess(enum.Enum):
    """What a body is too much of."""

    FRAMING = enum.auto()
    """It brings nothing but framing or trailers; or it was answered long ago."""
    TOGETHER = enum.auto()
    """With the bodies on other connections it is more than there is room for."""


class Incoming:
    """The bodies that are coming in on all connections of a door."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0
        """Bytes of them that are here."""


class BodyWatch:
    """The body that one connection is sending. Times are seconds of one clock."""

    __slots__ = ("_bytes", "_held", "_idle", "_incoming", "_limits", "_since", "cycle")

    def __init__(self, limits: HttpLimits, incoming: Incoming) -> None:
        self.cycle: Cycle | None = None
        """Whose body it is; None: none is coming."""
        self._limits = limits
        self._incoming = incoming
        self._since = 0.0
        self._bytes = self._held = self._idle = 0

    def begin(self, cycle: Cycle, now: float) -> None:
        """A body has begun, in place of the one before."""
        self.end()
        self.cycle, self._since = cycle, now
        self._bytes = self._idle = 0

    def add(self, amount: int, *, grew: bool, streams: bool) -> Excess | None:
        """So many bytes have come; what it is too much of then, if anything.

        ``grew``: whether there is more of the body than before. ``streams``: whether it is taken as it comes, as fast
        as its reader can.
        """
        cycle, limits = self.cycle, self._limits
        assert cycle is not None
        self._bytes += amount
        self._idle = 0 if grew else self._idle + amount
        if self._idle > (limits.max_body_bytes if cycle.response_complete else limits.max_head_bytes):
            return Excess.FRAMING
        if streams or cycle.response_complete:
            self._let_go()
            return None
        self._held += amount
        self._incoming.held += amount
        return Excess.TOGETHER if self._incoming.held > limits.max_incoming_bytes else None

    def excuse(self, now: float) -> None:
        """It is not the client that does not go on: its time begins anew."""
        self._since = now

    @property
    def due(self) -> float:
        """When it must be complete, or have gone on."""
        return self._since + self._limits.body_timeout_s + self._bytes / self._limits.min_body_rate

    def end(self) -> None:
        """It is complete, or will never be."""
        self.cycle = None
        self._let_go()

    def _let_go(self) -> None:
        self._incoming.held -= self._held
        self._held = 0
