"""A HTTP request as the payload of a call, and what its header fields say to the gateway."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

from fairlead.serve import tracing
from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import FairleadError, InvalidCallError, MessageTooLargeError
from fairlead_gateway.edge.http_headers import grpc_timeout_s, request_timeout_s
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.serving_headers import checked_request_id
from fairlead_gateway.routing.router import MAX_NAME

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]

REQUEST_ID = "x-request-id"
SESSION_ID = "x-session-id"
MODEL_ID = "serve_multiplexed_model_id"
TIMEOUT = "x-request-timeout-seconds"
KEEP_ON_DISCONNECT = "x-request-disconnect-disabled"
AUTHORIZATION = "authorization"
CALL_METHOD = "x-serve-call-method"
SHARD_KEY = "x-serve-shard-key"
GRPC_TIMEOUT = "grpc-timeout"

_NOTICED = {
    name.encode(): name
    for name in (
        REQUEST_ID,
        SESSION_ID,
        TIMEOUT,
        GRPC_TIMEOUT,
        KEEP_ON_DISCONNECT,
        AUTHORIZATION,
        CALL_METHOD,
        SHARD_KEY,
        *tracing.KEYS,
    )
}
# Proxies turn underscores into dashes, or drop such fields; all spellings mean the same, as in Ray Serve.
_NOTICED |= {f"serve{a}multiplexed{b}model{c}id".encode(): MODEL_ID for a, b, c in itertools.product("_-", repeat=3)}

_NAMES = (MODEL_ID, SESSION_ID, SHARD_KEY, CALL_METHOD)

_HttpHeader = http_pb2.HttpHeader
_HTTP = session_pb2.SERIALIZATION_HTTP


class ClientGoneError(FairleadError):
    """The client left before its request was complete."""


def notice(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The header fields that mean something to the gateway, by their names here. Of repeated ones the last counts."""
    return {_NOTICED[name]: value.decode("latin-1").strip() for name, value in fields if name in _NOTICED}


def timeout_of(noticed: dict[str, str], limits: HttpLimits) -> float | None:
    """The seconds that a request may take; None: no limit. :func:`check_fields` has let it through."""
    default, longest = limits.request_timeout_s, limits.max_request_timeout_s
    return request_timeout_s(noticed.get(TIMEOUT), noticed.get(GRPC_TIMEOUT), default, longest)


def check_fields(noticed: dict[str, str]) -> None:
    """Raises InvalidCallError for a malformed ``grpc-timeout``, and for names that are too long.

    Ray Serve's own field of a timeout may say anything.
    """
    given = noticed.get(GRPC_TIMEOUT)
    if given is not None:
        grpc_timeout_s(given)
    for name in _NAMES:
        length = len(_text(noticed.get(name, "")))
        if length > MAX_NAME:
            raise InvalidCallError(f"{name} of {length} characters; the limit is {MAX_NAME}")


def call_header(mount: Mount, noticed: dict[str, str], timeout_s: float | None) -> session_pb2.CallHeader:
    """The header of the call for a request to a mounted application."""
    header = session_pb2.CallHeader(
        application=mount.application,
        request_serialization=_HTTP,
        response_serialization=_HTTP,
        stream=True,
        route=mount.prefix,
    )
    if timeout_s is not None:
        header.timeout_us = int(timeout_s * 1e6) or 1
    if noticed:
        read_ids(header, noticed)
    return header


def read_ids(header: session_pb2.CallHeader, noticed: dict[str, str]) -> None:
    """Fills in what a request's fields name: ids, the model, and the method of a handler."""
    header.session_id = _text(noticed.get(SESSION_ID, ""))
    header.shard_key = _text(noticed.get(SHARD_KEY, ""))
    header.multiplexed_model_id = _text(noticed.get(MODEL_ID, ""))
    header.method = noticed.get(CALL_METHOD, "")
    header.request_id = request_id_of(noticed)
    if tracing.active() is not None:
        tracing.take(header, noticed.items())


def _text(value: str) -> str:
    """A name as callers mean it, who send UTF-8: the same name through every door."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def request_id_of(noticed: dict[str, str]) -> str:
    """The request's id; empty for one that cannot travel: a request is not refused for its id, but gets a new one."""
    try:
        return checked_request_id(noticed.get(REQUEST_ID, ""))
    except InvalidCallError:
        return ""


def encode(
    scope: Scope,
    mount: Mount,
    body: bytes,
    removed: str = "",
    *,
    route: str = "",
    params: Mapping[str, str] | None = None,
) -> bytes:
    """The request as an encoded ``HttpRequest``. ``removed``: the prefix that a proxy has taken off the path.

    ``route`` and ``params``: the route that it matched, and what that captured.
    """
    client = scope.get("client") or ("", 0)
    server = scope.get("server") or ("", 0)
    return http_pb2.HttpRequest(
        method=scope["method"],
        scheme=scope["scheme"],
        path=removed + scope["path"],
        raw_path=quote(removed).encode() + scope["raw_path"] if removed else scope["raw_path"],
        query_string=scope["query_string"],
        root_path=removed + mount.root_path,
        headers=[_HttpHeader(name=name, value=value) for name, value in scope["headers"]],
        body=body,
        http_version=scope["http_version"],
        client_host=client[0],
        client_port=client[1],
        server_host=server[0],
        server_port=server[1] or 0,
        route=route,
        path_params=params,
    ).SerializeToString()


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises MessageTooLargeError above ``limit`` bytes, ClientGoneError if the client leaves."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError("the client left")
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    if content_length(scope) > limit:
        raise too_large(limit)
    gathered = bytearray(body)  # a list of pieces of a byte each would be many times larger than they are
    while len(gathered) <= limit:
        if not message.get("more_body", False):
            return bytes(gathered)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left")
        gathered += message.get("body", b"")
    raise too_large(limit)


def content_length(scope: Mapping[str, Any]) -> int:
    """The length of the body, if the client says it beforehand; else 0."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def too_large(limit: int) -> MessageTooLargeError:
    """The error of a body above the limit."""
    return MessageTooLargeError(f"the body of the request is larger than the limit of {limit} bytes")
