"""What holds for sessions whatever their users do, in whatever order frames arrive, and whatever a peer sends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.v1 import session_pb2
from fairlead.wire.errors import GatewayDrainingError, InvalidCallError, ProtocolViolationError
from fairlead.wire.frames import MAX_FRAME_PAYLOAD, MAX_PIECE
from fairlead.wire.large_frames import decode_packet
from fairlead.wire.messages import WITHHELD, MessageAssembler
from fairlead.wire.session import EventKind, Session
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT, Stream, cost
from tests.wire.frame_making import HEADER, OWNER, accepted, outcome, sent

ONE_FRAME = MAX_PIECE + FRAME_COST
ALL_KINDS = [*session_pb2.FrameKind.values(), 99]
END_AND_HEAD = [session_pb2.FRAME_KIND_END, session_pb2.FRAME_KIND_HEAD]
METADATA = [session_pb2.Metadata(key="k", value=b"v")]
SIZES = [0, 1, 255, 5_000, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 2 * MAX_PIECE, INITIAL_CREDIT + 1, 700_000]
CASES = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking a script of this many steps takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass
class Direction:
    """The messages of one call in one direction, and the consumer at its end."""

    sent: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)
    assembler: MessageAssembler = field(default_factory=lambda: MessageAssembler(withhold=WITHHELD))
    untaken: deque[tuple[int, int]] = field(default_factory=deque)
    """Of each message that was not taken: the credit to return for it, and its size."""
    blocked: bool = False

    def take_in(self, session: Session, stream: Stream, payload: bytes, more: bool) -> None:
        stream.link = session  # all that an assembler asks of a link
        message = self.assembler.add(stream, payload, more)
        if message is not None:
            self.got.append(message)
            self.untaken.append((self.assembler.owed, len(message)))

    def check(self) -> None:
        assert self.got == self.sent[: len(self.got)]
        if self.assembler._parts:
            assert self.sent[len(self.got)].startswith(b"".join(self.assembler._parts))


@dataclass
class Call:
    opened: Stream
    accepted: Stream | None = None
    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)
    half_closed: bool = False
    heads: list[bytes] = field(default_factory=list)
    """The value in the head that was sent, if one was."""
    heads_heard: list[bytes] = field(default_factory=list)
    ended_with: str = ""
    ends_heard: int = 0


class TwoSessions(RuleBasedStateMachine):
    """An opener and an acceptor, and between them two queues that lose and reorder nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0

    @initialize()
    def connect(self) -> None:
        self.opener = Session(opener=True)
        self.acceptor = Session(opener=False)
        self.to_acceptor: deque[session_pb2.Frame] = deque()
        self.to_opener: deque[session_pb2.Frame] = deque()
        self.calls: dict[int, Call] = {}
        self.goodbye_said = False

    # -- the wire

    def pump(self) -> None:
        self.to_acceptor.extend(sent(self.opener))
        self.to_opener.extend(sent(self.acceptor))

    def deliver_up(self) -> None:
        frame = self.to_acceptor.popleft()
        event = self.acceptor.receive(frame)
        if event is not None:
            self.heard_by_acceptor(event[0], event[1], frame)
        self.pump()

    def deliver_down(self) -> None:
        frame = self.to_opener.popleft()
        event = self.opener.receive(frame)
        if event is not None:
            self.heard_by_opener(event[0], event[1], frame)
        self.pump()

    def heard_by_acceptor(self, kind: EventKind, stream: Stream | None, frame: session_pb2.Frame) -> None:
        if stream is None:
            assert kind is EventKind.GOODBYE
            return
        call = self.calls[stream.call_id]
        if kind is EventKind.OPENED:
            assert call.accepted is None
            call.accepted = stream
        assert call.accepted is stream
        if kind in (EventKind.OPENED, EventKind.MESSAGE):
            assert not call.ended_with
            call.up.take_in(self.acceptor, stream, frame.payload, frame.more)
        elif kind is EventKind.WRITABLE:
            assert stream.pending is None
            call.down.blocked = False
        else:
            assert kind is EventKind.CANCELLED
            assert call.opened.cancelled

    def heard_by_opener(self, kind: EventKind, stream: Stream | None, frame: session_pb2.Frame) -> None:
        if stream is None:
            for refused in self.opener.drop_refused():
                assert refused.never_started
                assert self.calls[refused.call_id].accepted is None
                self.calls[refused.call_id].ends_heard += 1
            return
        call = self.calls[stream.call_id]
        assert call.opened is stream
        if kind is EventKind.MESSAGE:
            assert not stream.cancelled
            assert call.heads_heard == call.heads, "the head comes before any message"
            call.down.take_in(self.opener, stream, frame.payload, frame.more)
        elif kind is EventKind.HEAD:
            assert not stream.cancelled
            assert not call.down.got
            assert call.down.assembler._parts == []
            call.heads_heard.extend(entry.value for entry in frame.metadata)
            assert call.heads_heard == call.heads
        elif kind is EventKind.WRITABLE:
            assert stream.pending is None
            call.up.blocked = False
        else:
            assert kind is EventKind.ENDED
            call.ends_heard += 1
            if frame.has_payload and not stream.cancelled:
                call.down.take_in(self.opener, stream, frame.payload, False)
            if not stream.cancelled:
                assert call.heads_heard == call.heads
            if call.ended_with == "success" and not stream.cancelled:
                assert call.down.got == call.down.sent
                assert call.down.assembler._parts == []

    # -- what users do

    def message(self, size: int) -> bytes:
        self.counter += 1
        return (self.counter.to_bytes(4, "big") * (size // 4 + 1))[:size]

    def pick(self, data: st.DataObject, calls: list[Call]) -> Call:
        return calls[data.draw(st.integers(0, len(calls) - 1))]

    def opened(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.opened.closed]

    def running(self) -> list[Call]:
        return [call for call in self.calls.values() if call.accepted is not None and not call.ended_with]

    @precondition(lambda self: not self.goodbye_said and len(self.opened()) < 6)
    @rule(size=st.sampled_from(SIZES), last=st.booleans())
    def open(self, size: int, last: bool) -> None:
        payload = self.message(size)
        stream = self.opener.open(HEADER, payload, OWNER, last=last)
        self.calls[stream.call_id] = Call(stream, half_closed=last)
        self.calls[stream.call_id].up.sent.append(payload)
        self.pump()

    @precondition(lambda self: any(not call.half_closed for call in self.opened()))
    @rule(data=st.data(), size=st.sampled_from(SIZES), last=st.booleans())
    def send_up(self, data: st.DataObject, size: int, last: bool) -> None:
        call = self.pick(data, [call for call in self.opened() if not call.half_closed])
        payload = self.message(size)
        if not call.opened.cancelled:
            call.up.sent.append(payload)
            call.half_closed = last
        call.up.blocked = not self.opener.send(call.opened, payload, last=last)
        self.pump()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def send_down(self, data: st.DataObject, size: int) -> None:
        call = self.pick(data, self.running())
        payload = self.message(size)
        if not call.accepted.cancelled:
            call.down.sent.append(payload)
        call.down.blocked = not self.acceptor.send(call.accepted, payload)
        self.pump()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), size=st.sampled_from([0, 5_000, 50_000]))
    def send_head(self, data: st.DataObject, size: int) -> None:
        call = self.pick(data, self.running())
        metadata = [session_pb2.Metadata(key="k", value=self.message(size))]
        if call.accepted.cancelled:
            self.acceptor.head(call.accepted, metadata)
        elif call.heads or call.down.sent:
            with pytest.raises(InvalidCallError):
                self.acceptor.head(call.accepted, metadata)
        else:
            self.acceptor.head(call.accepted, metadata)
            call.heads.append(metadata[0].value)
        self.pump()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), how=st.sampled_from(["success", "error"]), size=st.sampled_from([None, *SIZES]))
    def end(self, data: st.DataObject, how: str, size: int | None) -> None:
        call = self.pick(data, self.running())
        call.ended_with = how
        if how == "error":
            self.acceptor.end(call.accepted, outcome())
        else:
            payload = None if size is None else self.message(size)
            if payload is not None:
                call.down.sent.append(payload)
            self.acceptor.end(call.accepted, None, payload)
        self.acceptor.end(call.accepted, outcome(message="a second end has no effect"))
        self.pump()

    @precondition(lambda self: self.opened())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.opener.cancel(self.pick(data, self.opened()).opened)
        self.pump()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), up=st.booleans(), count=st.integers(1, 20))
    def consume(self, data: st.DataObject, up: bool, count: int) -> None:
        self.consume_some(self.pick(data, list(self.calls.values())), up, count)
        self.pump()

    def consume_some(self, call: Call, up: bool, count: int) -> bool:
        session, stream, direction = (
            (self.acceptor, call.accepted, call.up) if up else (self.opener, call.opened, call.down)
        )
        taken = 0
        while direction.untaken and taken < count:
            session.consumed(stream, direction.untaken.popleft()[0])
            taken += 1
        return taken > 0

    @precondition(lambda self: self.to_acceptor)
    @rule(count=st.integers(1, 12))
    def arrive_at_acceptor(self, count: int) -> None:
        for _ in range(min(count, len(self.to_acceptor))):
            self.deliver_up()

    @precondition(lambda self: self.to_opener)
    @rule(count=st.integers(1, 12))
    def arrive_at_opener(self, count: int) -> None:
        for _ in range(min(count, len(self.to_opener))):
            self.deliver_down()

    @precondition(lambda self: not self.goodbye_said and len(self.calls) > 2)
    @rule(by_opener=st.booleans())
    def say_goodbye(self, by_opener: bool) -> None:
        self.goodbye_said = True
        (self.opener if by_opener else self.acceptor).goodbye()
        self.pump()

    @precondition(lambda self: self.goodbye_said)
    @rule()
    def finish_and_reconnect(self) -> None:
        self.finish()
        self.connect()

    @precondition(lambda self: len(self.calls) > 3)
    @rule()
    def lose(self) -> None:
        expected = [call.opened for call in self.opened()]
        assert self.opener.lose() == expected
        for stream in self.acceptor.lose():
            assert self.calls[stream.call_id].accepted is stream
        for call in self.calls.values():
            for stream in (call.opened, call.accepted):
                assert stream is None or (stream.closed and stream.pending is None)
        assert self.opener.streams == self.acceptor.streams == {}
        with pytest.raises(GatewayDrainingError):
            self.opener.open(HEADER, b"", OWNER)
        self.connect()

    @precondition(lambda self: len(self.calls) > 3)
    @rule(data=st.data(), at_opener=st.booleans())
    def break_the_protocol(self, data: st.DataObject, at_opener: bool) -> None:
        """A malformed frame among the others is one error, changes no call, and ends the session."""
        session = self.opener if at_opener else self.acceptor
        malformed = data.draw(st.sampled_from(self.malformed(session)))
        before = snapshot(session)
        with pytest.raises(ProtocolViolationError):
            session.receive(malformed)
        assert snapshot(session) == before
        session.goodbye(outcome(3, "bad"))
        assert session.receive(malformed) is None
        self.lose()

    @staticmethod
    def malformed(session: Session) -> list[session_pb2.Frame]:
        never_opened = session.highest + 1
        frames = [session_pb2.Frame(kind=kind, call_id=never_opened) for kind in ALL_KINDS]
        for call_id in session.streams:
            wrong = END_AND_HEAD if not session.opener else [session_pb2.FRAME_KIND_CANCEL]
            frames += [
                session_pb2.Frame(kind=kind, call_id=call_id) for kind in (session_pb2.FRAME_KIND_OPEN, 99, *wrong)
            ]
            frames.append(session_pb2.Frame(kind=session_pb2.FRAME_KIND_CREDIT, call_id=call_id))
            frames.append(session_pb2.Frame(kind=session_pb2.FRAME_KIND_DATA, call_id=call_id, more=True, last=True))
        return frames

    # -- what holds

    @invariant()
    def nothing_is_lost_duplicated_or_reordered(self) -> None:
        for call in self.calls.values():
            call.up.check()
            call.down.check()

    @invariant()
    def memory_is_bounded(self) -> None:
        for call in self.calls.values():
            for direction in (call.up, call.down):
                assert sum(owed for owed, _ in direction.untaken) <= INITIAL_CREDIT + ONE_FRAME
                assert sum(size for _, size in direction.untaken) <= (INITIAL_CREDIT // WITHHELD + 1) * max(SIZES)
            for stream in (call.opened, call.accepted):
                if stream is not None:
                    assert stream.receive_credit > -ONE_FRAME
                    assert stream.send_credit > -ONE_FRAME

    @invariant()
    def credit_is_returned_for_what_was_taken_and_no_more(self) -> None:
        for call in self.calls.values():
            for stream, direction in ((call.accepted, call.up), (call.opened, call.down)):
                if stream is None or stream.closed or stream.cancelled or call.ended_with:
                    continue
                held = sum(owed for owed, _ in direction.untaken) + direction.assembler._kept
                assert stream.receive_credit + stream.ungranted + held == INITIAL_CREDIT

    @invariant()
    def both_ends_agree_on_credit(self) -> None:
        data_kinds = (session_pb2.FRAME_KIND_OPEN, session_pb2.FRAME_KIND_DATA)
        for call_id, call in self.calls.items():
            if call.accepted is None or call.opened.closed or call.accepted.closed:
                continue
            for sender, receiver, there, back in (
                (call.opened, call.accepted, self.to_acceptor, self.to_opener),
                (call.accepted, call.opened, self.to_opener, self.to_acceptor),
            ):
                data = sum(cost(f.payload) for f in there if f.call_id == call_id and f.kind in data_kinds)
                credit = sum(f.credit for f in back if f.call_id == call_id)
                assert sender.send_credit == receiver.receive_credit - data - credit

    @invariant()
    def closed_calls_leave_nothing(self) -> None:
        if not hasattr(self, "opener"):
            return
        for session in (self.opener, self.acceptor):
            for stream in session.streams.values():
                assert not stream.closed
        for call in self.calls.values():
            assert call.ends_heard == (1 if call.opened.closed else 0)
            if call.opened.closed:
                assert call.opened.pending is None

    def finish(self) -> None:
        """Consumers take everything and acceptors end their calls: then everything has to come to an end."""
        while self.settle():
            pass
        for call in self.calls.values():
            if call.accepted is None or call.accepted.closed:
                continue
            assert call.accepted.pending is None
            assert call.opened.pending is None
            if not call.opened.cancelled:
                assert not call.down.blocked
                assert not call.up.blocked
                assert call.up.got == call.up.sent
                assert call.down.got == call.down.sent
            self.acceptor.end(call.accepted)
            call.ended_with = "success"
        while self.settle():
            pass
        assert self.opener.streams == self.acceptor.streams == {}
        assert all(call.ends_heard == 1 for call in self.calls.values())

    def settle(self) -> bool:
        self.pump()
        busy = bool(self.to_acceptor or self.to_opener)
        while self.to_acceptor:
            self.deliver_up()
        while self.to_opener:
            self.deliver_down()
        for call in self.calls.values():
            busy |= self.consume_some(call, True, 10**6)
            busy |= self.consume_some(call, False, 10**6)
        return busy

    def teardown(self) -> None:
        if hasattr(self, "opener"):
            self.finish()


TwoSessions.TestCase.settings = CASES
TestTwoSessions = TwoSessions.TestCase


# -- peers that do not keep the rules

ids = st.one_of(st.integers(0, 6), st.sampled_from([2**32, 2**64 - 1]))
payloads = st.one_of(st.binary(max_size=300), st.sampled_from([bytes(MAX_PIECE), bytes(MAX_FRAME_PAYLOAD + 1)]))
outcomes = st.sampled_from([None, session_pb2.Outcome(), outcome(3, "bad")])
frames = st.builds(
    session_pb2.Frame,
    call_id=ids,
    kind=st.one_of(st.integers(0, 7), st.sampled_from([8, 99, -1, 2**31 - 1])),
    payload=payloads,
    more=st.booleans(),
    last=st.booleans(),
    has_payload=st.booleans(),
    header=st.sampled_from([None, HEADER]),
    outcome=outcomes,
    metadata=st.sampled_from([[], METADATA]),
    credit=st.sampled_from([0, 1, FRAME_COST, INITIAL_CREDIT, 2**31 - 1, 2**31, 2**32 - 1]),
)


def busy_session(opener: bool) -> Session:
    """A session with calls in many states."""
    session = Session(opener=opener)
    if opener:
        streams = [session.open(HEADER, b"x", OWNER, last=False) for _ in range(4)]
        session.cancel(streams[1])
        session.send(streams[2], bytes(5 * MAX_PIECE), last=True)
        session.receive(session_pb2.Frame(kind=session_pb2.FRAME_KIND_HEAD, call_id=4, metadata=METADATA))
    else:
        streams = [accepted(session, number, last=number == 4) for number in range(1, 5)]
        session.end(streams[0])
        session.head(streams[1], METADATA)
        session.send(streams[1], bytes(5 * MAX_PIECE))
        session.end(streams[1])
        session.receive(session_pb2.Frame(kind=session_pb2.FRAME_KIND_CANCEL, call_id=3))
    sent(session)
    return session


def snapshot(session: Session) -> list[tuple[Any, ...]]:
    return [
        tuple(list(value) if isinstance(value, deque) else value for value in (getattr(s, n) for n in Stream.__slots__))
        for s in session.streams.values()
    ]


@given(opener=st.booleans(), arriving=st.lists(frames, max_size=12))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_any_frames_are_taken_ignored_or_one_violation(opener: bool, arriving: list[session_pb2.Frame]):
    session = busy_session(opener)
    for frame in arriving:
        before = snapshot(session)
        try:
            session.receive(frame)
        except ProtocolViolationError:
            assert snapshot(session) == before
            break
        for stream in session.streams.values():
            assert not stream.closed
            assert stream.receive_credit > -MAX_FRAME_PAYLOAD - FRAME_COST
    sent(session)  # what it says is well-formed
    session.lose()
    assert session.streams == {}


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_a_packet_or_a_violation(packet: bytes):
    try:
        arrived, load = decode_packet(packet)
    except ProtocolViolationError:
        return
    assert load is None or load.sequence >= 0
    receive_all(arrived)


@given(position=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(0, 400))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_damaged_packets_are_packets_or_violations(position: int, value: int, cut: int):
    opener = Session(opener=True)
    for number in range(3):
        opener.cancel(opener.open(HEADER, bytes([number]) * 20, OWNER))
    opener.goodbye(outcome())
    packet = bytearray(opener.take())
    packet[position % len(packet)] = value
    del packet[len(packet) - cut % len(packet) :]
    try:
        arrived, _ = decode_packet(bytes(packet))
    except ProtocolViolationError:
        return
    receive_all(arrived)


def receive_all(arrived: Any) -> None:
    for opener in (False, True):
        session = busy_session(opener)
        try:
            for frame in arrived:
                session.receive(frame)
        except ProtocolViolationError:
            pass
        sent(session)
        session.lose()
        assert session.streams == {}
