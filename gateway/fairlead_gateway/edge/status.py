"""Outcomes as gRPC statuses."""

from __future__ import annotations

import grpc
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.outcomes import error_info

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata that carries the ``google.rpc.Status`` (gRPC's status package, L44)."""

MAX_MESSAGE_BYTES = 4096
"""Bytes of ``grpc-message``."""

MAX_METADATA_BYTES = 7 * 1024
"""Bytes that message and details may take in the trailers. Clients reject metadata above 8 KiB, some above 16 KiB."""

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_CUT = "…"


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """The status's code; UNKNOWN for a number that gRPC does not have, or for OK, which is no error."""
    code = CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return grpc.StatusCode.UNKNOWN if code is grpc.StatusCode.OK else code


def grpc_status(
    outcome: session_pb2.Outcome,
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """An outcome as code, message and trailing metadata. Exception bytes and tracebacks are no part of it."""
    status = outcome.status
    code = code_of(status)
    if status.ByteSize() > 1024:
        status = _fitted(status)
    return code, status.message, ((DETAILS_KEY, status.SerializeToString()),)


def _fitted(status: status_pb2.Status) -> status_pb2.Status:
    """The status cut down to what fits into trailers."""
    fitted = status_pb2.Status(code=status.code, message=_cut(status.message, MAX_MESSAGE_BYTES))
    fitted.details.extend(status.details)
    if _size(fitted) <= MAX_METADATA_BYTES:
        return fitted
    _cut_details(fitted)
    limit = MAX_MESSAGE_BYTES
    while _size(fitted) > MAX_METADATA_BYTES and limit > 256:
        limit //= 2
        fitted.message = _cut(fitted.message, limit)
    return fitted


def _cut_details(status: status_pb2.Status) -> None:
    """Leaves only our ErrorInfo, its values cut."""
    info = error_info(status)
    del status.details[:]
    if info is not None:
        kept = {_cut(key, 64): _cut(value, 128) for key, value in list(info.metadata.items())[:16]}
        info.metadata.clear()
        info.metadata.update(kept)
        status.details.add().Pack(info)


def _size(status: status_pb2.Status) -> int:
    """Bytes in the trailers: the message percent-encoded, the details in base64."""
    message = status.message.encode("utf-8", "replace")
    encoded = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message)
    details: int = status.ByteSize()
    return encoded + (details * 4 + 2) // 3


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, whole characters only."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[: limit - 3].decode("utf-8", "ignore") + _CUT
