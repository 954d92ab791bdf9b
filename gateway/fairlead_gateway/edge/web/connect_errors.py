"""Connect's errors: the names and HTTP statuses of the codes, and an error or the end of a stream in JSON. Pure.

The table and the shapes are https://connectrpc.com/docs/protocol's.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import grpc
import orjson
from google.rpc import status_pb2

_Code = grpc.StatusCode

CODES: dict[grpc.StatusCode, tuple[str, int]] = {
    _Code.CANCELLED: ("canceled", 499),
    _Code.UNKNOWN: ("unknown", 500),
    _Code.INVALID_ARGUMENT: ("invalid_argument", 400),
    _Code.DEADLINE_EXCEEDED: ("deadline_exceeded", 504),
    _Code.NOT_FOUND: ("not_found", 404),
    _Code.ALREADY_EXISTS: ("already_exists", 409),
    _Code.PERMISSION_DENIED: ("permission_denied", 403),
    _Code.RESOURCE_EXHAUSTED: ("resource_exhausted", 429),
    _Code.FAILED_PRECONDITION: ("failed_precondition", 400),
    _Code.ABORTED: ("aborted", 409),
    _Code.OUT_OF_RANGE: ("out_of_range", 400),
    _Code.UNIMPLEMENTED: ("unimplemented", 501),
    _Code.INTERNAL: ("internal", 500),
    _Code.UNAVAILABLE: ("unavailable", 503),
    _Code.DATA_LOSS: ("data_loss", 500),
    _Code.UNAUTHENTICATED: ("unauthenticated", 401),
}
"""Name and HTTP status by code."""


def error_value(code: grpc.StatusCode, status: status_pb2.Status) -> dict[str, Any]:
    """An error as JSON's values. Details have the names of their types, and their bytes in base64 without padding."""
    value: dict[str, Any] = {"code": CODES[code][0]}
    if status.message:
        value["message"] = status.message
    if status.details:
        value["details"] = [
            {
                "type": detail.type_url.rpartition("/")[2],
                "value": base64.b64encode(detail.value).rstrip(b"=").decode(),
            }
            for detail in status.details
        ]
    return value


def end_of_stream(error: dict[str, Any] | None, metadata: Iterable[tuple[str, str]]) -> bytes:
    """What the last envelope of a stream says. ``metadata``: trailing; values of ``-bin`` names in base64 already."""
    value: dict[str, Any] = {}
    if error is not None:
        value["error"] = error
    by_name: dict[str, list[str]] = {}
    for name, text in metadata:
        by_name.setdefault(name, []).append(text)
    if by_name:
        value["metadata"] = by_name
    return orjson.dumps(value)
