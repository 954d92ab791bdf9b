"""Responses in envelopes: gRPC-Web's, and those of Connect's streams. They differ in how an envelope says the end."""

from __future__ import annotations

from typing import Protocol

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.edge.http_headers import from_metadata
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import ClientGoneError
from fairlead_gateway.edge.http_status import CLOSE
from fairlead_gateway.edge.status import code_of, grpc_status
from fairlead_gateway.edge.typed.answers import Head
from fairlead_gateway.edge.web import base64_text, compression
from fairlead_gateway.edge.web.body import EnvelopedBody
from fairlead_gateway.edge.web.connect_errors import end_of_stream, error_value
from fairlead_gateway.edge.web.envelopes import COMPRESSED, END_STREAM, envelope
from fairlead_gateway.edge.web.exchange import WebExchange, failed, outcome_for
from fairlead_gateway.edge.web.fields import Fields, as_text, trailing_fields
from fairlead_gateway.edge.web.message_codecs import MessageCodec, dumped
from fairlead_gateway.edge.web.trailers import trailers


class Shape(Protocol):
    """How a protocol writes a response."""

    def fields(self) -> Fields:
        """The header fields of its own."""

    def message(self, data: bytes) -> bytes:
        """A message of the answer, written as the client reads it."""

    def end(self, outcome: session_pb2.Outcome | None) -> bytes:
        """What ends the body."""


def _enveloped(message: bytes, gzip: bool) -> bytes:
    if gzip and len(message) >= compression.WORTHWHILE:
        return envelope(COMPRESSED, compression.compress(message))
    return envelope(0, message)


class GrpcWebShape:
    """A response of gRPC-Web. ``text``: in base64. ``gzip``: whether the client takes compressed messages."""

    def __init__(self, codec: str, *, text: bool, gzip: bool) -> None:
        self._codec = codec
        self._text = text
        self._gzip = gzip

    def fields(self) -> Fields:
        """See Shape."""
        mode = "-text" if self._text else ""
        fields = [
            (b"content-type", f"application/grpc-web{mode}+{self._codec}".encode()),
            (b"grpc-accept-encoding", compression.SUPPORTED.encode()),
        ]
        return [*fields, (b"grpc-encoding", b"gzip")] if self._gzip else fields

    def message(self, data: bytes) -> bytes:
        """See Shape."""
        return self._flushed(_enveloped(data, self._gzip))

    def end(self, outcome: session_pb2.Outcome | None) -> bytes:
        """See Shape."""
        own: list[tuple[str, str | bytes]] = [*as_text(trailing_fields(outcome))]
        if outcome is None or not failed(outcome):
            return self._flushed(trailers(0, "", own))
        code, message, details = grpc_status(outcome)
        return self._flushed(trailers(code.value[0], message, [*own, *details]))

    def _flushed(self, data: bytes) -> bytes:
        return base64_text.encode(data) if self._text else data


class ConnectStreamShape:
    """A response of Connect to a stream. ``gzip``: whether the client takes compressed messages."""

    def __init__(self, codec: str, *, gzip: bool) -> None:
        self._codec = codec
        self._gzip = gzip

    def fields(self) -> Fields:
        """See Shape."""
        fields = [
            (b"content-type", f"application/connect+{self._codec}".encode()),
            (b"connect-accept-encoding", compression.SUPPORTED.encode()),
        ]
        return [*fields, (b"connect-content-encoding", b"gzip")] if self._gzip else fields

    def message(self, data: bytes) -> bytes:
        """See Shape."""
        return _enveloped(data, self._gzip)

    def end(self, outcome: session_pb2.Outcome | None) -> bytes:
        """See Shape."""
        error = None
        if outcome is not None and failed(outcome):
            error = error_value(code_of(outcome.status), outcome.status)
        return envelope(END_STREAM, end_of_stream(error, as_text(trailing_fields(outcome))))


def refusal(shape: Shape, outcome: session_pb2.Outcome, *, whole: bool = False) -> Reply:
    """The answer to a request that did not become a call. ``whole``: whether its body has been read."""
    # What is left of a body would be taken for the next request.
    unread = [] if whole else [CLOSE]
    body = shape.end(outcome)
    return Reply(200, [*shape.fields(), *unread, (b"content-length", b"%d" % len(body))], body)


async def answer_enveloped(
    exchange: WebExchange, shape: Shape, codec: MessageCodec, body: EnvelopedBody, timeout_s: float | None
) -> None:
    """Calls the method with the messages of a body in envelopes, and answers. Raises ClientGoneError."""
    refused: session_pb2.Outcome | None = None
    response = _Response(exchange, shape)
    exchange.send_head = response.announce
    try:
        if exchange.method.client_streaming:
            exchange.start_stream(timeout_s, aiter(body))
        else:
            exchange.start(timeout_s, await body.only())
    except ClientGoneError:
        raise
    except Exception as error:
        refused = outcome_for(error)
    if refused is not None:
        return await exchange.reply(refusal(shape, refused, whole=body.whole))
    return await response.send(codec, body)


class _Response:
    """The response to a call: in one piece if the method gives one message, else each message when it comes.

    Its head goes out with the first message, or in one piece with all of them, unless the method sends initial metadata
    before: then it goes at once, since its status is 200 whatever becomes of the call.
    """

    def __init__(self, exchange: WebExchange, shape: Shape) -> None:
        self._exchange = exchange
        self._shape = shape
        self._begun = False

    async def announce(self, head: Head) -> None:
        """Sends the head of the response, and nothing else."""
        await self._begin(head)
        self._exchange.flush()

    async def _begin(self, head: Head) -> None:
        self._begun = True
        await self._exchange.begin_response(200, [*self._shape.fields(), *from_metadata(head)])

    async def send(self, codec: MessageCodec, body: EnvelopedBody) -> None:
        """Sends the messages and the end as they come."""
        exchange, shape = self._exchange, self._shape
        pieces: list[bytes] = []
        problem: session_pb2.Outcome | None = None
        try:
            async for message in exchange.results():
                piece = shape.message(await dumped(codec, message))
                if not exchange.method.server_streaming:
                    pieces.append(piece)
                    continue
                if not self._begun:
                    await self._begin(())
                await exchange.write(piece, more=True)
        except FairleadError as error:  # a result that cannot be written
            problem = outcome_for(error)
        whole = b"".join([*pieces, shape.end(problem or exchange.outcome)])
        if self._begun:
            return await exchange.write(whole, more=False)
        fields = [*shape.fields(), (b"content-length", b"%d" % len(whole))]
        if not body.whole:
            fields.append(CLOSE)
        return await exchange.reply(Reply(200, fields, whole))
