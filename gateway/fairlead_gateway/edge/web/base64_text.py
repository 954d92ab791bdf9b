"""gRPC-Web's text mode: a body in base64, in pieces that need not end where a group of four characters does.

Whoever writes pads each piece that it flushes, so that padding may stand in the middle of a body. Pure.
"""

from __future__ import annotations

import base64
import binascii

from fairlead.wire.errors import InvalidCallError


class Base64Reader:
    """Takes a text in pieces of any size and gives its bytes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, text: bytes) -> bytes:
        """The bytes that are complete now. Raises InvalidCallError for what is no base64."""
        text = self._rest + text
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        return _decoded(text[:whole])

    def finish(self) -> None:
        """The text is over. Raises InvalidCallError if it ended within a group of four characters."""
        if self._rest:
            raise _refused()


def _decoded(text: bytes) -> bytes:
    if b"=" not in text:
        return _strict(text)
    found = bytearray()
    begin = 0
    while (padding := text.find(b"=", begin)) >= 0:
        end = padding + 4 - padding % 4  # the group that the padding ends
        found += _strict(text[begin:end])
        begin = end
    found += _strict(text[begin:])
    return bytes(found)


def _strict(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused() from error


def _refused() -> InvalidCallError:
    return InvalidCallError("the body is not valid base64, which application/grpc-web-text asks for")


encode = base64.b64encode
"""A piece of a response, padded, so that it can be flushed by itself."""
