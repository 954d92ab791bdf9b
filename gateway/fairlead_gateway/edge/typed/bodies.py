"""Bodies of requests as messages of a client's stream: lines of JSON, a JSON document, or pieces of an upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NoReturn

from fairlead.wire.errors import InvalidArgumentsError, MessageTooLargeError, UnknownSerializationError
from fairlead_gateway.edge.conversions import LARGE, beside
from fairlead_gateway.edge.exchange import Exchange
from fairlead_gateway.edge.http_request import ClientGoneError
from fairlead_gateway.edge.protojson import JsonRefused, document
from fairlead_gateway.edge.typed.requests import RequestPlan

JSON_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8"})
"""How the content type of JSON is usually spelt; other spellings are looked at closely."""

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_PIECE = 1024 * 1024
"""Bytes of an upload that one message holds at most."""


def refused_type(content_type: bytes, *, streaming: bool = False) -> None:
    """Raises UnknownSerializationError, which is 415, for a content type that is not JSON in UTF-8."""
    name, *parameters = (piece.strip() for piece in content_type.decode("latin-1").lower().split(";"))
    if not name:
        return
    json = name == "application/json" or (name.startswith("application/") and name.endswith("+json"))
    if not json and not (streaming and name in _LINES):
        _refuse(content_type, streaming)
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            _refuse(content_type, streaming)


def _refuse(content_type: bytes, streaming: bool) -> NoReturn:
    wanted = "application/json or application/x-ndjson" if streaming else "application/json"
    raise UnknownSerializationError(f"content type {content_type.decode('latin-1')!r}: the body must be {wanted}")


async def messages(exchange: Exchange, plan: RequestPlan, content_type: str) -> AsyncIterator[bytes]:
    """The messages of a client's stream, as they come. Path and query are bound to the first one.

    Raises InvalidArgumentsError for one that does not fit, MessageTooLargeError for a body above the limit,
    ClientGoneError if the client leaves.
    """
    number = 1
    if plan.raw:
        async for piece in _pieces(exchange):
            try:
                message = plan.piece(
                    exchange.params if number == 1 else None, exchange.scope["query_string"], piece, content_type
                )
            except JsonRefused as refused:
                raise _refused(number, refused) from refused
            yield message
            number += 1
        return
    by_line = content_type.partition(";")[0].strip().lower() in ("", *_LINES)
    async for text in _lines(exchange) if by_line else _whole(exchange):
        given = exchange, plan, text, number, not by_line
        converted = _converted(*given) if len(text) <= LARGE else await beside(_converted, *given)
        for message in converted:
            yield message
        number += len(converted)


def _converted(exchange: Exchange, plan: RequestPlan, text: bytes, number: int, many: bool) -> list[bytes]:
    """The messages of a JSON text, the first of which has that number. ``many``: an array holds one for each item."""
    converted: list[bytes] = []
    try:
        tree = document(text)
        for each in tree if many and type(tree) is list else [tree]:
            if number + len(converted) == 1:
                converted.append(plan.of_tree(each, exchange.params, exchange.scope["query_string"]))
            else:
                converted.append(plan.further(each))
    except JsonRefused as refused:
        raise _refused(number + len(converted), refused) from refused
    return converted


def _refused(number: int, refused: JsonRefused) -> InvalidArgumentsError:
    return InvalidArgumentsError(f"message {number} of the stream: {refused}")


async def _chunks(exchange: Exchange) -> AsyncIterator[bytes]:
    """The body as it comes."""
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > exchange.port.limits.max_body_bytes:
            raise MessageTooLargeError(
                f"the body of the request is larger than the limit of {exchange.port.limits.max_body_bytes} bytes"
            )
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def _pieces(exchange: Exchange) -> AsyncIterator[bytes]:
    async for chunk in _chunks(exchange):
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]


async def _whole(exchange: Exchange) -> AsyncIterator[bytes]:
    """The body, unless it is empty."""
    body = bytearray()  # a list of pieces of a few bytes each would be many times larger than they are
    async for chunk in _chunks(exchange):
        body += chunk
    if body.strip():
        yield bytes(body)


async def _lines(exchange: Exchange) -> AsyncIterator[bytes]:
    """The lines of a body that are not empty."""
    rest = bytearray()
    async for chunk in _chunks(exchange):
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            whole = bytes(rest + line).strip()
            rest.clear()
            if whole:
                yield whole
        rest += tail
    whole = bytes(rest).strip()
    if whole:
        yield whole
