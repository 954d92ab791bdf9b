"""What the HTTP door answers before there is a request for its application: whole responses, as they go over the wire.

The connection is closed after each.
"""

from __future__ import annotations

import http

import grpc

from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import too_large

_Code = grpc.StatusCode


def _on_the_wire(reply: Reply) -> bytes:
    fields = b"".join(b"%b: %b\r\n" % field for field in [*reply.headers, http_status.CLOSE])
    phrase = http.HTTPStatus(reply.status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (reply.status, phrase, fields, reply.body)


def _refusal(status: int, code: grpc.StatusCode, message: str) -> bytes:
    return _on_the_wire(http_status.reply(status, code, message))


def body_too_large(limit: int) -> bytes:
    """For a body that its length says is above the limit, in bytes."""
    return _on_the_wire(http_status.error_reply(too_large(limit)))


BAD_REQUEST = _refusal(400, _Code.INVALID_ARGUMENT, "The request is not valid HTTP.")
NOT_ONE_HOST = _refusal(400, _Code.INVALID_ARGUMENT, "The request must have one Host field.")
HEAD_TOO_LARGE = _refusal(431, _Code.RESOURCE_EXHAUSTED, "The head of the request is too large.")
HEAD_TOO_LATE = _refusal(408, _Code.DEADLINE_EXCEEDED, "The head of the request did not come in time.")
BODY_TOO_LATE = _refusal(408, _Code.DEADLINE_EXCEEDED, "The body of the request did not come in time.")
TOO_MUCH_TOGETHER = _refusal(503, _Code.UNAVAILABLE, "Too many bodies are coming in at once; try again later.")
