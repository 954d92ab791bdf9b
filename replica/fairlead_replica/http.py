"""HTTP payloads: a request for the user's handler, and whatever it returns as a response, by Ray Serve's rules.

Starlette is imported with the first request, so that replicas that serve none do not carry it.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import decimal
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import InvalidArgumentsError
from fairlead_replica.http_fields import fields_of

PLAIN = b"text/plain"
PLAIN_UTF8 = b"text/plain; charset=utf-8"
JSON = b"application/json"
JSON_LINES = b"application/x-ndjson"


def decode_request(payload: bytes) -> Any:
    """The payload of a call as a ``starlette.requests.Request``. Raises InvalidArgumentsError."""
    return request_of(parse_request(payload))


def parse_request(payload: bytes) -> http_pb2.HttpRequest:
    """The payload of a call as a message. Raises InvalidArgumentsError."""
    try:
        return http_pb2.HttpRequest.FromString(payload)
    except Exception as error:  # protobuf raises its own
        raise InvalidArgumentsError(f"the payload is not a HttpRequest: {error}") from error


def request_of(message: http_pb2.HttpRequest) -> Any:
    """The message as a ``starlette.requests.Request``."""
    body = message.body
    request = (_request_class or _import_request_class())(scope_of(message), Body(body).receive)
    request._body = body  # what body() would set after a detour through receive()
    return request


def scope_of(message: http_pb2.HttpRequest) -> dict[str, Any]:
    """The request as an ASGI scope."""
    return {
        "type": "http",
        # From 2.4 on Starlette's streams end by an error from send and need no task that waits for a disconnect.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": message.http_version or "1.1",
        "method": message.method,
        "scheme": message.scheme,
        "path": message.path,
        "raw_path": message.raw_path,
        "query_string": message.query_string,
        "root_path": message.root_path,
        "headers": _Headers(message.headers),
        "client": (message.client_host, message.client_port) if message.client_host else None,
        "server": (message.server_host, message.server_port) if message.server_host else None,
    }


_request_class: Callable[..., Any] | None = None


def _import_request_class() -> Callable[..., Any]:
    global _request_class
    from starlette.requests import Request

    _request_class = Request
    return Request


class _Headers(Sequence[tuple[bytes, bytes]]):
    """The header fields, read from the message by those handlers only that look at them."""

    __slots__ = ("_fields", "_list")

    def __init__(self, fields: Sequence[http_pb2.HttpHeader]) -> None:
        self._fields = fields
        self._list: list[tuple[bytes, bytes]] | None = None

    def _read(self) -> list[tuple[bytes, bytes]]:
        if self._list is None:
            self._list = [(field.name, field.value) for field in self._fields]
        return self._list

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._read())


class Body:
    """ASGI's ``receive`` for a body that is all there."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def receive(self) -> dict[str, Any]:
        """The body, once."""
        body, self._body = self._body, None
        if body is None:  # next would be the disconnect, and that cancels the handler
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": body, "more_body": False}


def encode_value(value: Any) -> bytes:
    """What a handler returned, if it is no Response, as an encoded HttpResponse with status 200.

    None: empty; bytes: text/plain; str: text/plain; charset=utf-8; else JSON. Raises TypeError for what
    JSON cannot hold.
    """
    content_type, body = _content(value)
    return encode_response(200, [(b"content-type", content_type), (b"content-length", b"%d" % len(body))], body)


def encode_response(status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, complete: bool = False) -> bytes:
    """The first message of a response. ``complete``: it is the only one, and comes before the end of the call."""
    response = http_pb2.HttpResponse(status=status, body=body)
    if complete:
        response.complete = True
    add = response.headers.add
    for name, value in headers:
        add(name=name, value=value)
    return response.SerializeToString()


CODEC = Codec(
    name="JSON",
    serialization=session_pb2.SERIALIZATION_HTTP,
    media_type="",
    runs_code=False,
    dumps=encode_value,
    loads=decode_request,
)
"""HTTP as if it were a serialization of arguments and results."""


class ChunkEncoder:
    """The items of a generator as the pieces of one response; the first decides on the content type.

    Strings and bytes go out as they are; anything else as JSON, one line each.
    """

    __slots__ = ("_started",)

    def __init__(self) -> None:
        self._started = False

    def encode(self, item: Any) -> bytes:
        """An item as an encoded HttpResponse. Raises TypeError for what JSON cannot hold."""
        content_type, body = _content(item)
        if content_type == JSON:
            content_type, body = JSON_LINES, body + b"\n"
        if self._started:
            return http_pb2.HttpResponse(body=body).SerializeToString()
        self._started = True
        return encode_response(200, [(b"content-type", content_type)], body)

    def finish(self) -> bytes | None:
        """What is to be sent at the end: a response that never began still has a status."""
        return None if self._started else encode_response(200, [(b"content-type", PLAIN)], b"")


def is_response(value: Any) -> bool:
    """Whether the value is a Starlette Response of any kind."""
    responses = sys.modules.get("starlette.responses")  # not imported: nobody can have made one
    return responses is not None and isinstance(value, responses.Response)


def encode_plain_response(response: Any) -> bytes | None:
    """A Response whose body is all there, without a background task, as one message; None: it has to be played.

    Raises ValueError for header fields that HTTP cannot carry.
    """
    from starlette.responses import Response

    kind = type(response)
    if kind.__call__ is not Response.__call__ or response.background is not None:
        return None
    return encode_response(response.status_code, fields_of(response.raw_headers), bytes(response.body))


def _content(value: Any) -> tuple[bytes, bytes]:
    if value is None:
        return PLAIN, b""
    if isinstance(value, str):
        return PLAIN_UTF8, value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return PLAIN, bytes(value)
    return JSON, encode_json(value, _as_fastapi)


_NON_STRING_KEYS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _as_fastapi(value: Any) -> Any:
    """For what orjson does not know: what FastAPI's encoder makes of it, as Ray Serve has it."""
    if isinstance(value, decimal.Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, collections.deque):
        return list(value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if type(value).__module__ in ("ipaddress", "pydantic.networks", "pydantic.types", "pydantic_core._pydantic_core"):
        return str(value)
    return _simpler(value)


def encode_json(value: Any, simpler: Callable[[Any], Any] | None = None) -> bytes:
    """Any value as JSON: numpy, pydantic, dataclasses and the like by their contents, non-string keys as strings.

    ``simpler``: for what orjson does not know a value that it does, or a TypeError. Raises TypeError for what has no
    JSON form.
    """
    simpler = simpler or _simpler
    try:
        return orjson.dumps(value, simpler, orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        pass
    try:
        return orjson.dumps(value, simpler, _NON_STRING_KEYS)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
    return json.dumps(value, default=simpler, separators=(",", ":"), ensure_ascii=False).encode()


def _simpler(value: Any) -> Any:
    """For what orjson does not know: a value that it does."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode()
    if isinstance(value, BaseException):
        return str(value)
    if isinstance(value, set | frozenset):
        return list(value)
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json", by_alias=True)
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    if callable(to_dict := getattr(value, "to_dict", None)):
        return to_dict(orient="records") if hasattr(value, "columns") else to_dict()
    if callable(path := getattr(value, "__fspath__", None)):
        return path()
    raise TypeError(f"Type is not JSON serializable: {type(value).__qualname__}")
