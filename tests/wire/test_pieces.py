"""What of a message waits in its stream, and how it goes out."""

from __future__ import annotations

import pytest

from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.large_frames import decode_packet
from fairlead.wire.outbox import Outbox
from fairlead.wire.pieces import hold, send_held
from fairlead.wire.stream import Stream, cost


def stream(credit: int) -> Stream:
    return Stream(7, None, credit, 0)


def sent(outbox: Outbox) -> list[tuple[bytes, bool, bool]]:
    frames, _ = decode_packet(b"".join(outbox.take()))
    assert all(frame.call_id == 7 for frame in frames)
    return [(bytes(frame.payload), frame.more, frame.last) for frame in frames]


@pytest.mark.parametrize("size", [0, 1, MAX_PIECE, MAX_PIECE + 1, 2 * MAX_PIECE, 3 * MAX_PIECE - 1])
@pytest.mark.parametrize(("more", "last"), [(False, False), (True, False), (False, True)])
def test_the_pieces_make_the_message_and_the_last_one_says_what_it_does(size: int, more: bool, last: bool):
    payload, outbox, call = bytes(range(256)) * (size // 256) + bytes(size % 256), Outbox(), stream(10 * MAX_PIECE)
    hold(call, payload, more, last)
    assert send_held(call, outbox)
    pieces = sent(outbox)
    assert b"".join(piece for piece, _, _ in pieces) == payload
    assert all(len(piece) <= MAX_PIECE for piece, _, _ in pieces)
    assert [flags for _, *flags in pieces] == [[True, False]] * (len(pieces) - 1) + [[more, last]]
    assert call.sent_last is last
    assert call.pending is None
    assert call.send_credit == 10 * MAX_PIECE - sum(cost(piece) for piece, _, _ in pieces)


def test_what_finds_no_credit_waits_in_order():
    outbox, call = Outbox(), stream(1)
    for payload in (b"1", b"2", b"3"):
        hold(call, payload, False, payload == b"3")
    assert not send_held(call, outbox)
    assert sent(outbox) == [(b"1", False, False)]  # one frame may overdraw the credit
    assert not send_held(call, outbox)
    call.send_credit = 2 * cost(b"2")
    assert send_held(call, outbox)
    assert sent(outbox) == [(b"2", False, False), (b"3", False, True)]
    assert send_held(call, outbox)  # nothing waits
