"""The body of a request as messages: whole for Connect's unary calls, in envelopes for everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.edge.http_request import ClientGoneError, Receive
from fairlead_gateway.edge.http_status import with_details
from fairlead_gateway.edge.web import compression
from fairlead_gateway.edge.web.base64_text import Base64Reader
from fairlead_gateway.edge.web.envelopes import COMPRESSED, Envelope, EnvelopeReader
from fairlead_gateway.edge.web.message_codecs import MessageCodec, loaded


class StatusError(FairleadError):
    """A call that is refused with a code that none of Fairlead's own errors has."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.outcome: session_pb2.Outcome = with_details(code, message)
        """The same, to be answered with."""


class Encoding:
    """How the messages of one direction are compressed, by the name that the request gives."""

    __slots__ = ("gzip",)

    def __init__(self, name: str | None) -> None:
        """Raises StatusError, UNIMPLEMENTED, for a name that is not known, as both protocols ask for."""
        if name not in (None, "", compression.IDENTITY, compression.GZIP):
            raise StatusError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"messages compressed with {name!r} are not supported; what is: {compression.SUPPORTED}",
            )
        self.gzip = name == compression.GZIP
        """Whether messages are, or may be, compressed."""

    def opened(self, entry: Envelope, limit: int) -> bytes:
        """The message of an envelope. Raises InvalidCallError, MessageTooLargeError, StatusError."""
        if not entry.flags & COMPRESSED:
            return entry.message
        if not self.gzip:  # INTERNAL by gRPC's own specification (compression.md)
            message = "a message is compressed, and the request does not say how"
            raise StatusError(grpc.StatusCode.INTERNAL, message)
        return compression.decompress(entry.message, limit)


class EnvelopedBody:
    """The messages of a body in envelopes, read as they are asked for: an asynchronous iterator, to be used once.

    It raises InvalidCallError and StatusError for what breaks the framing, MessageTooLargeError, and ClientGoneError.
    """

    def __init__(self, receive: Receive, codec: MessageCodec, encoding: Encoding, *, limit: int, text: bool) -> None:
        """``limit``: the largest message in bytes. ``text``: whether the body is in base64."""
        self.whole = False
        """Whether the body has been read to its end."""
        self._receive = receive
        self._codec = codec
        self._encoding = encoding
        self._limit = limit
        self._text = Base64Reader() if text else None
        self._reader = EnvelopeReader(limit)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The messages, as protobuf's bytes."""
        while not self.whole:
            data = await self._read()
            for entry in self._reader.feed(data):
                yield await loaded(self._codec, self._encoding.opened(entry, self._limit))
        if self._text is not None:
            self._text.finish()
        self._reader.finish()

    async def _read(self) -> bytes:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError("the client left")
        self.whole = not event.get("more_body", False)
        data: bytes = event.get("body", b"")
        return data if self._text is None else self._text.feed(data)

    async def only(self) -> bytes:
        """The one message of a method that takes one. Raises StatusError, UNIMPLEMENTED, for none and for several."""
        found: bytes | None = None
        async for message in self:
            if found is not None:
                raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "the method takes one message; the request has more")
            found = message
        if found is None:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "the method takes one message; the request has none")
        return found
