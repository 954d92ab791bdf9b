"""What a routed method returns as a HTTP response: JSON, or a stream in the format that the client asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import grpc
import orjson
import pydantic_core

from fairlead.v1 import http_pb2
from fairlead_replica.http import JSON, JSON_LINES, ChunkEncoder, encode_json, encode_response
from fairlead_replica.http_fields import fields_of_exception

BYTES = b"application/octet-stream"
EVENTS = b"text/event-stream"

_QUALITY: Final = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)
_OFFERS: Final = (
    (JSON_LINES, frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"}), "application/*"),
    (EVENTS, frozenset({"text/event-stream"}), "text/*"),
    (JSON, frozenset({"application/json"}), "application/*"),
)
"""Media types of streams, in the order of our preference, and by which ranges clients ask for them."""

_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def encode_result(value: Any) -> bytes:
    """A result, if it is no Response, as an encoded HttpResponse: JSON; bytes as they are. Raises TypeError."""
    if isinstance(value, bytes | bytearray | memoryview):
        content_type, body = BYTES, bytes(value)
    else:
        content_type, body = JSON, to_json(value)
    return encode_response(200, [(b"content-type", content_type), (b"content-length", b"%d" % len(body))], body)


def to_json(value: Any) -> bytes:
    """Any value as JSON: also what only pydantic knows, like decimals. Raises TypeError for what has no JSON form."""
    try:
        return encode_json(value)
    except TypeError:
        try:
            return pydantic_core.to_json(value, by_alias=True, inf_nan_mode="null", fallback=_plain)
        except ValueError as error:  # PydanticSerializationError is one
            raise TypeError(str(error)) from error


def _plain(value: Any) -> Any:
    """What pydantic does not know, by way of the encoder that does."""
    return orjson.loads(encode_json(value))


def encode_http_error(error: Any) -> bytes:
    """A Starlette HTTPException as the response that it stands for, with a google.rpc.Status as its body.

    Raises TypeError or ValueError for one that HTTP cannot carry.
    """
    status: int = error.status_code
    default = grpc.StatusCode.FAILED_PRECONDITION if status < 500 else grpc.StatusCode.INTERNAL
    message = error.detail if isinstance(error.detail, str) else to_json(error.detail).decode()
    body = orjson.dumps({"code": _CODES.get(status, default).value[0], "message": message, "details": []})
    return encode_response(status, fields_of_exception(error, JSON, body), body)


def stream_type(accept: Iterable[bytes]) -> bytes:
    """The media type of a stream, by the values of the ``Accept`` header (RFC 9110 12.5.1).

    The one that the client likes best; of those it likes equally, the one that it names most exactly; then NDJSON
    before events before a JSON array. NDJSON where it accepts none of them.
    """
    ranges = [_range(each) for value in accept for each in value.decode("latin-1").lower().split(",")]
    best, chosen = (0.0, 0), JSON_LINES
    for media_type, names, wider in _OFFERS:
        matching = [
            (3 if name in names else 2 if name == wider else 1, quality)
            for name, quality in ranges
            if name in names or name in (wider, "*/*")
        ]
        if matching:
            exactness, quality = max(matching)
            if (quality, exactness) > best and quality > 0:
                best, chosen = (quality, exactness), media_type
    return chosen


def _range(text: str) -> tuple[str, float]:
    name, *parameters = text.split(";")
    for parameter in parameters:
        found = _QUALITY.fullmatch(parameter)
        if found:
            return name.strip(), float(found[1])
    return name.strip(), 1.0


class Items(ChunkEncoder):
    """The items of a generator as one response: lines, events, or a JSON array."""

    __slots__ = ("_media_type",)

    def __init__(self, media_type: bytes) -> None:
        super().__init__()
        self._media_type = media_type

    @property
    def started(self) -> bool:
        """Whether the response has begun, so that its status cannot change any more."""
        return self._started

    def encode(self, item: Any) -> bytes:
        """An item as an encoded HttpResponse. Raises TypeError for what JSON cannot hold."""
        body = to_json(item)
        if self._media_type == JSON_LINES:
            body += b"\n"
        elif self._media_type == EVENTS:
            body = b"data: " + body + b"\n\n"
        else:
            body = (b"," if self._started else b"[") + body
        if self._started:
            return http_pb2.HttpResponse(body=body).SerializeToString()
        self._started = True
        return self._head(body)

    def finish(self) -> bytes | None:
        """What is to be sent at the end: the array's end, and the head of a response without items."""
        if self._media_type != JSON:
            return None if self._started else self._head(b"")
        return http_pb2.HttpResponse(body=b"]").SerializeToString() if self._started else self._head(b"[]")

    def _head(self, body: bytes) -> bytes:
        headers = [(b"content-type", self._media_type), (b"vary", b"accept")]
        if self._media_type == EVENTS:
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return encode_response(200, headers, body)
