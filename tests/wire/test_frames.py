"""Frames and packets as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ProtocolViolationError
from fairlead.wire.frames import MAX_PIECE, encode_data, encode_end, encode_frame, encode_load, encode_open, varint
from fairlead.wire.large_frames import decode_packet
from tests.wire.frame_making import as_frame, frame, opening, outcome

FRAMES = [
    frame("DATA"),
    frame("DATA", payload=bytes(119)),  # with its header of 8 bytes around the one byte that a short length takes
    frame("DATA", payload=bytes(120)),
    frame("DATA", payload=bytes(121)),
    frame("DATA", payload=bytes(122)),
    frame("DATA", payload=bytes(MAX_PIECE), more=True),
    opening(2**64 - 1, b"abc", last=True),
    frame("END", outcome=outcome()),
    session_pb2.Frame(),
]


@pytest.mark.parametrize("each", FRAMES, ids=range(len(FRAMES)))
def test_an_encoded_frame_is_a_packet(each: session_pb2.Frame):
    packet = encode_frame(each)
    assert packet == serving_pb2.SessionRequest(frames=[each]).SerializeToString()
    frames, load = decode_packet(packet)
    assert list(map(as_frame, frames)) == [each]
    assert load is None


CALL_IDS = st.one_of(st.integers(1, 300), st.integers(1, 2**64 - 1))
PAYLOADS = st.one_of(st.binary(max_size=300), st.sampled_from([bytes(n) for n in (0, 111, 127, 128, 16_383, 16_384)]))
HEADERS = st.builds(
    session_pb2.CallHeader,
    application=st.text(max_size=20),
    method=st.text(max_size=200),
    timeout_us=st.integers(0, 2**63 - 1),
    stream=st.booleans(),
)


@given(CALL_IDS, HEADERS, PAYLOADS, st.booleans(), st.booleans())
def test_an_open_is_what_the_protobuf_library_writes(call_id, header, payload, more, last):
    expected = frame("OPEN", call_id, header=header, payload=payload, more=more, last=last)
    assert encode_open(call_id, header, payload, more, last) == encode_frame(expected)


@given(CALL_IDS, PAYLOADS, st.booleans(), st.booleans())
def test_data_are_what_the_protobuf_library_writes(call_id, payload, more, last):
    expected = encode_frame(frame("DATA", call_id, payload=payload, more=more, last=last))
    assert encode_data(call_id, payload, more, last) == expected


@given(CALL_IDS, PAYLOADS)
def test_an_end_is_what_the_protobuf_library_writes(call_id, payload):
    expected = encode_frame(frame("END", call_id, payload=payload, has_payload=True))
    assert encode_end(call_id, payload) == expected


@pytest.mark.parametrize("bits", range(64))
def test_varints_are_what_the_protobuf_library_writes(bits: int):
    for value in (2**bits - 1, 2**bits):
        assert session_pb2.Frame(call_id=value).SerializeToString() == (b"\x08" + varint(value) if value else b"")


def test_joined_frames_and_a_load_report_are_a_packet():
    report = session_pb2.Load(ongoing=3, sequence=2**40)
    packet = b"".join(map(encode_frame, FRAMES)) + encode_load(report)
    assert packet == serving_pb2.SessionResponse(frames=FRAMES, load=report).SerializeToString()
    frames, load = decode_packet(packet)
    assert list(map(as_frame, frames)) == FRAMES
    assert load == report


def test_the_empty_packet():
    frames, load = decode_packet(b"")
    assert list(frames) == []
    assert load is None


def test_of_joined_load_reports_the_last_counts():
    _, load = decode_packet(encode_load(session_pb2.Load(sequence=1)) + encode_load(session_pb2.Load(sequence=2)))
    assert load.sequence == 2


def test_a_request_is_a_response():
    """Both directions are read with one message class, so the two must not part ways."""
    fields = [
        {(f.name, f.number, f.type, f.is_repeated) for f in kind.DESCRIPTOR.fields if f.name in ("frames", "load")}
        for kind in (serving_pb2.SessionRequest, serving_pb2.SessionResponse)
    ]
    assert len(fields[1]) == 2
    assert ("frames", 1) in {field[:2] for field in fields[0]}
    assert fields[0] <= fields[1]


@pytest.mark.parametrize("packet", [b"\xff", b"\x0a\x05\x08", b"\x0a\x02\x3a\x7f", b"\x0b" * 200])
def test_other_bytes_are_a_violation(packet: bytes):
    with pytest.raises(ProtocolViolationError, match=f"a packet of {len(packet)} bytes"):
        decode_packet(packet)


def test_unknown_fields_are_skipped():
    frames, _ = decode_packet(encode_frame(frame("DATA")) + b"\xf8\x07\x01")
    assert len(frames) == 1
