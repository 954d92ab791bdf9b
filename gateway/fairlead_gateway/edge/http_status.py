"""Errors as google.rpc.Status in JSON: what the HTTP port answers with where an error is Fairlead's own, on every path.

Where Ray Serve has words for an error, they are its message. What clients of Connect and gRPC-Web understand is made in
``edge/web``.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import grpc
import orjson
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

# Imported so that their messages are known by name.
from google.rpc import error_details_pb2 as error_details_pb2
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import BY_REASON, FairleadError
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead_gateway.edge.http_reply import Reply, json
from fairlead_gateway.edge.status import code_of

NDJSON = b"application/x-ndjson"
EVENTS = b"text/event-stream"

HIDDEN = "Internal Server Error"
"""The message for what the user's code raised: only logs and trusted peers see more."""

CLOSE = (b"connection", b"close")
"""Says that the connection ends with this response: the rest of the request's body is not read."""

_LONGEST_ECHO = 200
"""Characters of a client's own that a message repeats."""

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


def reply(http_status: int, code: grpc.StatusCode, message: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply of the door's own, with a Status as its body."""
    return json(http_status, {"code": code.value[0], "message": message, "details": []}, *headers)


def error_reply(error: FairleadError, *headers: tuple[bytes, bytes]) -> Reply:
    """The reply for an error of the door's own."""
    made = outcome_reply(outcome_of(error, trusted=False), "", None)
    made.headers.extend(headers)
    return made


def not_found(path: str, further: str = "") -> Reply:
    """The reply for a path that nothing takes. ``further``: where to look besides."""
    message = f"Path '{shortened(path)}' not found. Ping http://.../-/routes for available routes{further}."
    return reply(404, grpc.StatusCode.NOT_FOUND, message)


def shortened(text: str) -> str:
    """What a client said, as a message repeats it: the beginning, if it is long."""
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"


def outcome_reply(
    outcome: session_pb2.Outcome, request_id: str, timeout_s: float | None, pool: DescriptorPool | None = None
) -> Reply:
    """The reply for a failed call: the HTTP status by the reason or the code, the Status as its body.

    ``pool``: knows the types of details that are not known here.
    """
    value = status_value(outcome, pool)
    info = error_info(outcome.status)
    reason = "" if info is None else info.reason
    known = BY_REASON.get(reason)
    status = known.http_status if known is not None else HTTP_STATUS.get(code_of(outcome.status), 500)
    headers = []
    if reason == "QUEUE_FULL" and info is not None:
        status = 429 if info.metadata.get("status_code") == "429" else 503
        try:
            headers.append((b"retry-after", b"%d" % max(0, math.ceil(float(info.metadata["retry_after_s"])))))
        except (KeyError, ValueError, OverflowError):
            pass
    if reason == "DEADLINE_EXCEEDED":
        after = "" if timeout_s is None else f" after {timeout_s}s"
        value["message"] = f"Request {request_id} timed out{after}."
    return json(status, value, *headers)


def error_record(media_type: bytes, outcome: session_pb2.Outcome, pool: DescriptorPool | None = None) -> bytes:
    """What a stream that has begun ends with when its call fails: ``{"error": Status}`` as a line or an event.

    Empty where the format has no place for it. Then the connection must be broken off: whoever reads it would else take
    what it has for the whole.
    """
    record = orjson.dumps({"error": status_value(outcome, pool)})
    if media_type.startswith(NDJSON):
        return record + b"\n"
    if media_type.startswith(EVENTS):
        return b"event: error\ndata: " + record + b"\n\n"
    return b""


def status_value(outcome: session_pb2.Outcome, pool: DescriptorPool | None = None) -> dict[str, Any]:
    """The outcome's Status as JSON's values. What the user's code raised is not shown."""
    status = outcome.status
    info = error_info(status)
    if info is not None and info.reason == "USER_EXCEPTION":
        return {"code": grpc.StatusCode.INTERNAL.value[0], "message": HIDDEN, "details": []}
    details = [_detail(status.details[index], pool) for index in range(len(status.details))]
    return {"code": code_of(status).value[0], "message": status.message, "details": details}


def _detail(detail: Any, pool: DescriptorPool | None) -> dict[str, Any]:
    for known in (descriptor_pool.Default(), pool):
        try:
            value: dict[str, Any] = json_format.MessageToDict(detail, descriptor_pool=known)
            return value
        except (TypeError, ValueError, DecodeError, json_format.Error):
            continue  # a type that is not known there, or bytes that are none
    return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode()}


def with_details(code: grpc.StatusCode, message: str, *details: Any) -> session_pb2.Outcome:
    """An outcome of the door's own, for example with a ``BadRequest``."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return session_pb2.Outcome(status=status)
