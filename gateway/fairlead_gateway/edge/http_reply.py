"""Outcomes as HTTP responses: Ray Serve's statuses and texts where it has them, google.rpc.Status as JSON elsewhere."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import grpc
import orjson
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import BY_REASON, FairleadError
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead_gateway.edge.status import code_of

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"

HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""grpc-gateway's table (runtime/errors.go), for statuses that carry no reason of ours."""


class Reply(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def text(status: int, body: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply in plain text."""
    return _reply(status, TEXT, body.encode("utf-8", "replace"), *headers)


def json(status: int, value: Any, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply in JSON."""
    return _reply(status, JSON, orjson.dumps(value), *headers)


def _reply(status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    length = str(len(body)).encode()
    return Reply(status, [(b"content-type", content_type), (b"content-length", length), *headers], body)


def error_reply(error: FairleadError) -> Reply:
    """The reply for an error of the door's own."""
    return outcome_reply(outcome_of(error, trusted=False), "", None)


def outcome_reply(outcome: session_pb2.Outcome, request_id: str, timeout_s: float | None) -> Reply:
    """The reply for a failed call. What the user's code raised is not shown: only logs and trusted peers see it."""
    status = outcome.status
    info = error_info(status)
    reason = "" if info is None else info.reason
    metadata = {} if info is None else dict(info.metadata)
    if reason == "USER_EXCEPTION":
        return text(500, "Internal Server Error")
    if reason == "QUEUE_FULL":
        return _backpressure(status.message, metadata)
    if reason == "DEADLINE_EXCEEDED":
        after = "" if timeout_s is None else f" after {timeout_s}s"
        return text(408, f"Request {request_id} timed out{after}.")
    known = BY_REASON.get(reason)
    code = known.http_status if known is not None else HTTP_STATUS.get(code_of(status), 500)
    return json(code, _status_as_json(status, reason, metadata))


def _backpressure(message: str, metadata: dict[str, str]) -> Reply:
    code = 429 if metadata.get("status_code") == "429" else 503
    try:
        retry_after = str(max(0, math.ceil(float(metadata["retry_after_s"])))).encode()
    except (KeyError, ValueError, OverflowError):
        return text(code, message)
    return text(code, message, (b"retry-after", retry_after))


def _status_as_json(status: status_pb2.Status, reason: str, metadata: dict[str, str]) -> dict[str, Any]:
    code = code_of(status)
    details = []
    if reason:
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "fairlead",
                "metadata": metadata,
            }
        )
    return {"code": code.value[0], "message": status.message, "details": details}
