"""A call on a session: its credit and where it stands, and who hears of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from fairlead.v1 import session_pb2

INITIAL_CREDIT = 256 * 1024
"""Bytes of DATA that each end of a call may send before the other returns credit."""

FRAME_COST = 256
"""What a frame costs beyond its payload, so that many small messages are bounded too."""


def cost(payload: bytes | memoryview) -> int:
    """The credit that a frame with this payload costs."""
    return len(payload) + FRAME_COST


class CallOwner(Protocol):
    """Whoever uses a call hears of it through these. They are called on the link's loop and neither block nor raise."""

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A message, or with ``more`` (now or the time before) a piece of one. After ``last`` none follows."""

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        """What precedes the answer, opener only: at most once, and before any message.

        ``metadata`` keep the memory of the packet that they came in: who wants them for longer copies them.
        """

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The call is over, exactly once, opener only. ``outcome`` None: success; ``payload``: the last message."""

    def on_cancel(self, stream: Stream) -> None:
        """The opener gave up, or the session was lost; acceptor only. The acceptor still ends the call."""

    def on_writable(self, stream: Stream) -> None:
        """All that was handed over has gone out; there is credit for more."""


class Stream:
    """One call on one session. Its fields are the session's; users read ``call_id``, ``owner`` and ``link``."""

    __slots__ = (
        "call_id",
        "cancelled",
        "closed",
        "end_waiting",
        "link",
        "never_started",
        "owner",
        "pending",
        "receive_credit",
        "received_last",
        "send_credit",
        "sent_last",
        "ungranted",
    )

    def __init__(self, call_id: int, owner: CallOwner | None, send_credit: int, receive_credit: int) -> None:
        self.call_id = call_id
        self.owner: CallOwner = owner  # type: ignore[assignment]  # the acceptor sets it before anything else arrives
        self.link: Any = None
        self.send_credit = send_credit
        self.receive_credit = receive_credit
        self.ungranted = 0
        self.pending: deque[tuple[bytes | memoryview, bool, bool]] | None = None
        self.end_waiting: tuple[bytes | memoryview | None] | None = None
        self.sent_last: bool | None = None
        """Whether the last message was sent. An acceptor's is None until the answer has begun: then a head may go."""
        self.received_last: bool | None = None
        """Whether the last message came. An opener's is None until the answer has begun: then a head may come."""
        self.cancelled = False
        self.closed = False
        self.never_started = False

    def let_go(self) -> CallOwner:
        """Gives the owner up, and returns it: it holds the stream too, and the two would keep each other alive."""
        owner = self.owner
        self.owner = None  # type: ignore[assignment]  # nothing comes for it any more
        return owner

    def __repr__(self) -> str:
        state = "closed" if self.closed else "cancelled" if self.cancelled else "open"
        return f"<Stream {self.call_id} {state} send_credit={self.send_credit} receive_credit={self.receive_credit}>"
