"""The header of a call, of what its first message and its metadata say."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
import grpc.aio

from fairlead.serve import tracing
from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.codecs import codec_of_media_type
from fairlead.wire.errors import InvalidCallError

REQUEST_ID_KEY = "x-request-id"
SESSION_ID_KEY = "session_id"
_NAMED_IN_METADATA = frozenset({REQUEST_ID_KEY, SESSION_ID_KEY, "multiplexed_model_id"})
"""Metadata that stands for what a target leaves empty: Ray Serve's names but for the first."""
MAX_REQUEST_ID = 256
"""Characters of a request id that a caller chose: it travels in headers and logs."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def fill_header(header: session_pb2.CallHeader, target: serving_pb2.Target, content_type: str, context: Context) -> str:
    """Fills the header of a call from what its first message and its metadata say; the media type of the results.

    Raises UnknownSerializationError for a media type that is none of ours, InvalidCallError for a bad request id.
    """
    codec = codec_of_media_type(content_type)
    header.application = target.application
    header.deployment = target.deployment
    header.method = target.method
    header.request_serialization = codec.serialization
    if target.accept:
        codec = codec_of_media_type(target.accept)
    header.response_serialization = codec.serialization
    model_id, session_id, request_id = target.multiplexed_model_id, target.session_id, target.request_id
    for key, value in context.invocation_metadata() or ():
        if key in _NAMED_IN_METADATA:
            text = value if isinstance(value, str) else value.decode("ascii", "replace")
            if key == REQUEST_ID_KEY:
                request_id = request_id or text
            elif key == SESSION_ID_KEY:
                session_id = session_id or text
            else:
                model_id = model_id or text
    if model_id:
        header.multiplexed_model_id = model_id
    if session_id:
        header.session_id = session_id
    if target.shard_key:
        header.shard_key = target.shard_key
    if target.idempotent:
        header.idempotent = True
    if request_id:
        header.request_id = checked_request_id(request_id)
    if tracing.active() is not None:
        tracing.take(header, context.invocation_metadata() or ())
    remaining = context.time_remaining()
    if remaining is not None:
        header.timeout_us = int(remaining * 1e6) or 1  # 0 would mean no deadline
    return codec.media_type


def bound_deadline(header: session_pb2.CallHeader, longest_us: int) -> None:
    """Shortens the time that a call may take to a listener's limit in microseconds; 0: it has none."""
    if longest_us and not 0 < header.timeout_us <= longest_us:
        header.timeout_us = longest_us


def checked_request_id(request_id: str) -> str:
    """The id, if it can travel in headers. Raises InvalidCallError."""
    if len(request_id) > MAX_REQUEST_ID or not (request_id.isascii() and request_id.isprintable()):
        raise InvalidCallError(f"a request id is at most {MAX_REQUEST_ID} printable ASCII characters")
    return request_id
