"""What precedes an answer: the rules of HEAD, and links that pass it on."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidCallError, ProtocolViolationError
from fairlead.wire.frames import MAX_FRAME_PAYLOAD, MAX_PIECE
from fairlead.wire.large_frames import LARGE_PAYLOAD
from fairlead.wire.session import EventKind, Session
from fairlead.wire.stream import INITIAL_CREDIT, Stream
from tests.wire.calls import PATIENCE, Caller
from tests.wire.conftest import Transport
from tests.wire.frame_making import HEADER, OWNER, accepted, frame, kinds, outcome, received, sent

METADATA = [session_pb2.Metadata(key="k", value=b"v"), session_pb2.Metadata(key="k-bin", value=b"\x00\xff")]


@pytest.fixture
def acceptor() -> Session:
    return Session(opener=False)


@pytest.fixture
def call(acceptor: Session) -> Stream:
    return accepted(acceptor)


@pytest.fixture
def opener() -> Session:
    session = Session(opener=True)
    session.open(HEADER, b"", OWNER, last=False)
    sent(session)
    return session


@pytest.mark.parametrize("metadata", [METADATA, []], ids=["some", "none"])
def test_a_head_goes_before_the_messages(acceptor, call, opener, metadata):
    acceptor.head(call, metadata)
    acceptor.send(call, b"message")
    acceptor.end(call)
    head, *rest = sent(acceptor)
    assert head == frame("HEAD", metadata=metadata)
    assert kinds(rest) == ["DATA", "END"]
    assert [kind for kind, _ in received(opener, head, *rest)] == [EventKind.HEAD, EventKind.MESSAGE, EventKind.ENDED]


def test_a_head_costs_no_credit(acceptor, call, opener):
    acceptor.head(call, METADATA)
    assert call.send_credit == INITIAL_CREDIT
    ((_, stream),) = received(opener, *sent(acceptor))
    assert stream.receive_credit == INITIAL_CREDIT


def test_a_head_alone_does_not_end_anything(acceptor, call, opener):
    acceptor.head(call, METADATA)
    received(opener, *sent(acceptor))
    acceptor.end(call, outcome())
    ((kind, _),) = received(opener, *sent(acceptor))
    assert kind is EventKind.ENDED


@pytest.mark.parametrize("before", ["a head", "a message", "an empty message", "a large message", "all credit"])
def test_it_is_too_late_after_a_head_or_a_message(acceptor, call, before):
    if before == "a head":
        acceptor.head(call, [])
    elif before == "all credit":  # which has been returned: nothing of the message can be seen any more
        acceptor.send(call, bytes(MAX_PIECE))
        acceptor.receive(frame("CREDIT", credit=INITIAL_CREDIT - call.send_credit))
        assert call.send_credit == INITIAL_CREDIT
    else:
        acceptor.send(call, bytes({"a message": 1, "an empty message": 0, "a large message": 5 * MAX_PIECE}[before]))
    before_that = sent(acceptor)
    with pytest.raises(InvalidCallError, match="too late"):
        acceptor.head(call, METADATA)
    assert before_that
    assert sent(acceptor) == []


def test_it_has_no_effect_when_nobody_waits_for_it(acceptor, call):
    acceptor.end(call)
    acceptor.head(call, METADATA)
    cancelled = accepted(acceptor, 2)
    acceptor.receive(frame("CANCEL", 2))
    acceptor.head(cancelled, METADATA)
    ending = accepted(acceptor, 3)
    acceptor.send(ending, bytes(5 * MAX_PIECE))
    acceptor.end(ending)
    acceptor.head(ending, METADATA)
    assert "HEAD" not in kinds(sent(acceptor))


def test_too_much_metadata_is_refused_and_the_call_goes_on(acceptor, call):
    with pytest.raises(InvalidCallError, match="the limit is"):
        acceptor.head(call, [session_pb2.Metadata(key="k-bin", value=bytes(MAX_FRAME_PAYLOAD))])
    acceptor.head(call, METADATA)
    assert kinds(sent(acceptor)) == ["HEAD"]


def test_a_second_head_is_a_violation(opener):
    received(opener, frame("HEAD"))
    with pytest.raises(ProtocolViolationError, match="HEAD for call 1 after its answer has begun"):
        opener.receive(frame("HEAD"))


def test_a_head_after_a_message_is_a_violation(opener):
    ((_, stream),) = received(opener, frame("DATA", payload=bytes(INITIAL_CREDIT)))
    opener.consumed(stream, INITIAL_CREDIT - stream.receive_credit)
    assert stream.receive_credit == INITIAL_CREDIT
    with pytest.raises(ProtocolViolationError, match="HEAD for call 1 after its answer has begun"):
        opener.receive(frame("HEAD"))


def test_the_opener_must_not_send_heads(acceptor, call):
    with pytest.raises(ProtocolViolationError, match="HEAD from the opener"):
        acceptor.receive(frame("HEAD"))


def test_the_head_of_a_cancelled_call_is_dropped_and_counted(opener):
    opener.cancel(opener.streams[1])
    assert received(opener, frame("HEAD")) == []
    with pytest.raises(ProtocolViolationError):
        opener.receive(frame("HEAD"))


# -- links


@pytest.mark.parametrize("size", [5, LARGE_PAYLOAD, MAX_PIECE], ids=["small", "large", "largest message"])
async def test_a_head_arrives_before_anything_else_is_sent(transport: Transport, size: int):
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "head first", bytes(size), last=False)
    assert await asyncio.wait_for(call.head, PATIENCE) == [("first", bytes(size))]
    assert not call.pieces  # it has come though the callee waits for the next message
    await call.writer.send(b"item", last=True)
    assert await call.get() == b"item"
    assert await call.outcome() is None
    assert opener.session.streams == acceptor.session.streams == {}
