"""A session that is alive: between a :class:`~fairlead.wire.session.Session`, the calls' owners and a transport.

Writing needs no timer: what queued up since the last write goes out as one packet as soon as the transport takes it.
A link belongs to the event loop it was made on, and none of its methods may be called from elsewhere. The transports
are :mod:`~fairlead.wire.local`, :mod:`~fairlead.wire.grpc_link` and :mod:`~fairlead.wire.memory`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.errors import (
    ConnectionLostError,
    FairleadError,
    GatewayDrainingError,
    InternalError,
    ProtocolViolationError,
    TooManyCallsError,
)
from fairlead.wire.frames import encode_load
from fairlead.wire.large_frames import Received, decode_packet
from fairlead.wire.outcomes import error_of, outcome_of
from fairlead.wire.session import EventKind, Session
from fairlead.wire.stream import CallOwner, Stream

logger = logging.getLogger(__name__)

Acceptor = Callable[[Stream, session_pb2.CallHeader, bytes, bool, bool], None]
"""Takes a call that the peer opened: ``(stream, header, payload, more, last)``. It sets ``stream.owner``."""

CONGESTED = 32 * 1024 * 1024
"""Bytes waiting to be written above which an acceptor reads nothing more from its peer."""

STALLED_AFTER = 60.0
"""Seconds without a write going through, while some wait, after which the peer is given up."""

FAREWELL = 1.0
"""Seconds that an opener gives its last packet to go out before it closes the connection."""

ENOUGH_CALLS = 16
"""Calls opened or ended that are written at once. What is less waits for the end of the loop's turn, so that one packet
carries it; if more waited, the peer could not work on the first of them meanwhile, on another core."""

ENOUGH_FRAMES = 64
"""Frames that are written at once."""

SMALL_PACKET = 32 * 1024
"""Bytes up to which a packet may be kept in memory by the header of one of its calls."""

_OPENED, _ENDED, _MESSAGE = EventKind.OPENED, EventKind.ENDED, EventKind.MESSAGE


class Link:
    """One end of a session, alive."""

    def __init__(
        self,
        *,
        acceptor: Acceptor | None = None,
        load: Callable[[], session_pb2.Load] | None = None,
        on_load: Callable[[session_pb2.Load], None] | None = None,
        name: str = "",
        max_calls: int | None = None,
    ) -> None:
        """Makes a link: an acceptor's with ``acceptor``, an opener's without.

        ``load`` is asked for a report with each packet that goes out; ``on_load`` hears of those that come in.
        """
        self.session = (
            Session(opener=acceptor is None)
            if max_calls is None
            else Session(opener=acceptor is None, max_calls=max_calls)
        )
        self.name = name
        self.load = load
        """Asked for a report with each packet that goes out; None: there are none."""
        self.on_packet: Callable[[], None] | None = None
        """Called after the frames of each packet were dispatched, and after the link was lost."""
        self.on_goodbye: Callable[[], None] | None = None
        """Called when the peer says that it takes no further calls."""
        self.on_outbox: Callable[[], None] | None = None
        """For transports that :meth:`take` packets when told: called when there is one to write, again when there is
        :attr:`enough` for one, and at the end."""
        self.on_close: Callable[[], Awaitable[None]] | None = None
        """For transports: ends what is under the link."""
        self._acceptor = acceptor
        self._on_load = on_load
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._writer: asyncio.Future[None] | None = None
        self._relief: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._closing = False
        self._told = False
        """Whether the transport knows of the outbox, and has not taken from it since."""
        self._keep_headers = True
        self._lost: FairleadError | None = None
        self._writes = 0
        self._watched_writes = -1
        self._watch: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Link {self.name!r} {'closed' if self.closed else 'open'} {self.session!r}>"

    # -- calls

    def open(
        self, header: session_pb2.CallHeader, payload: bytes, owner: CallOwner, *, more: bool = False, last: bool = True
    ) -> Stream:
        """Opens a call. Raises an error whose ``never_started`` is true if the link takes none."""
        session = self.session
        if self._lost is not None:
            raise GatewayDrainingError(f"the connection is closed: {self._lost.message}")
        if len(session.streams) >= session.max_calls:
            raise TooManyCallsError(f"the session carries {session.max_calls} calls already")
        stream = session.open(header, payload, owner, more, last)
        stream.link = self
        if not self._told or session.outbox.calls >= ENOUGH_CALLS:
            self._wake()
        return stream

    def send(self, stream: Stream, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Sends a message, or with ``more`` a piece of one. False: wait for ``on_writable`` before the next."""
        session = self.session
        sent = session.send(stream, payload, more, last)
        if not self._told or len(session.outbox.frames) >= ENOUGH_FRAMES:
            self._wake()
        return sent

    def head(self, stream: Stream, metadata: Iterable[session_pb2.Metadata]) -> None:
        """Says what precedes the answer of a call that was accepted; see :meth:`Session.head`."""
        session = self.session
        session.head(stream, metadata)
        if not self._told or len(session.outbox.frames) >= ENOUGH_FRAMES:
            self._wake()

    def end(self, stream: Stream, outcome: session_pb2.Outcome | None = None, payload: bytes | None = None) -> None:
        """Ends a call that was accepted. Harmless for one that has ended, or was lost."""
        session = self.session
        session.end(stream, outcome, payload)
        if not self._told or session.outbox.calls >= ENOUGH_CALLS:
            self._wake()
        if self._idle is not None:
            self._check_idle()

    def cancel(self, stream: Stream) -> None:
        """Gives up a call that was opened; its ``on_end`` still follows."""
        self.session.cancel(stream)
        self._wake()

    def consumed(self, stream: Stream, amount: int) -> None:
        """Returns credit for what was taken: the sum of :func:`~fairlead.wire.stream.cost` of its pieces."""
        self.session.consumed(stream, amount)
        self._wake()

    # -- life

    @property
    def closed(self) -> bool:
        """Whether the link is over."""
        return self._lost is not None

    @property
    def draining(self) -> bool:
        """Whether the peer takes no further calls."""
        return self._lost is not None or self.session.peer_refuses_above is not None

    @property
    def lost(self) -> FairleadError | None:
        """Why the link is over, if it is."""
        return self._lost

    async def wait_closed(self) -> None:
        """Returns when the link is over."""
        await asyncio.shield(self._closed)

    async def wait_idle(self) -> None:
        """Returns when no call is under way, or the link is over."""
        while self.session.streams and self._lost is None:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def report_load(self) -> None:
        """Sends a load report now, though there may be nothing else to send."""
        if self.load is not None and self._lost is None and not self.session.outbox.frames:
            self.session.outbox.put(b"")
            self._wake()

    def goodbye(self) -> None:
        """Says that no further calls are opened or accepted. Those under way go on."""
        self.session.goodbye()
        self._wake()

    async def close(self) -> None:
        """Ends the link, its calls with it."""
        self.lose(ConnectionLostError("the connection was closed"))
        if self.on_close is not None:
            await self.on_close()

    def fail(self, error: FairleadError) -> None:
        """Ends the session for a reason, which the peer is told."""
        if self._lost is None:
            session = self.session
            session.goodbye(outcome_of(error, trusted=False))
            farewell = session.outbox.frames[-1]  # the rest is of calls that are over with this
            assert isinstance(farewell, bytes)
            self.lose(error)
            session.outbox.put(farewell)
            self._wake(force=True)

    def lose(self, error: FairleadError) -> None:
        """The transport is gone: every call ends, openers' with ``error``. A second time: no effect."""
        if self._lost is not None:
            return
        self._lost = error
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        outcome = outcome_of(error, trusted=False)
        for stream in self.session.lose():
            if self.session.opener:
                self._tell(stream.let_go().on_end, stream, outcome, None)
            elif not stream.cancelled and stream.owner is not None:
                stream.cancelled = True
                self._tell(stream.let_go().on_cancel, stream)
        if not self._closed.done():
            self._closed.set_result(None)
        if self._relief is not None:
            self._relieve()
        if self._idle is not None:
            self._check_idle()
        self._wake(force=True)
        if self.on_packet is not None:
            self._tell(self.on_packet)

    @staticmethod
    def _tell(callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:  # its defect must not end the other calls
            logger.exception("a callback of the link raised")

    # -- the transport's side

    def _wake(self, force: bool = False) -> None:
        if not force and not self.session.outbox.frames:
            return
        if self.on_outbox is not None:
            self._told = True
            self.on_outbox()
            return
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            self._told = True
            writer.set_result(None)

    @property
    def enough(self) -> bool:
        """Whether so much waits to be written that it is not to wait for more."""
        session = self.session
        return session.outbox.calls >= ENOUGH_CALLS or len(session.outbox.frames) >= ENOUGH_FRAMES

    async def packet(self) -> bytes:
        """Waits for the next packet to write; empty: there will be none."""
        while not self.session.outbox.frames:
            if self._closing:
                return b""
            self._writer = writer = self._loop.create_future()
            await writer
        return self.take()

    def take(self) -> bytes:
        """The next packet to write; empty: there is none now."""
        return b"".join(self.take_parts())

    def take_parts(self) -> Sequence[bytes | memoryview]:
        """The same in parts, to be written one after the other: large payloads are not copied. Empty: none now."""
        session = self.session
        self._told = False
        if not session.outbox.frames:
            return ()
        self._writes += 1
        if self._watch is None and not self._closing:
            self._watch = self._loop.call_later(STALLED_AFTER, self._check_progress)
        parts = session.take_parts()
        if self._relief is not None and session.outbox.size < CONGESTED // 2:
            self._relieve()
        return parts if self.load is None else [*parts, encode_load(self.load())]

    def _check_progress(self) -> None:
        """A timer that runs only while packets go out: a peer that stopped reading is given up."""
        self._watch = None
        writing = self._writer is None if self.on_outbox is None else bool(self.session.outbox.frames)
        if writing and self._watched_writes == self._writes:
            self.lose(ConnectionLostError(f"the peer has not read anything for {STALLED_AFTER:.0f} s"))
            return
        self._watched_writes = self._writes
        if writing:
            self._watch = self._loop.call_later(STALLED_AFTER, self._check_progress)

    def _check_idle(self) -> None:
        if not self.session.streams and self._idle is not None:
            idle, self._idle = self._idle, None
            if not idle.done():
                idle.set_result(None)

    def _relieve(self) -> None:
        relief, self._relief = self._relief, None
        if relief is not None and not relief.done():
            relief.set_result(None)

    @property
    def congested(self) -> bool:
        """Whether so much waits to be written that nothing more is to be read: who does not read is not read from.

        Only an acceptor is: what it writes grows with the calls that it reads, while an opener opens its calls itself.
        If both ends stopped reading, each would wait for the other.
        """
        return self.session.outbox.size > CONGESTED and self._acceptor is not None and self._lost is None

    async def room(self) -> None:
        """Waits while the link is congested."""
        if self.congested:
            if self._relief is None:
                self._relief = self._loop.create_future()
            await asyncio.shield(self._relief)

    def receive(self, packet: bytes | memoryview) -> None:
        """Takes in a packet from the peer and tells the calls' owners. A violation ends the session.

        The packet's memory may be used for something else afterwards.
        """
        if self._lost is not None:
            return
        self._keep_headers = len(packet) <= SMALL_PACKET
        try:
            frames, load = decode_packet(packet)
            if load is not None and self._on_load is not None:
                # Before the frames: a refusal among them says more about the replica than its count does.
                self._tell(self._on_load, load)
            receive = self.session.receive
            for frame in frames:
                event = receive(frame)
                if event is not None:
                    self._dispatch(*event, frame)
        except ProtocolViolationError as violation:
            logger.warning("%s: the peer broke the session protocol: %s", self.name, violation)
            self.fail(violation)
            return
        if not self._told:
            self._wake()  # credit may have set something free
        if self._idle is not None:
            self._check_idle()
        if self.on_packet is not None:
            self._tell(self.on_packet)

    def _dispatch(self, kind: EventKind, stream: Stream | None, frame: Received) -> None:
        try:
            if stream is None:
                self._peer_goodbye()
            elif kind is _OPENED:
                self._accept(stream, frame)
            elif kind is _ENDED:
                if frame.has_payload:
                    stream.let_go().on_end(stream, None, frame.payload)
                else:
                    stream.let_go().on_end(stream, frame.outcome if frame.HasField("outcome") else None, None)
            elif kind is _MESSAGE:
                stream.owner.on_message(stream, frame.payload, frame.more, frame.last)
            elif kind is EventKind.WRITABLE:
                stream.owner.on_writable(stream)
            elif kind is EventKind.HEAD:
                stream.owner.on_head(stream, frame.metadata)
            else:
                stream.owner.on_cancel(stream)
        except Exception:  # an owner's defect must not end the other calls
            logger.exception("%s: the owner of %r raised; the call is ended", self.name, stream)
            if stream is not None:
                self._abandon(stream)

    def _abandon(self, stream: Stream) -> None:
        """Ends a call whose owner is broken, so that nobody waits for it."""
        if self.session.opener:
            self.session.cancel(stream)
        else:
            owner = stream.owner
            self.session.end(stream, outcome_of(InternalError("the call's owner failed"), trusted=False))
            if owner is not None:
                self._tell(owner.on_cancel, stream)
        self._wake()

    def _accept(self, stream: Stream, frame: Received) -> None:
        stream.link = self
        if len(self.session.streams) > self.session.max_calls:
            error = TooManyCallsError(f"the session carries {self.session.max_calls} calls already")
            self.end(stream, outcome_of(error, trusted=False))
            return
        assert self._acceptor is not None
        header = frame.header
        if not self._keep_headers:  # a header keeps the memory of its whole packet
            header = session_pb2.CallHeader()
            header.CopyFrom(frame.header)
        self._acceptor(stream, header, frame.payload, frame.more, frame.last)

    def _peer_goodbye(self) -> None:
        ended = self.session.ended
        if ended is not None:
            error = error_of(ended, trusted=False)
            self.lose(error if isinstance(error, FairleadError) else ConnectionLostError(str(error)))
            return
        outcome = outcome_of(GatewayDrainingError("the peer is draining; the call did not start"), trusted=False)
        for stream in self.session.drop_refused():
            self._tell(stream.let_go().on_end, stream, outcome, None)
        if self.on_goodbye is not None:
            self.on_goodbye()
