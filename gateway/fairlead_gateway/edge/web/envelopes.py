"""The envelope that gRPC, gRPC-Web and Connect's streams share: a byte of flags, a length in four bytes, a message.

See https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md and https://connectrpc.com/docs/protocol. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.wire.errors import InvalidCallError, MessageTooLargeError

COMPRESSED = 0x01
"""Flag: the message is compressed, as the call's headers say."""
END_STREAM = 0x02
"""Flag of Connect: not a message but how the stream ended, in JSON; the last envelope of a response."""
TRAILERS = 0x80
"""Flag of gRPC-Web: not a message but the trailers; the last envelope of a response."""

_HEAD = 5


class Envelope(NamedTuple):
    """One envelope, opened."""

    flags: int
    message: bytes


def envelope(flags: int, message: bytes) -> bytes:
    """A message in its envelope."""
    return bytes((flags,)) + len(message).to_bytes(4, "big") + message


class EnvelopeReader:
    """Takes a body in pieces of any size and gives its envelopes.

    ``limit``: the largest message in bytes. What a request may carry is messages, compressed or not: nothing else has
    a meaning there.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Envelope]:
        """The envelopes that are complete now.

        Raises MessageTooLargeError as soon as a length says so, InvalidCallError for flags that mean nothing.
        """
        buffer = self._buffer
        buffer += data
        found: list[Envelope] = []
        begin = 0
        while len(buffer) - begin >= _HEAD:
            flags, length = buffer[begin], int.from_bytes(buffer[begin + 1 : begin + _HEAD], "big")
            if flags & ~COMPRESSED:
                raise InvalidCallError(f"the request has an envelope with the flags {flags:#04x}, which mean nothing")
            if length > self._limit:
                raise MessageTooLargeError(f"a message of {length} bytes is larger than the limit of {self._limit}")
            end = begin + _HEAD + length
            if len(buffer) < end:
                break
            found.append(Envelope(flags, bytes(buffer[begin + _HEAD : end])))
            begin = end
        del buffer[:begin]
        return found

    def finish(self) -> None:
        """The body is over. Raises InvalidCallError if it ended within an envelope."""
        if self._buffer:
            raise InvalidCallError("the request ended within an envelope")
