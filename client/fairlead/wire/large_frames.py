"""Frames with large payloads, in and out, without the copies that the protobuf library would make of them.

The bytes on the wire are those of :mod:`~fairlead.wire.frames`. What goes out keeps its owner's memory; what comes in
is copied once, out of the transport's buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from google.protobuf.message import DecodeError

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ProtocolViolationError
from fairlead.wire.frames import FRAMES_TAG, varint

LARGE_PAYLOAD = 16 * 1024
"""Bytes of a payload from which on not copying it is worth more than the protobuf library's speed."""

_FRAMES = FRAMES_TAG[0]
_PAYLOAD_TAG = b"\x1a"
_PAYLOAD = _PAYLOAD_TAG[0]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LOOKED_AT = 4
_Packet = serving_pb2.SessionResponse


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
    body = b"".join((frame.SerializeToString(), _PAYLOAD_TAG, varint(len(payload))))
    return LargeFrame(b"".join((FRAMES_TAG, varint(len(body) + len(payload)), body)), payload)


def flat(frames: Iterable[Encoded]) -> list[bytes | memoryview]:
    """The parts of a packet, in order."""
    parts: list[bytes | memoryview] = []
    for frame in frames:
        if isinstance(frame, LargeFrame):
            parts += (frame.head, frame.payload)
        else:
            parts.append(frame)
    return parts


class ReceivedFrame:
    """A frame that came in, its payload beside the rest: to read, as if it were a ``Frame``."""

    __slots__ = ("HasField", "call_id", "frame", "has_payload", "kind", "last", "more", "payload")

    def __init__(self, frame: session_pb2.Frame, payload: bytes) -> None:
        self.frame = frame
        self.payload = payload
        self.call_id = frame.call_id
        self.kind = frame.kind
        self.more = frame.more
        self.last = frame.last
        self.has_payload = frame.has_payload
        self.HasField = frame.HasField

    @property
    def header(self) -> session_pb2.CallHeader:
        """See ``Frame``."""
        return self.frame.header

    @property
    def outcome(self) -> session_pb2.Outcome:
        """See ``Frame``."""
        return self.frame.outcome

    @property
    def credit(self) -> int:
        """See ``Frame``."""
        return self.frame.credit

    @property
    def metadata(self) -> Sequence[session_pb2.Metadata]:
        """See ``Frame``."""
        return self.frame.metadata


Received: TypeAlias = session_pb2.Frame | ReceivedFrame
"""A frame that came in."""


def decode_packet(packet: bytes | memoryview) -> tuple[Sequence[Received], session_pb2.Load | None]:
    """The frames and the load report of a packet. Raises ProtocolViolationError for bytes that are no packet.

    Nothing of what it gives refers to the packet's memory.
    """
    try:
        if len(packet) >= LARGE_PAYLOAD and _begins_large(packet):
            return _decode_large(memoryview(packet))
        message = _Packet.FromString(bytes(packet))
    except (DecodeError, IndexError, ValueError) as error:
        raise ProtocolViolationError(f"a packet of {len(packet)} bytes is not a valid message: {error}") from error
    return message.frames, message.load if message.HasField("load") else None


def _begins_large(packet: bytes | memoryview) -> bool:
    """Whether there is a large frame among the first ones: many small ones are the protobuf library's business."""
    position, end = 0, len(packet)
    for _ in range(_LOOKED_AT):
        if position >= end or packet[position] != _FRAMES:
            return False
        size, body = _read_varint(packet, position + 1)
        if size >= LARGE_PAYLOAD:
            return True
        position = body + size
    return False


def _decode_large(packet: memoryview) -> tuple[Sequence[Received], session_pb2.Load | None]:
    frames: list[Received] = []
    end = len(packet)
    start = position = 0
    while position < end and packet[position] == _FRAMES:
        size, body = _read_varint(packet, position + 1)
        if body + size > end:
            raise DecodeError("a frame is cut off")
        if size >= LARGE_PAYLOAD:
            if start < position:
                frames.extend(_Packet.FromString(bytes(packet[start:position])).frames)
            frames.append(_decode_frame(packet[body : body + size]))
            start = body + size
        position = body + size
    if start == end:
        return frames, None
    message = _Packet.FromString(bytes(packet[start:]))
    frames.extend(message.frames)
    return frames, message.load if message.HasField("load") else None


def _decode_frame(encoded: memoryview) -> Received:
    end = len(encoded)
    payload = b""
    rest: list[memoryview] = []
    kept = position = 0
    while position < end:
        start = position
        tag, position = _read_varint(encoded, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _read_varint(encoded, position)
        elif kind == _BYTES:
            size, position = _read_varint(encoded, position)
            position += size
            if tag == _PAYLOAD and position <= end:
                payload = bytes(encoded[position - size : position])
                rest.append(encoded[kept:start])
                kept = position
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError(f"a field of wire type {kind}")
    if position > end:
        raise DecodeError("a field is cut off")
    rest.append(encoded[kept:])
    return ReceivedFrame(session_pb2.Frame.FromString(b"".join(rest)), payload)


def _read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number and where it ends. Raises IndexError, or DecodeError for one of more than ten bytes."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise DecodeError("a number of more than ten bytes")
