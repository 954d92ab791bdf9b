"""The rules of session.proto, frame by frame."""

from __future__ import annotations

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import GatewayDrainingError, InvalidCallError, ProtocolViolationError
from fairlead.wire.frames import MAX_FRAME_PAYLOAD, MAX_PACKET, MAX_PIECE
from fairlead.wire.large_frames import decode_packet
from fairlead.wire.session import MAX_CREDIT, EventKind, Session
from fairlead.wire.stream import FRAME_COST, INITIAL_CREDIT, cost
from tests.wire.frame_making import HEADER, OWNER, accepted, frame, kinds, opening, outcome, received, sent


@pytest.fixture
def opener() -> Session:
    return Session(opener=True)


@pytest.fixture
def acceptor() -> Session:
    return Session(opener=False)


# -- opening


def test_calls_are_numbered_from_one_and_open_with_header_and_first_message(opener):
    first = opener.open(HEADER, b"a", OWNER)
    opener.open(HEADER, b"b", OWNER, last=False)
    one, two = sent(opener)
    assert (first.call_id, one.call_id, two.call_id) == (1, 1, 2)
    assert one == opening(1, b"a", last=True)
    assert two == opening(2, b"b", last=False)
    assert first.send_credit == INITIAL_CREDIT - cost(b"a")


def test_open_tells_the_acceptor(acceptor):
    (event,) = received(acceptor, opening(1, b"abc", last=True))
    assert event[0] is EventKind.OPENED
    assert event[1].call_id == 1
    assert event[1].received_last
    assert event[1].receive_credit == INITIAL_CREDIT - 3 - FRAME_COST
    assert acceptor.streams == {1: event[1]}


def test_a_large_first_message_is_split_and_goes_on_with_credit(opener):
    payload = bytes(range(256)) * 2048  # 512 KiB
    stream = opener.open(HEADER, payload, OWNER)
    frames = sent(opener)
    assert kinds(frames) == ["OPEN", "DATA"]
    assert all(each.more and not each.last for each in frames)
    assert stream.send_credit <= 0
    (event,) = received(opener, frame("CREDIT", credit=INITIAL_CREDIT + 2 * FRAME_COST))
    assert event[0] is EventKind.WRITABLE
    frames += sent(opener)
    assert b"".join(each.payload for each in frames) == payload
    assert [each.more for each in frames] == [True] * (len(frames) - 1) + [False]
    assert frames[-1].last
    assert stream.sent_last
    assert stream.pending is None


def test_a_header_too_large_for_a_frame_is_refused_and_opens_nothing(opener):
    header = session_pb2.CallHeader(metadata=[session_pb2.Metadata(key="k", value=bytes(MAX_FRAME_PAYLOAD))])
    with pytest.raises(InvalidCallError, match="header"):
        opener.open(header, b"", OWNER)
    assert opener.streams == {}
    assert sent(opener) == []
    assert opener.open(HEADER, b"", OWNER).call_id == 1


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (opening(0), "the next one is 1"),
        (opening(2), "the next one is 1"),
        (frame("OPEN", 1), "without a header"),
        (opening(1, more=True, last=True), "both more and last"),
        (opening(1, bytes(MAX_FRAME_PAYLOAD + 1)), "limit"),
    ],
)
def test_a_wrong_open_is_a_violation(acceptor, bad, why):
    with pytest.raises(ProtocolViolationError, match=why):
        acceptor.receive(bad)
    assert acceptor.streams == {}


def test_a_second_open_of_the_same_call_is_a_violation(acceptor):
    stream = accepted(acceptor)
    with pytest.raises(ProtocolViolationError, match="the next one is 2"):
        acceptor.receive(opening(1))
    assert acceptor.streams == {1: stream}


def test_the_acceptor_must_not_open(opener):
    with pytest.raises(ProtocolViolationError, match="OPEN from the acceptor"):
        opener.receive(opening(1))


# -- messages


