"""The session door: calls that come as frames leave as frames, their payloads untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from fairlead.v1 import metrics_pb2, session_pb2
from fairlead.wire.errors import DeadlineExceededError
from fairlead.wire.grpc_link import session_handler
from fairlead.wire.link import Acceptor, Link
from fairlead.wire.local import LocalListener, listen_local
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import Stream, cost
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import BindError
from fairlead_gateway.edge.serving_headers import bound_deadline
from fairlead_gateway.routing.router import Router, StartedCall

UNREAD_AFTER = 60.0
"""Seconds that a caller may leave the single result of a call unread before the call is given up: it holds a replica's
slot. Streams may be read as slowly as their readers like."""


class SessionDoor:
    """Takes sessions: of gRPC listeners, whose handlers it gives, and of a Unix socket of its own.

    Knows the sessions that are alive.
    """

    def __init__(self, router: Router) -> None:
        self.links: set[Link] = set()
        self.report: Callable[[], metrics_pb2.MetricsReport] = metrics_pb2.MetricsReport
        """Makes the report that another worker asks for."""
        self._router = router
        self._listener: LocalListener | None = None

    async def listen_owner(self, path: str) -> str:
        """Listens on a plain Unix socket whose directory only the owner may enter. Returns its address.

        Raises BindError.
        """
        accept = self.acceptor(Trust.OWNER)
        try:
            self._listener = await listen_local(path, lambda _: accept, links=self.links)
        except OSError as error:
            raise BindError(f"cannot listen on {path}: {error.strerror or error}") from error
        return self._listener.address

    def handler(self, trust: Trust, longest_us: int = 0) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler for a listener whose peers are trusted that far; see :meth:`acceptor`."""
        accept = self.acceptor(trust, longest_us)
        return session_handler(lambda context: accept, links=self.links)

    def acceptor(self, trust: Trust, longest_us: int = 0) -> Acceptor:
        """What takes the calls of a link whose peer is trusted that far.

        ``longest_us``: microseconds that a call may take; 0: no limit.
        """
        router = self._router

        def accept(stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
            if header.metrics and trust is Trust.OWNER:
                stream.link.end(stream, None, self.report().SerializeToString())
                return
            if longest_us:
                bound_deadline(header, longest_us)
            _SessionCall(stream, router, header, payload, trust, more, last)

        return accept

    def goodbye(self) -> None:
        """Accepts no further calls on any session; those under way go on."""
        for link in self.links:
            link.goodbye()

    async def wait_idle(self) -> None:
        """Returns when no call is under way on any session."""
        await asyncio.gather(*(link.wait_idle() for link in self.links))

    async def close(self) -> None:
        """Ends all sessions, and removes the socket."""
        for link in list(self.links):
            await link.close()
        if self._listener is not None:
            await self._listener.close()


class _NotStarted:
    """Stands for a call while it is being started: answers may come before ``start()`` returns."""

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        return True

    def cancel(self) -> None: ...

    def consumed(self, amount: int) -> None: ...


_NOT_STARTED = _NotStarted()


class _SessionCall:
    """A call of a session: what comes from the opener goes to the router's call, and back."""

    __slots__ = ("call", "downstream", "owed")

    def __init__(
        self,
        stream: Stream,
        router: Router,
        header: session_pb2.CallHeader,
        payload: bytes,
        trust: Trust,
        more: bool,
        last: bool,
    ) -> None:
        stream.owner = self
        self.owed = 0
        self.downstream = _Answer(stream, self, header)
        self.call: StartedCall = _NOT_STARTED
        self.call = router.start(header, payload, self.downstream, trust=trust, more=more, last=last)
        if not last:  # the first piece has gone on: without its credit, what follows could come to a halt
            stream.link.consumed(stream, cost(payload))

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A further piece of the request: its credit is returned when it has gone on."""
        if self.call.send(payload, more=more, last=last):
            stream.link.consumed(stream, cost(payload))
        else:
            self.owed += cost(payload)

    def on_cancel(self, stream: Stream) -> None:
        """The caller gave up, or is gone."""
        self.downstream.stop_timer()
        self.call.cancel()

    def on_writable(self, stream: Stream) -> None:
        """The caller takes more of the answer."""
        downstream = self.downstream
        downstream.stop_timer()
        owed, downstream.owed = downstream.owed, 0
        self.call.consumed(owed)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        """Never called: openers send no heads."""

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """Never called: openers do not end calls."""


class _Answer:
    """The way back (Downstream)."""

    __slots__ = ("header", "owed", "request", "stream", "timer")

    def __init__(self, stream: Stream, request: _SessionCall, header: session_pb2.CallHeader) -> None:
        self.stream = stream
        self.request = request
        self.header = header
        self.owed = 0
        self.timer: asyncio.TimerHandle | None = None

    def on_message(self, payload: bytes, more: bool) -> None:
        """A piece of the answer: its credit is returned when it has gone out."""
        if self.stream.link.send(self.stream, payload, more=more):
            self.request.call.consumed(cost(payload))
            return
        self.owed += cost(payload)
        if self.timer is None and not (self.header.stream or self.header.broadcast):
            self.timer = asyncio.get_running_loop().call_later(UNREAD_AFTER, self._give_up)

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        """What precedes the answer."""
        self.stream.link.head(self.stream, metadata)

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The end. Nothing comes after it that the request's side would have to hear."""
        if self.timer is not None:
            self.stop_timer()
        stream = self.stream
        stream.link.end(stream, outcome, payload)
        del self.request  # which holds this too: both would wait for the garbage collector

    def on_writable(self) -> None:
        """The replica takes more of the request."""
        request = self.request
        owed, request.owed = request.owed, 0
        self.stream.link.consumed(self.stream, owed)

    def stop_timer(self) -> None:
        """The caller has read, or nobody waits for it any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _give_up(self) -> None:
        self.timer = None
        error = DeadlineExceededError(f"the caller has not read anything of the result for {UNREAD_AFTER:.0f} s")
        self.stream.link.end(self.stream, outcome_of(error, trusted=False))
        self.request.call.cancel()
