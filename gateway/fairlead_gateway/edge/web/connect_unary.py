"""Connect's unary calls: the message is the body of a POST, or in the query of a GET; an error is a HTTP status."""

from __future__ import annotations

import base64
import binascii

import orjson

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError, InvalidCallError, MessageTooLargeError
from fairlead_gateway.edge.http_headers import from_metadata
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import ClientGoneError, read_body
from fairlead_gateway.edge.http_status import CLOSE
from fairlead_gateway.edge.status import code_of
from fairlead_gateway.edge.web import compression
from fairlead_gateway.edge.web.body import Encoding, StatusError
from fairlead_gateway.edge.web.connect_errors import CODES, error_value
from fairlead_gateway.edge.web.exchange import WebExchange, failed, outcome_for
from fairlead_gateway.edge.web.fields import (
    CONNECT_TIMEOUT,
    Fields,
    timeout_s,
    trailing_fields,
)
from fairlead_gateway.edge.web.message_codecs import MessageCodec, dumped, loaded
from fairlead_gateway.edge.web.negotiation import CONNECT_VERSION, check_version, query_of

_ACCEPT_ENCODING = (b"accept-encoding", compression.SUPPORTED.encode())
_VARY = (b"vary", b"accept-encoding")


async def answer_post(exchange: WebExchange, codec: MessageCodec) -> None:
    """Answers a POST. Raises ClientGoneError."""
    fields = exchange.fields
    try:
        check_version(fields.get(CONNECT_VERSION))
        encoding = Encoding(fields.get("content-encoding"))
        body = await read_body(exchange.scope, exchange.receive, exchange.limits.max_body_bytes)
        message = compression.decompress(body, exchange.limits.max_body_bytes) if encoding.gzip else body
        exchange.start(_timeout_s(exchange), await loaded(codec, message))
    except ClientGoneError:
        raise
    except (MessageTooLargeError, StatusError) as error:
        # What was not read of the body would be taken for the next request.
        return await exchange.reply(error_reply(outcome_for(error), CLOSE, _ACCEPT_ENCODING))
    except Exception as error:
        return await exchange.reply(error_reply(outcome_for(error)))
    return await _respond(exchange, codec)


async def answer_get(exchange: WebExchange, codec: MessageCodec) -> None:
    """Answers a GET, which only methods without side effects allow: proxies and browsers repeat it as they like."""
    try:
        query = query_of(exchange.scope["query_string"])
        check_version(query.get("connect"))
        encoding = Encoding(query.get("compression"))
        message = _message(query)
        if encoding.gzip:
            message = compression.decompress(message, exchange.limits.max_body_bytes)
        exchange.start(_timeout_s(exchange), await loaded(codec, message))
    except Exception as error:
        return await exchange.reply(error_reply(outcome_for(error)))
    return await _respond(exchange, codec)


def _message(query: dict[str, str]) -> bytes:
    data = query.get("message", "").encode("utf-8", "surrogateescape")
    if query.get("base64", "0") not in ("0", "1"):
        raise InvalidCallError("base64 in the query must be 1, or left out")
    if query.get("base64") != "1":
        return data
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCallError("message in the query must be base64 for URLs") from error


def _timeout_s(exchange: WebExchange) -> float | None:
    return timeout_s(None, exchange.fields.get(CONNECT_TIMEOUT), exchange.limits)


async def _respond(exchange: WebExchange, codec: MessageCodec) -> None:
    body = b""
    try:
        async for message in exchange.results():
            body = await dumped(codec, message)
    except FairleadError as error:  # a result that cannot be written
        return await exchange.reply(error_reply(outcome_for(error)))
    outcome, head = exchange.outcome, from_metadata(exchange.head)
    if outcome is not None and failed(outcome):
        return await exchange.reply(error_reply(outcome, *head))
    fields: Fields = [(b"content-type", f"application/{codec.name}".encode()), *head, *_trailing(outcome), _VARY]
    if len(body) >= compression.WORTHWHILE and compression.offered(exchange.fields.get("accept-encoding", "")):
        fields.append((b"content-encoding", compression.GZIP.encode()))
        body = compression.compress(body)
    fields.append((b"content-length", b"%d" % len(body)))
    return await exchange.reply(Reply(200, fields, body))


def error_reply(outcome: session_pb2.Outcome, *more: tuple[bytes, bytes]) -> Reply:
    """A failed call, or a request that did not become one, as a response. ``more``: further header fields."""
    code = code_of(outcome.status)
    body = orjson.dumps(error_value(code, outcome.status))
    length = (b"content-length", b"%d" % len(body))
    return Reply(CODES[code][1], [(b"content-type", b"application/json"), length, *_trailing(outcome), *more], body)


def _trailing(outcome: session_pb2.Outcome | None) -> Fields:
    return [(b"trailer-" + name, value) for name, value in trailing_fields(outcome)]
