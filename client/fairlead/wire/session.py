"""The session protocol as a state machine: ``session.proto`` is its specification.

Pure: no I/O, no clock, no asyncio. Frames come in through :meth:`Session.receive`, which says what happened; what goes
out is queued by the other methods and fetched with :meth:`Session.take`. One object serves one end of one session.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from fairlead.v1 import session_pb2
from fairlead.wire.errors import GatewayDrainingError, InvalidCallError, ProtocolViolationError
from fairlead.wire.frames import (
    MAX_FRAME_PAYLOAD,
    MAX_PIECE,
    encode_data,
    encode_end,
    encode_frame,
    encode_open,
)
from fairlead.wire.large_frames import LARGE_PAYLOAD, Received, encode_large_frame
from fairlead.wire.outbox import Outbox
from fairlead.wire.pieces import hold, put_large_data, send_held
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT, CallOwner, Stream

MAX_CREDIT = 2**31 - 1
MAX_CALLS = 100_000
"""Calls that a session carries at once."""

_GRANT_AT = INITIAL_CREDIT // 2

_OPEN = session_pb2.FRAME_KIND_OPEN
_DATA = session_pb2.FRAME_KIND_DATA
_END = session_pb2.FRAME_KIND_END
_CANCEL = session_pb2.FRAME_KIND_CANCEL
_CREDIT = session_pb2.FRAME_KIND_CREDIT
_GOODBYE = session_pb2.FRAME_KIND_GOODBYE
_HEAD = session_pb2.FRAME_KIND_HEAD
_Frame = session_pb2.Frame


class EventKind(enum.IntEnum):
    """What a received frame meant."""

    OPENED = 1
    MESSAGE = 2
    ENDED = 3
    CANCELLED = 4
    WRITABLE = 5
    GOODBYE = 6
    HEAD = 7


Event: TypeAlias = tuple[EventKind, Stream | None]
"""What a received frame meant, and for which call."""

_OPENED, _MESSAGE, _ENDED, _CANCELLED, _WRITABLE = (EventKind(n) for n in range(1, 6))


class Session:
    """One end of a session."""

    def __init__(self, *, opener: bool, max_calls: int = MAX_CALLS) -> None:
        self.opener = opener
        self.max_calls = max_calls
        self.streams: dict[int, Stream] = {}
        self.highest = 0
        """The highest call id opened so far."""
        self.refusing_above: int | None = None
        """Set by :meth:`goodbye`: calls above are not accepted."""
        self.peer_refuses_above: int | None = None
        """Set by the peer's GOODBYE."""
        self.ended: session_pb2.Outcome | None = None
        """Set when either end finished the session with a reason."""
        self.outbox = Outbox()
        """What is to be written."""
        self._unwritten: list[Stream] = []

    def __repr__(self) -> str:
        role = "opener" if self.opener else "acceptor"
        return f"<Session {role} calls={len(self.streams)} highest={self.highest} outbox={self.outbox.size}B>"

    # -- outgoing

    def open(
        self, header: session_pb2.CallHeader, payload: bytes, owner: CallOwner, more: bool = False, last: bool = True
    ) -> Stream:
        """Opens a call.

        Raises GatewayDrainingError if either end has said goodbye, InvalidCallError for a header too large for a frame.
        """
        if self.peer_refuses_above is not None or self.refusing_above is not None or self.ended is not None:
            raise GatewayDrainingError("the session takes no further calls: one of its ends has said goodbye")
        call_id = self.highest + 1
        size = len(payload)
        rest: memoryview | None = None
        if size < LARGE_PAYLOAD:
            data = encode_open(call_id, header, payload, more, last)
            if len(data) > MAX_FRAME_PAYLOAD:
                raise _header_too_large()
            self.outbox.put(data)
        else:
            piece: bytes | memoryview = payload
            if size > MAX_PIECE:
                view = memoryview(payload)
                piece, rest, size = view[:MAX_PIECE], view[MAX_PIECE:], MAX_PIECE
            whole = rest is None
            frame = _Frame(call_id=call_id, kind=_OPEN, more=more or not whole, last=last and whole, header=header)
            large = encode_large_frame(frame, piece)
            if large.size > MAX_FRAME_PAYLOAD:
                raise _header_too_large()
            self.outbox.put_large(large)
        self.outbox.calls += 1
        self.highest = call_id
        stream = Stream(call_id, owner, INITIAL_CREDIT, INITIAL_CREDIT)
        self.streams[call_id] = stream
        self._unwritten.append(stream)
        stream.send_credit -= size + FRAME_COST
        if rest is None:
            stream.sent_last = last
        else:
            self._hold(stream, rest, more, last)
        return stream

    def send(self, stream: Stream, payload: bytes, more: bool = False, last: bool = False) -> bool:
        """Sends a message, or with ``more`` a piece of one. False: it waits for credit, and so must the next."""
        if stream.closed or stream.cancelled or stream.sent_last:
            return True
        size = len(payload)
        if stream.pending is None and stream.send_credit > 0 and size <= MAX_PIECE:
            stream.send_credit -= size + FRAME_COST
            stream.sent_last = last
            if size < LARGE_PAYLOAD:
                self.outbox.put(encode_data(stream.call_id, payload, more, last))
            else:
                put_large_data(self.outbox, stream, payload, more, last)
            return True
        self._hold(stream, payload, more, last)
        return stream.pending is None

    def _hold(self, stream: Stream, payload: bytes | memoryview, more: bool, last: bool) -> None:
        """Sends a message in pieces, or when there is credit."""
        hold(stream, payload, more, last)
        if stream.send_credit > 0:
            self._flush(stream)

    def _flush(self, stream: Stream) -> bool:
        """Sends what waits, as far as credit goes. Whether all of it went."""
        if not send_held(stream, self.outbox):
            return False
        if stream.end_waiting is not None:
            self._finish(stream, None, stream.end_waiting[0])
        return True

    def head(self, stream: Stream, metadata: Iterable[session_pb2.Metadata]) -> None:
        """Says, as a call's acceptor, what precedes its answer. No effect if the call has ended, or its opener gave up.

        Raises InvalidCallError after a message or a first head, and for more metadata than a frame may carry.
        """
        if stream.closed or stream.cancelled or stream.end_waiting is not None:
            return
        if stream.sent_last is not None:
            raise InvalidCallError(f"the answer of call {stream.call_id} has begun: it is too late for its head")
        data = encode_frame(_Frame(call_id=stream.call_id, kind=_HEAD, metadata=metadata))
        if len(data) > MAX_FRAME_PAYLOAD:
            raise InvalidCallError(f"initial metadata of {len(data)} bytes; the limit is {MAX_FRAME_PAYLOAD}")
        stream.sent_last = False
        self.outbox.put(data)

    def end(self, stream: Stream, outcome: session_pb2.Outcome | None = None, payload: bytes | None = None) -> None:
        """Ends a call, as its acceptor: at once with an outcome, after what waits without. A second time: no effect."""
        if stream.closed or stream.end_waiting is not None:
            return
        if outcome is not None:
            self._finish(stream, outcome, None)
            return
        if payload is not None and len(payload) > MAX_PIECE:
            if stream.cancelled:  # the opener takes nothing any more: no credit would come for the rest
                self._finish(stream, None, None)
                return
            view = memoryview(payload)
            tail = len(view) - (len(view) % MAX_PIECE or MAX_PIECE)
            self._hold(stream, view[:tail], True, False)
            if stream.pending is None:
                self._finish(stream, None, view[tail:])
            else:
                stream.end_waiting = (view[tail:],)
        elif stream.pending is None:
            self._finish(stream, None, payload)
        else:
            stream.end_waiting = (payload,)

    def _finish(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | memoryview | None) -> None:
        stream.pending = None
        stream.closed = True
        stream.let_go()
        self.outbox.calls += 1
        del self.streams[stream.call_id]
        if payload is None:
            self.outbox.put(encode_frame(_Frame(call_id=stream.call_id, kind=_END, outcome=outcome)))
        elif len(payload) < LARGE_PAYLOAD:
            self.outbox.put(encode_end(stream.call_id, bytes(payload)))
        else:
            frame = _Frame(call_id=stream.call_id, kind=_END, has_payload=True)
            self.outbox.put_large(encode_large_frame(frame, payload))

    def cancel(self, stream: Stream) -> None:
        """Gives up a call, as its opener. Its end still follows."""
        if stream.closed or stream.cancelled:
            return
        stream.cancelled = True
        stream.pending = None
        self.outbox.put(encode_frame(_Frame(call_id=stream.call_id, kind=_CANCEL)))

    def consumed(self, stream: Stream, amount: int) -> None:
        """Returns credit to the peer for DATA that has been taken: the sum of its frames' costs."""
        stream.ungranted += amount
        if stream.ungranted >= _GRANT_AT and not stream.closed and not stream.received_last:
            stream.receive_credit += stream.ungranted
            self.outbox.put(encode_frame(_Frame(call_id=stream.call_id, kind=_CREDIT, credit=stream.ungranted)))
            stream.ungranted = 0

    def goodbye(self, outcome: session_pb2.Outcome | None = None) -> None:
        """Takes (acceptor) or opens (opener) no further calls; with an outcome, ends the session for that reason."""
        if self.ended is not None or (outcome is None and self.refusing_above is not None):
            return
        self.refusing_above = self.highest
        self.ended = outcome
        self.outbox.put(encode_frame(_Frame(call_id=self.highest, kind=_GOODBYE, outcome=outcome)))

    def take(self) -> bytes:
        """What is to be written now, as one packet; empty if there is nothing."""
        return b"".join(self.take_parts())

    def take_parts(self) -> Sequence[bytes | memoryview]:
        """The same in parts, to be written one after the other: large payloads are not copied. Empty: nothing."""
        self._unwritten.clear()
        return self.outbox.take()

    # -- incoming

    def receive(self, frame: Received) -> Event | None:
        """Takes in a frame and says what it meant; None: nothing for anybody. Raises ProtocolViolationError."""
        kind = frame.kind
        call_id = frame.call_id
        if self.ended is not None:
            return None
        if kind == _OPEN:
            return self._opened(frame, call_id)
        if kind == _GOODBYE:
            return self._goodbye(frame, call_id)
        stream = self.streams.get(call_id)
        if stream is None:
            if call_id == 0 or call_id > self.highest:
                raise ProtocolViolationError(f"a frame of kind {kind} for call {call_id}, which was never opened")
            return None  # it crossed an END
        if kind == _DATA:
            return self._data(frame, stream)
        if kind == _END:
            return self._end(frame, stream)
        if kind == _CREDIT:
            return self._credit(frame, stream)
        if kind == _CANCEL:
            return self._cancel(stream)
        if kind == _HEAD:
            return self._head(stream)
        raise ProtocolViolationError(f"a frame of unknown kind {kind} for call {call_id}")

    def _opened(self, frame: Received, call_id: int) -> Event | None:
        if self.opener:
            raise ProtocolViolationError("OPEN from the acceptor of a session")
        if call_id != self.highest + 1:
            raise ProtocolViolationError(f"OPEN for call {call_id}; the next one is {self.highest + 1}")
        if self.peer_refuses_above is not None:
            raise ProtocolViolationError(f"OPEN for call {call_id} after GOODBYE")
        self.highest = call_id
        if not frame.HasField("header"):
            raise ProtocolViolationError(f"OPEN for call {call_id} without a header")
        if self.refusing_above is not None:
            return None  # it crossed our GOODBYE, which tells the opener that it did not start
        stream = Stream(call_id, None, INITIAL_CREDIT, INITIAL_CREDIT - self._cost(frame))
        stream.received_last = frame.last
        self.streams[call_id] = stream
        return _OPENED, stream

    def _data(self, frame: Received, stream: Stream) -> Event | None:
        if stream.received_last:
            raise ProtocolViolationError(f"DATA for call {stream.call_id} after its last message")
        if stream.receive_credit <= 0:
            raise ProtocolViolationError(f"DATA for call {stream.call_id} beyond its credit")
        stream.receive_credit -= self._cost(frame)
        stream.received_last = frame.last
        return None if stream.cancelled or stream.end_waiting is not None else (_MESSAGE, stream)

    def _head(self, stream: Stream) -> Event | None:
        if not self.opener:
            raise ProtocolViolationError("HEAD from the opener of a session")
        if stream.received_last is not None:
            raise ProtocolViolationError(f"HEAD for call {stream.call_id} after its answer has begun")
        stream.received_last = False
        return None if stream.cancelled else (EventKind.HEAD, stream)

    def _end(self, frame: Received, stream: Stream) -> Event:
        if not self.opener:
            raise ProtocolViolationError("END from the opener of a session")
        if frame.has_payload:
            if len(frame.payload) > MAX_FRAME_PAYLOAD:
                raise ProtocolViolationError(
                    f"END for call {stream.call_id} with {len(frame.payload)} bytes, over the limit"
                )
            if frame.HasField("outcome"):
                raise ProtocolViolationError(f"END for call {stream.call_id} with both an outcome and a payload")
        stream.closed = True
        stream.pending = None
        del self.streams[stream.call_id]
        return _ENDED, stream

    def _credit(self, frame: Received, stream: Stream) -> Event | None:
        if not 0 < frame.credit <= MAX_CREDIT or stream.send_credit + frame.credit > MAX_CREDIT:
            raise ProtocolViolationError(f"CREDIT of {frame.credit} for call {stream.call_id}")
        stream.send_credit += frame.credit
        if stream.pending is not None and self._flush(stream) and not stream.closed:
            return _WRITABLE, stream
        return None

    def _cancel(self, stream: Stream) -> Event | None:
        if self.opener:
            raise ProtocolViolationError("CANCEL from the acceptor of a session")
        if stream.cancelled:
            raise ProtocolViolationError(f"a second CANCEL for call {stream.call_id}")
        stream.cancelled = True
        stream.pending = None
        if stream.end_waiting is not None:  # its owner is done with it
            self._finish(stream, None, None)
            return None
        return _CANCELLED, stream

    def _goodbye(self, frame: Received, call_id: int) -> Event:
        if frame.HasField("outcome"):
            self.ended = frame.outcome
        elif call_id > self.highest:
            raise ProtocolViolationError(f"GOODBYE at call {call_id}, which was never opened")
        elif self.peer_refuses_above is not None:
            raise ProtocolViolationError("a second GOODBYE")
        if self.peer_refuses_above is None:
            self.peer_refuses_above = call_id
        return EventKind.GOODBYE, None

    @staticmethod
    def _cost(frame: Received) -> int:
        size = len(frame.payload)
        if size > MAX_FRAME_PAYLOAD:
            raise ProtocolViolationError(f"a frame with {size} bytes of payload; the limit is {MAX_FRAME_PAYLOAD}")
        if frame.more and frame.last:
            raise ProtocolViolationError("a frame with both more and last")
        return size + FRAME_COST

    # -- the end of things

    def drop_refused(self) -> list[Stream]:
        """After the acceptor's GOODBYE: removes the calls that it did not take. They did not start."""
        limit = self.peer_refuses_above
        if not self.opener or limit is None:
            return []
        dropped = [stream for call_id, stream in self.streams.items() if call_id > limit]
        for stream in dropped:
            stream.never_started = True
            self._forget(stream)
        return dropped

    def lose(self) -> list[Stream]:
        """The stream under the session is gone: removes all calls.

        Those whose OPEN was never written, or which the acceptor's GOODBYE leaves out, did not start.
        """
        limit = self.peer_refuses_above if self.opener else None
        for stream in self._unwritten:
            stream.never_started = True
        self._unwritten.clear()
        streams = list(self.streams.values())
        for stream in streams:
            if limit is not None and stream.call_id > limit:
                stream.never_started = True
            self._forget(stream)
        self.outbox.clear()
        if self.ended is None:
            self.ended = session_pb2.Outcome()
        return streams

    def _forget(self, stream: Stream) -> None:
        stream.closed = True
        stream.pending = None
        del self.streams[stream.call_id]


def _header_too_large() -> InvalidCallError:
    return InvalidCallError(f"the call's header, its metadata included, has more than {MAX_FRAME_PAYLOAD} bytes")
