"""Frames and packets as bytes.

A packet on the wire is a ``SessionRequest`` or ``SessionResponse`` (the same two fields in each): repeated frames, then
a load report. Protobuf says that concatenated messages merge, repeated fields one after the other; so a packet is built
by joining frames that were each encoded once, when they were made.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ProtocolViolationError

MAX_PIECE = 128 * 1024
"""The most bytes of a message that one frame carries; larger ones are split, so that they do not block small ones."""

MAX_FRAME_PAYLOAD = 1024 * 1024
"""The most bytes of payload that a frame from a peer may carry."""

MAX_PACKET = 512 * 1024
"""A packet is closed when it reaches this many bytes. It may exceed it by one frame."""

_FRAMES_TAG = b"\x0a"
_LOAD_TAG = b"\x12"
_SHORT_PREFIX = [_FRAMES_TAG + bytes((n,)) for n in range(128)]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_frame(frame: session_pb2.Frame) -> bytes:
    """A frame as a packet of its own, to be joined with others."""
    body = frame.SerializeToString()
    size = len(body)
    if size < 128:
        return _SHORT_PREFIX[size] + body
    return b"".join((_FRAMES_TAG, _varint(size), body))


def encode_load(load: session_pb2.Load) -> bytes:
    """A load report as a packet of its own, to be joined with others."""
    body = load.SerializeToString()
    return _LOAD_TAG + _varint(len(body)) + body


def decode_packet(packet: bytes) -> tuple[Sequence[session_pb2.Frame], session_pb2.Load | None]:
    """The frames and the load report of a packet. Raises ProtocolViolationError for bytes that are no packet."""
    try:
        message = serving_pb2.SessionResponse.FromString(packet)
    except DecodeError as error:
        raise ProtocolViolationError(f"a packet of {len(packet)} bytes is not a valid message: {error}") from error
    return message.frames, message.load if message.HasField("load") else None
