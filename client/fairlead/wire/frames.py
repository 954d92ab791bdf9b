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
_SHORT_PREFIX = [FRAMES_TAG + bytes((n,)) for n in range(128)]


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
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
    return b"".join((FRAMES_TAG, varint(size), body))


def encode_load(load: session_pb2.Load) -> bytes:
    """A load report as a packet of its own, to be joined with others."""
    body = load.SerializeToString()
    return _LOAD_TAG + varint(len(body)) + body
