"""Frames and packets as bytes.

A packet on the wire is a ``SessionRequest`` or ``SessionResponse`` (the same two fields in each): repeated frames, then
a load report. Protobuf says that concatenated messages merge, repeated fields one after the other; so a packet is built
by joining frames that were each encoded once, when they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from google.protobuf.message import DecodeError

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ProtocolViolationError

MAX_PIECE = 128 * 1024
"""The most bytes of a message that one frame carries; larger ones are split, so that they do not block small ones."""

MAX_FRAME_PAYLOAD = 1024 * 1024
"""The most bytes of payload that a frame from a peer may carry."""

MAX_PACKET = 512 * 1024
"""A packet is closed when it reaches this many bytes. It may exceed it by one frame."""

LARGE_PAYLOAD = 16 * 1024
"""Bytes of a payload from which on not copying it is worth more than the protobuf library's speed."""

_FRAMES_TAG = b"\x0a"
_LOAD_TAG = b"\x12"
_PAYLOAD_TAG = b"\x1a"
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


class LargeFrame:
    """A frame as a packet of its own whose payload is still its owner's memory: two parts, one after the other."""

    __slots__ = ("head", "payload", "size")

    def __init__(self, head: bytes, payload: bytes | memoryview) -> None:
        self.head = head
        self.payload = payload
        self.size = len(head) + len(payload)


Encoded: TypeAlias = bytes | LargeFrame
"""A frame on its way out."""


def encode_large_frame(frame: session_pb2.Frame, payload: bytes | memoryview) -> LargeFrame:
    """A frame, made without a payload, with this one: as :func:`encode_frame`, in another order of the fields."""
    body = b"".join((frame.SerializeToString(), _PAYLOAD_TAG, _varint(len(payload))))
    return LargeFrame(b"".join((_FRAMES_TAG, _varint(len(body) + len(payload)), body)), payload)


def flat(frames: Iterable[Encoded]) -> list[bytes | memoryview]:
    """The parts of a packet, in order."""
    parts: list[bytes | memoryview] = []
    for frame in frames:
        if isinstance(frame, LargeFrame):
            parts += (frame.head, frame.payload)
        else:
            parts.append(frame)
    return parts


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
