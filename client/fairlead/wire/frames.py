"""Frames and packets as bytes.

A packet on the wire is a ``SessionRequest`` or ``SessionResponse`` (the same two fields in each): repeated frames, then
a load report. Protobuf says that concatenated messages merge, repeated fields one after the other; so a packet is built
by joining frames that were each encoded once, when they were made.
"""

from __future__ import annotations

from fairlead.v1 import session_pb2

MAX_PIECE = 128 * 1024
"""The most bytes of a message that one frame carries; larger ones are split, so that they do not block small ones."""

MAX_FRAME_PAYLOAD = 1024 * 1024
"""The most bytes of payload that a frame from a peer may carry."""

MAX_PACKET = 512 * 1024
"""A packet is closed when it reaches this many bytes. It may exceed it by one frame."""

FRAMES_TAG = b"\x0a"
_LOAD_TAG = b"\x12"
_ONE_BYTE = [bytes((n,)) for n in range(128)]
_ENDS = {
    (False, False): b"",
    (False, True): b"\x28\x01",
    (True, False): b"\x20\x01",
    (True, True): b"\x20\x01\x28\x01",
}
"""The fields ``more`` and ``last``, encoded."""


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_frame(frame: session_pb2.Frame) -> bytes:
    """A frame as a packet of its own, to be joined with others."""
    body = frame.SerializeToString()
    return b"\x0a%b%b" % (varint(len(body)), body)


# The frames that every call has, without the protobuf library's objects: it takes twice as long for the same bytes.


def encode_open(call_id: int, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> bytes:
    """An OPEN frame as :func:`encode_frame` encodes it."""
    head = header.SerializeToString()
    ends = _ENDS[more, last]
    if payload:
        body = b"\x08%b\x10\x01\x1a%b%b%b\x3a%b%b" % (
            *(varint(call_id), varint(len(payload)), payload, ends),
            *(varint(len(head)), head),
        )
    else:
        body = b"\x08%b\x10\x01%b\x3a%b%b" % (varint(call_id), ends, varint(len(head)), head)
    return b"\x0a%b%b" % (varint(len(body)), body)


def encode_data(call_id: int, payload: bytes, more: bool, last: bool) -> bytes:
    """A DATA frame as :func:`encode_frame` encodes it."""
    ends = _ENDS[more, last]
    if payload:
        body = b"\x08%b\x10\x02\x1a%b%b%b" % (varint(call_id), varint(len(payload)), payload, ends)
    else:
        body = b"\x08%b\x10\x02%b" % (varint(call_id), ends)
    return b"\x0a%b%b" % (varint(len(body)), body)


def encode_end(call_id: int, payload: bytes) -> bytes:
    """An END frame with a payload, as :func:`encode_frame` encodes it."""
    if payload:
        body = b"\x08%b\x10\x03\x1a%b%b\x30\x01" % (varint(call_id), varint(len(payload)), payload)
    else:
        body = b"\x08%b\x10\x03\x30\x01" % varint(call_id)
    return b"\x0a%b%b" % (varint(len(body)), body)


def encode_load(load: session_pb2.Load) -> bytes:
    """A load report as a packet of its own, to be joined with others."""
    body = load.SerializeToString()
    return _LOAD_TAG + varint(len(body)) + body
