"""What waits to be written."""

from __future__ import annotations

from fairlead.wire.frames import MAX_PACKET
from fairlead.wire.large_frames import LargeFrame
from fairlead.wire.outbox import Outbox


def test_what_waits_goes_out_in_order_as_one_packet():
    outbox = Outbox()
    outbox.put(b"a")
    outbox.put(b"bc")
    outbox.calls += 2
    assert outbox.size == 3
    assert outbox.take() == (b"abc",)
    assert (outbox.size, outbox.calls, len(outbox.frames)) == (0, 0, 0)
    assert outbox.take() == ()


def test_large_payloads_are_parts_of_their_own_and_not_copied():
    outbox = Outbox()
    payload = memoryview(bytes(100))
    outbox.put(b"before")
    outbox.put_large(LargeFrame(b"head", payload))
    outbox.put(b"after")
    parts = outbox.take()
    assert [bytes(part) for part in parts] == [b"before", b"head", bytes(100), b"after"]
    assert parts[2] is payload
    outbox.put(b"small")
    assert outbox.take() == (b"small",)


def test_a_packet_is_closed_when_it_is_full():
    outbox = Outbox()
    frames = [bytes([n]) * (MAX_PACKET // 3) for n in range(5)]
    for each in frames:
        outbox.put(each)
    packets = []
    while parts := outbox.take():
        packets.append(b"".join(parts))
    assert b"".join(packets) == b"".join(frames)
    assert len(packets) == 2
    assert all(len(packet) <= MAX_PACKET + len(frames[0]) for packet in packets)
    assert outbox.size == 0


def test_clearing_drops_what_waits():
    outbox = Outbox()
    outbox.put(b"a")
    outbox.put_large(LargeFrame(b"head", b"payload"))
    outbox.clear()
    assert outbox.size == 0
    assert not outbox.take()
    assert repr(outbox) == "<Outbox frames=0 size=0>"
