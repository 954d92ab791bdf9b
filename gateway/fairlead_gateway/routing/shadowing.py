"""Calls whose copies go to shadows. A copy's answer, its errors and how long it takes are nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fairlead.v1 import session_pb2
from fairlead.wire.stream import cost
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.spread import Elsewhere, Spread

MAX_WAITING = 1000
"""Calls that may wait at a shadow; copies beyond that are not made."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of arguments that may wait at a shadow."""
MAX_BEHIND = 1024 * 1024
"""Bytes of a request that a shadow may be slower to take than the backend; then it is left out of that call."""
LONGEST_S = 60.0
"""Seconds that a copy may take where the call has no deadline."""


class Shadowed(Spread):
    """A call with shadows. They are sent their copies after the call itself has been admitted."""

    __slots__ = ("_complete", "_copies", "_first", "_shadows")

    def __init__(self, call: Call, elsewhere: Elsewhere, shadows: Sequence[Deployment]) -> None:
        """Takes the place of a call that nobody has seen yet."""
        super().__init__(call, elsewhere)
        self._first = call.payload
        self._shadows = shadows
        self._copies: list[_Copy] | None = None
        self._complete = call.last
        loop = asyncio.get_running_loop()
        # The turn after the next: the call itself is admitted in this one, and written at its end.
        loop.call_soon(loop.call_soon, self._start)

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Sends a further piece, to the backend first."""
        writable = super().send(payload, more=more, last=last)
        self._start()
        self._complete = self._complete or last
        for copy in self._copies or ():
            copy.follow(payload, more=more, last=last)
        return writable

    def finish(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The call is over. A request that is not complete will never be."""
        super().finish(outcome, payload)
        if not self._complete:
            for copy in self._copies or ():
                copy.cancel()

    def _start(self) -> None:
        if self._copies is not None:
            return
        self._copies = []
        first, self._first = self._first, b""
        if self.done and not self._complete:
            return
        for deployment in self._shadows:
            full = deployment.queued >= MAX_WAITING or deployment.queued_bytes >= MAX_WAITING_BYTES
            if not full and not deployment.unavailable:
                self._copies.append(_Copy(self, first, deployment))


class _Copy:
    """What a shadow gets of one call."""

    def __init__(self, original: Call, payload: bytes, deployment: Deployment) -> None:
        header = session_pb2.CallHeader()
        header.CopyFrom(original.header)
        header.application, header.deployment = deployment.application, deployment.name
        self._listener = _Nobody()
        self._behind = 0
        call = Call(header, payload, self._listener, Trust.OWNER, original.more, original.last)
        self._call = self._listener.call = call
        left_s = min(header.timeout_us * 1e-6, LONGEST_S) if header.timeout_us else LONGEST_S
        call.timer = asyncio.get_running_loop().call_later(left_s, call.expire)
        deployment.admit(call)

    def follow(self, payload: bytes, *, more: bool, last: bool) -> None:
        """Passes a further piece on; one that cannot keep up is given up."""
        if self._call.send(payload, more=more, last=last):
            self._behind = 0
            return
        self._behind += cost(payload)
        if self._behind > MAX_BEHIND:
            self.cancel()

    def cancel(self) -> None:
        """Gives it up."""
        self._call.cancel()


class _Nobody:
    """Takes answers, so that the shadow goes on, and drops them."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def on_message(self, payload: bytes, more: bool) -> None:
        if self.call is not None:
            self.call.consumed(cost(payload))

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        pass

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        self.call = None

    def on_writable(self) -> None:
        pass