def test_messages_arrive_with_more_and_last(acceptor):
    accepted(acceptor)
    events = received(acceptor, frame("DATA", payload=b"a", more=True), frame("DATA", payload=b"b", last=True))
    assert [event[0] for event in events] == [EventKind.MESSAGE, EventKind.MESSAGE]
    with pytest.raises(ProtocolViolationError, match="after its last message"):
        acceptor.receive(frame("DATA"))


def test_data_after_a_unary_request_is_a_violation(acceptor):
    accepted(acceptor, last=True)
    with pytest.raises(ProtocolViolationError, match="after its last message"):
        acceptor.receive(frame("DATA"))


@pytest.mark.parametrize(
    "bad",
    [frame("DATA", payload=b"", more=True, last=True), frame("DATA", payload=bytes(MAX_FRAME_PAYLOAD + 1))],
)
def test_wrong_data_is_a_violation(acceptor, bad):
    stream = accepted(acceptor)
    before = stream.receive_credit
    with pytest.raises(ProtocolViolationError):
        acceptor.receive(bad)
    assert stream.receive_credit == before


def test_nothing_is_sent_after_the_last_message(opener):
    stream = opener.open(HEADER, b"", OWNER, last=False)
    opener.send(stream, b"x", last=True)
    sent(opener)
    assert opener.send(stream, b"y") is True
    assert sent(opener) == []


def test_both_ends_may_send_at_once(opener, acceptor):
    stream = opener.open(HEADER, b"q", OWNER, last=False)
    other = received(acceptor, *sent(opener))[0][1]
    opener.send(stream, b"up")
    acceptor.send(other, b"down")
    assert received(acceptor, *sent(opener))[0][0] is EventKind.MESSAGE
    assert received(opener, *sent(acceptor))[0][0] is EventKind.MESSAGE


# -- credit


def test_a_sender_without_credit_waits_and_the_next_is_writable(acceptor):
    stream = accepted(acceptor)
    sent(acceptor)
    assert acceptor.send(stream, bytes(MAX_PIECE))
    assert acceptor.send(stream, bytes(MAX_PIECE))  # credit was positive: one frame may overdraw it
    assert stream.send_credit < 0
    assert acceptor.send(stream, b"late") is False
    assert kinds(sent(acceptor)) == ["DATA", "DATA"]
    assert received(acceptor, frame("CREDIT", credit=-stream.send_credit)) == []  # zero is not positive
    (event,) = received(acceptor, frame("CREDIT", credit=1))
    assert event[0] is EventKind.WRITABLE
    assert [each.payload for each in sent(acceptor)] == [b"late"]


def test_small_messages_cost_credit_too(opener):
    stream = opener.open(HEADER, b"", OWNER, last=False)
    count = 1
    while opener.send(stream, b""):
        count += 1
    assert count == INITIAL_CREDIT // FRAME_COST
    assert len(sent(opener)) == count


def test_the_peer_may_overdraw_by_one_frame_and_no_more(acceptor):
    stream = accepted(acceptor)
    received(acceptor, frame("DATA", payload=bytes(INITIAL_CREDIT - 2 * FRAME_COST - 1)))
    assert stream.receive_credit == 1
    received(acceptor, frame("DATA", payload=bytes(MAX_FRAME_PAYLOAD)))
    assert stream.receive_credit < 0
    with pytest.raises(ProtocolViolationError, match="beyond its credit"):
        acceptor.receive(frame("DATA"))


