"""Large frames against the protobuf library as the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ProtocolViolationError
from fairlead.wire.frames import encode_frame, encode_load
from fairlead.wire.large_frames import (
    LARGE_PAYLOAD,
    ReceivedFrame,
    decode_packet,
    encode_large_frame,
    flat,
)
from tests.wire.frame_making import as_frame, frame, opening, outcome

SIZES = [0, 1, 127, 128, LARGE_PAYLOAD - 1, LARGE_PAYLOAD, LARGE_PAYLOAD + 1, 2**17, 2**21]
payloads = st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.sampled_from(SIZES))
heads = st.sampled_from(
    [
        frame("DATA"),
        frame("DATA", more=True),
        frame("DATA", call_id=2**63, last=True),
        frame("END", has_payload=True),
        frame("END", outcome=outcome()),
        opening(7, b"", more=True),
        session_pb2.Frame(),
    ]
)


def joined(head: session_pb2.Frame, payload: bytes) -> session_pb2.Frame:
    made = session_pb2.Frame()
    made.CopyFrom(head)
    made.payload = payload
    return made


def decoded(packet: bytes | memoryview) -> tuple[list[session_pb2.Frame], session_pb2.Load | None]:
    frames, load = decode_packet(packet)
    return [as_frame(each) for each in frames], load


@given(heads, payloads)
def test_what_is_encoded_in_parts_is_the_same_frame(head: session_pb2.Frame, payload: bytes):
    large = encode_large_frame(head, memoryview(payload))
    packet = b"".join(flat([large]))
    assert len(packet) == large.size
    assert list(serving_pb2.SessionRequest.FromString(packet).frames) == [joined(head, payload)]
    assert decoded(packet) == ([joined(head, payload)], None)


@given(st.lists(st.tuples(heads, payloads, st.booleans()), max_size=6), st.booleans())
def test_packets_of_both_kinds_of_frames(parts: Sequence[tuple[session_pb2.Frame, bytes, bool]], loaded: bool):
    out = [
        encode_large_frame(head, payload) if large else encode_frame(joined(head, payload))
        for head, payload, large in parts
    ]
    packet = b"".join(flat(out)) + (encode_load(session_pb2.Load(ongoing=3)) if loaded else b"")
    frames, load = decoded(memoryview(bytearray(packet)))
    assert frames == [joined(head, payload) for head, payload, _ in parts]
    assert load == (session_pb2.Load(ongoing=3) if loaded else None)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x0a", b"\x1a", b"\xff", b"\x08\x01"])), max_size=6),
    st.integers(0, LARGE_PAYLOAD * 2),
    st.integers(0, 4),
)
def test_any_bytes_are_what_protobuf_says_they_are(noise: list[bytes], size: int, cut: int):
    """Noise around and inside a large frame: the same frames as protobuf reads, or a violation where it reads none."""
    body = b"".join(noise) + encode_large_frame(frame("DATA"), bytes(size)).head[1:] + bytes(size)
    packet = b"".join(flat([encode_large_frame(frame("DATA"), bytes(LARGE_PAYLOAD))])) + b"".join(noise) + body
    packet = packet[: len(packet) - cut]
    try:
        expected = serving_pb2.SessionResponse.FromString(packet)
    except DecodeError:
        with pytest.raises(ProtocolViolationError):
            decode_packet(packet)
        return
    frames, load = decoded(packet)
    assert frames == list(expected.frames)
    assert load == (expected.load if expected.HasField("load") else None)


@pytest.mark.parametrize("field", [b"\x1b", b"\x0f", b"\x1a\xff\xff\xff\xff\x0f", b"\x80" * 11, b"\x3a\x7f"])
def test_a_large_frame_that_is_none(field: bytes):
    body = bytes(encode_large_frame(frame("DATA"), b"").head[2:]) + bytes(LARGE_PAYLOAD) + field
    packet = encode_large_frame(session_pb2.Frame(), b"").head[:1] + b"\x80\x80\x01" + body
    with pytest.raises(ProtocolViolationError, match="is not a valid message"):
        decode_packet(packet)


def test_the_last_of_several_payloads_counts():
    body = b"".join(
        b"\x1a" + b"\x80\x80\x01" + bytes([number]) * LARGE_PAYLOAD + frame("DATA").SerializeToString()
        for number in (1, 2)
    )
    size = len(body)
    packet = b"\x0a" + bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + body
    assert decoded(packet) == ([joined(frame("DATA"), bytes([2]) * LARGE_PAYLOAD)], None)


def test_a_received_frame_does_not_keep_the_packets_memory():
    packet = bytearray(b"".join(flat([encode_large_frame(frame("DATA"), b"x" * LARGE_PAYLOAD)])))
    (received,), _ = decode_packet(memoryview(packet))
    packet[:] = bytes(len(packet))
    assert isinstance(received, ReceivedFrame)
    assert received.payload == b"x" * LARGE_PAYLOAD
    packet.clear()  # raises where a view of it is alive