def test_credit_is_returned_in_batches_and_before_the_sender_starves(acceptor):
    stream = accepted(acceptor)
    acceptor.consumed(stream, INITIAL_CREDIT // 2 - 1)
    assert sent(acceptor) == []
    acceptor.consumed(stream, 1)
    assert sent(acceptor) == [frame("CREDIT", credit=INITIAL_CREDIT // 2)]
    assert stream.ungranted == 0


def test_no_credit_is_returned_when_nothing_more_can_come(acceptor):
    stream = accepted(acceptor, last=True)
    acceptor.consumed(stream, INITIAL_CREDIT)
    acceptor.end(stream)
    acceptor.consumed(stream, INITIAL_CREDIT)
    assert kinds(sent(acceptor)) == ["END"]


@pytest.mark.parametrize("amount", [0, MAX_CREDIT + 1, 2**32 - 1, MAX_CREDIT])
def test_wrong_credit_is_a_violation(acceptor, amount):
    stream = accepted(acceptor)
    with pytest.raises(ProtocolViolationError, match="CREDIT"):
        acceptor.receive(frame("CREDIT", credit=amount))
    assert stream.send_credit == INITIAL_CREDIT


def test_the_most_credit_is_no_violation(acceptor):
    stream = accepted(acceptor)
    acceptor.receive(frame("CREDIT", credit=MAX_CREDIT - INITIAL_CREDIT))
    assert stream.send_credit == MAX_CREDIT


# -- ends


@pytest.mark.parametrize("payload", [None, b"", b"result"])
def test_end_with_and_without_a_message(opener, acceptor, payload):
    stream = opener.open(HEADER, b"", OWNER)
    other = received(acceptor, *sent(opener))[0][1]
    acceptor.end(other, payload=payload)
    frames = sent(acceptor)
    assert frames == [frame("END", has_payload=payload is not None, payload=payload or b"")]
    assert received(opener, *frames)[0][0] is EventKind.ENDED
    assert stream.closed
    assert other.closed
    assert opener.streams == acceptor.streams == {}


def test_a_large_result_is_split_and_its_last_piece_is_the_end(acceptor):
    stream = accepted(acceptor, last=True)
    payload = bytes(range(256)) * 2000  # 500 KiB: more than the credit
    acceptor.end(stream, payload=payload)
    frames = sent(acceptor)
    assert kinds(frames) == ["DATA", "DATA"]
    assert acceptor.streams == {1: stream}
    assert received(acceptor, frame("CREDIT", credit=INITIAL_CREDIT)) == []  # nobody waits for room any more
    frames += sent(acceptor)
    assert kinds(frames) == ["DATA", "DATA", "DATA", "END"]
    assert all(each.more for each in frames[:-1])
    assert b"".join(each.payload for each in frames) == payload
    assert stream.closed
    assert acceptor.streams == {}


def test_end_is_never_held_back(acceptor):
    stream = accepted(acceptor)
    while stream.send_credit > 0:
        acceptor.send(stream, bytes(MAX_PIECE))
    sent(acceptor)
    acceptor.end(stream, payload=b"r")
    assert kinds(sent(acceptor)) == ["END"]


def test_an_error_drops_what_waits(acceptor):
    stream = accepted(acceptor)
    assert acceptor.send(stream, bytes(4 * MAX_PIECE)) is False
    sent(acceptor)
    acceptor.end(stream, outcome())
    assert sent(acceptor) == [frame("END", outcome=outcome())]
    assert acceptor.streams == {}


def test_success_waits_for_what_was_sent(acceptor):
    stream = accepted(acceptor)
    acceptor.send(stream, bytes(4 * MAX_PIECE))
    acceptor.end(stream)
    acceptor.end(stream, outcome())  # too late
    assert "END" not in kinds(sent(acceptor))
    acceptor.receive(frame("CREDIT", credit=INITIAL_CREDIT * 2))
    frames = sent(acceptor)
    assert kinds(frames) == ["DATA", "DATA", "END"]
    assert not frames[-1].HasField("outcome")


def test_a_second_end_has_no_effect(acceptor):
    stream = accepted(acceptor)
    acceptor.end(stream)
    acceptor.end(stream, outcome())
    acceptor.send(stream, b"late")
    assert kinds(sent(acceptor)) == ["END"]


def test_an_end_finishes_a_call_whatever_the_opener_still_had_to_send(opener):
    stream = opener.open(HEADER, bytes(8 * MAX_PIECE), OWNER)
    sent(opener)
    (event,) = received(opener, frame("END"))
    assert event[0] is EventKind.ENDED
    assert stream.pending is None
    assert opener.send(stream, b"more") is True
    opener.cancel(stream)
    assert sent(opener) == []


def test_the_opener_must_not_end(acceptor):
    accepted(acceptor)
    with pytest.raises(ProtocolViolationError, match="END from the opener"):
        acceptor.receive(frame("END"))


def test_an_end_with_outcome_and_payload_is_a_violation(opener):
    opener.open(HEADER, b"", OWNER)
    with pytest.raises(ProtocolViolationError, match="both"):
        opener.receive(frame("END", has_payload=True, outcome=outcome()))


def test_an_end_with_too_much_payload_is_a_violation(opener):
    opener.open(HEADER, b"", OWNER)
    with pytest.raises(ProtocolViolationError, match="limit"):
        opener.receive(frame("END", has_payload=True, payload=bytes(MAX_FRAME_PAYLOAD + 1)))


def test_fields_that_do_not_count_for_a_kind_are_ignored(opener, acceptor):
    opener.open(HEADER, b"", OWNER)
    strange = frame("END", more=True, last=True, credit=7, header=HEADER, payload=b"not announced")
    assert received(opener, strange)[0][0] is EventKind.ENDED
    accepted(acceptor)
    strange = frame("CANCEL", more=True, last=True, credit=0, payload=bytes(MAX_FRAME_PAYLOAD + 1), outcome=outcome())
    assert received(acceptor, strange)[0][0] is EventKind.CANCELLED


# -- frames that crossed others


@pytest.mark.parametrize("kind", ["DATA", "CREDIT", "CANCEL", "END", "HEAD", "UNSPECIFIED"])
def test_frames_for_an_ended_call_are_ignored(acceptor, kind):
    acceptor.end(accepted(acceptor))
    assert acceptor.receive(frame(kind, credit=0, more=True, last=True)) is None


@pytest.mark.parametrize("kind", ["DATA", "CREDIT", "CANCEL", "END", "HEAD", "UNSPECIFIED"])
@pytest.mark.parametrize("call_id", [0, 2, 2**64 - 1])
@pytest.mark.parametrize("is_opener", [False, True])
def test_frames_for_a_call_that_was_never_opened_are_violations(kind, call_id, is_opener):
    session = Session(opener=is_opener)
    if is_opener:
        session.open(HEADER, b"", OWNER)
    else:
        accepted(session)
    with pytest.raises(ProtocolViolationError, match="never opened"):
        session.receive(frame(kind, call_id))


@pytest.mark.parametrize("kind", [0, 8, 99, -1])
def test_an_unknown_kind_is_a_violation(acceptor, kind):
    accepted(acceptor)
    with pytest.raises(ProtocolViolationError, match="unknown kind"):
        acceptor.receive(session_pb2.Frame(kind=kind, call_id=1))


# -- cancelling


def test_a_cancelled_call_still_ends_with_the_acceptors_end(opener, acceptor):
    stream = opener.open(HEADER, b"", OWNER, last=False)
    other = received(acceptor, *sent(opener))[0][1]
    opener.cancel(stream)
    opener.cancel(stream)
    opener.send(stream, b"dropped")
    frames = sent(opener)
    assert frames == [frame("CANCEL")]
    (event,) = received(acceptor, *frames)
    assert event[0] is EventKind.CANCELLED
    assert other.cancelled
    assert not other.closed
    acceptor.send(other, b"nobody wants it")
    acceptor.end(other, outcome(1))
    frames = sent(acceptor)
    assert kinds(frames) == ["END"]
    assert received(opener, *frames)[0][0] is EventKind.ENDED
    assert opener.streams == acceptor.streams == {}


def test_messages_for_a_cancelled_call_are_dropped_but_counted(opener):
    stream = opener.open(HEADER, b"", OWNER)
    opener.cancel(stream)
    assert received(opener, frame("DATA", payload=b"x")) == []
    assert stream.receive_credit == INITIAL_CREDIT - cost(b"x")


def test_a_cancelled_call_drops_what_waits_on_both_sides(opener, acceptor):
    stream = opener.open(HEADER, bytes(8 * MAX_PIECE), OWNER)
    other = received(acceptor, *sent(opener))[0][1]
    acceptor.send(other, bytes(8 * MAX_PIECE))
    opener.cancel(stream)
    received(acceptor, *sent(opener))
    assert stream.pending is None
    assert other.pending is None


def test_cancel_ends_a_call_whose_owner_is_done_with_it(acceptor):
    stream = accepted(acceptor)
    acceptor.send(stream, bytes(8 * MAX_PIECE))
    acceptor.end(stream, payload=b"r")
    sent(acceptor)
    assert acceptor.receive(frame("CANCEL")) is None
    assert kinds(sent(acceptor)) == ["END"]
    assert acceptor.streams == {}


def test_a_large_result_of_a_cancelled_call_ends_it_at_once(acceptor):
    # The opener takes nothing of a cancelled call any more, so no credit would ever come for the rest.
    stream = accepted(acceptor)
    acceptor.receive(frame("CANCEL"))
    acceptor.end(stream, payload=bytes(8 * MAX_PIECE))
    assert kinds(sent(acceptor)) == ["END"]
    assert acceptor.streams == {}


def test_a_second_cancel_is_a_violation(acceptor):
    accepted(acceptor)
    acceptor.receive(frame("CANCEL"))
    with pytest.raises(ProtocolViolationError, match="second CANCEL"):
        acceptor.receive(frame("CANCEL"))


def test_the_acceptor_must_not_cancel(opener):
    opener.open(HEADER, b"", OWNER)
    with pytest.raises(ProtocolViolationError, match="CANCEL from the acceptor"):
        opener.receive(frame("CANCEL"))


def test_data_after_the_acceptors_end_was_decided_is_dropped(acceptor):
    stream = accepted(acceptor)
    acceptor.send(stream, bytes(8 * MAX_PIECE))
    acceptor.end(stream)
    assert acceptor.receive(frame("DATA", payload=b"late")) is None


# -- saying goodbye


def test_an_acceptor_that_says_goodbye_takes_no_further_calls(opener, acceptor):
    kept = opener.open(HEADER, b"", OWNER)
    received(acceptor, *sent(opener))
    crossing = opener.open(HEADER, b"", OWNER, last=False)
    opener.send(crossing, b"x")
    opener.cancel(crossing)
    acceptor.goodbye()
    acceptor.goodbye()
    assert received(acceptor, *sent(opener)) == []
    frames = sent(acceptor)
    assert frames == [frame("GOODBYE", 1)]
    (event,) = received(opener, *frames)
    assert event[0] is EventKind.GOODBYE
    assert event[1] is None
    assert opener.drop_refused() == [crossing]
    assert crossing.never_started
    assert crossing.closed
    assert not kept.never_started
    assert opener.streams == {1: kept}
    with pytest.raises(GatewayDrainingError):
        opener.open(HEADER, b"", OWNER)
    acceptor.end(acceptor.streams[1], payload=b"done")
    assert received(opener, *sent(acceptor))[0][0] is EventKind.ENDED


def test_an_opener_that_says_goodbye_opens_no_further_calls(opener, acceptor):
    opener.open(HEADER, b"", OWNER)
    opener.goodbye()
    with pytest.raises(GatewayDrainingError):
        opener.open(HEADER, b"", OWNER)
    frames = sent(opener)
    assert kinds(frames) == ["OPEN", "GOODBYE"]
    received(acceptor, *frames)
    assert acceptor.drop_refused() == []
    assert list(acceptor.streams) == [1]
    with pytest.raises(ProtocolViolationError, match="GOODBYE"):
        acceptor.receive(opening(2))


def test_goodbye_above_the_highest_call_is_a_violation(opener):
    with pytest.raises(ProtocolViolationError, match="GOODBYE at call 1"):
        opener.receive(frame("GOODBYE", 1))


def test_a_second_goodbye_is_a_violation_unless_it_ends_the_session(opener):
    opener.open(HEADER, b"", OWNER)
    opener.receive(frame("GOODBYE", 1))
    with pytest.raises(ProtocolViolationError, match="second GOODBYE"):
        opener.receive(frame("GOODBYE", 0))
    assert opener.drop_refused() == []
    opener.receive(frame("GOODBYE", 1, outcome=outcome()))
    assert opener.ended == outcome()


def test_goodbye_with_an_outcome_ends_the_session(opener, acceptor):
    started = opener.open(HEADER, b"", OWNER)
    received(acceptor, *sent(opener))
    crossing = opener.open(HEADER, b"", OWNER)
    sent(opener)
    acceptor.goodbye(outcome(13, "broken"))
    acceptor.goodbye(outcome(13, "again"))
    frames = sent(acceptor)
    assert frames == [frame("GOODBYE", 1, outcome=outcome(13, "broken"))]
    received(opener, *frames)
    assert opener.ended == outcome(13, "broken")
    with pytest.raises(GatewayDrainingError):
        opener.open(HEADER, b"", OWNER)
    assert opener.receive(frame("END", 1)) is None  # nothing counts any more, not even violations
    assert opener.receive(frame("UNSPECIFIED", 77)) is None
    assert opener.lose() == [started, crossing]
    assert (started.never_started, crossing.never_started) == (False, True)


# -- losing the stream below


def test_losing_the_session_ends_every_call_and_leaks_nothing(opener):
    written = opener.open(HEADER, bytes(8 * MAX_PIECE), OWNER)
    sent(opener)
    unwritten = opener.open(HEADER, bytes(8 * MAX_PIECE), OWNER)
    assert opener.lose() == [written, unwritten]
    assert (written.never_started, unwritten.never_started) == (False, True)
    for stream in (written, unwritten):
        assert stream.closed
        assert stream.pending is None
        assert opener.send(stream, b"x") is True
        opener.cancel(stream)
        opener.consumed(stream, INITIAL_CREDIT)
    opener.goodbye()
    assert opener.streams == {}
    assert opener.take() == b""
    assert opener.outbox.size == 0
    assert opener.lose() == []
    with pytest.raises(GatewayDrainingError):
        opener.open(HEADER, b"", OWNER)


def test_ending_a_lost_call_is_harmless(acceptor):
    stream = accepted(acceptor)
    assert acceptor.lose() == [stream]
    acceptor.end(stream, payload=b"r")
    acceptor.end(stream, outcome())
    assert acceptor.take() == b""


# -- packets


def test_what_queued_up_goes_out_in_one_packet(opener):
    for number in range(3):
        opener.open(HEADER, str(number).encode(), OWNER)
    packet = opener.take()
    assert opener.take() == b""
    session = Session(opener=False)
    assert len(received(session, *decode_packet(packet)[0])) == 3


def test_packets_are_bounded(opener):
    for _ in range(40):
        opener.open(HEADER, bytes(MAX_PIECE), OWNER)
    total = opener.outbox.size
    sizes = []
    while packet := opener.take():
        sizes.append(len(packet))
    assert sum(sizes) == total
    assert len(sizes) > 5
    assert max(sizes) <= MAX_PACKET + MAX_PIECE + 1024
    assert opener.outbox.size == 0


def test_repr_shows_what_goes_on(opener):
    stream = opener.open(HEADER, b"", OWNER)
    assert repr(opener) == f"<Session opener calls=1 highest=1 outbox={opener.outbox.size}B>"
    assert "Stream 1 open" in repr(stream)
    opener.cancel(stream)
    assert "cancelled" in repr(stream)
    opener.lose()
    assert "closed" in repr(stream)
