"""How a typed service's call ends: by its context, by what its method raised, or simply well."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from fairlead.serve.grpc_util import DETAILS_KEY, Metadata, checked_metadata, gRPCContext
from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead.wire.outcomes import MAX_MESSAGE
from fairlead_replica.outcomes import failure_of

_OK = grpc.StatusCode.OK


def success_of(context: gRPCContext) -> session_pb2.Outcome | None:
    """The outcome of a call whose method returned; None: there is nothing to tell but the result."""
    code = context.code()
    if code is not None and code is not _OK:
        return _outcome(code, context.details(), context.trailing_metadata())
    if context.trailing_metadata():
        return _outcome(_OK, "", context.trailing_metadata())
    return None


def failure_in(error: BaseException, context: gRPCContext) -> session_pb2.Outcome:
    """The outcome of a call that ended with ``error``: never raises.

    What looks like a ``grpc.RpcError`` says its status itself. Otherwise a code that the method has set counts, and
    then that the error is Fairlead's own, or the user's: INTERNAL.
    """
    try:
        raised = _status_of(error)
        if raised is not None:
            return _outcome(*raised)
        code = context.code()
        if code is not None and code is not _OK:
            return _outcome(code, context.details() or str(error), context.trailing_metadata())
    except Exception:  # what looks like a RpcError may be anything
        return failure_of(error)
    outcome = failure_of(error)
    if isinstance(error, TypeError) and not isinstance(error, FairleadError):
        outcome.status.code = grpc.StatusCode.INTERNAL.value[0]  # the arguments are ours, and not the caller's
    outcome.trailing_metadata.extend(entries_of(context.trailing_metadata()))
    return outcome


def is_users_status(error: BaseException, context: gRPCContext) -> bool:
    """Whether the error is one that the method meant its caller to get, and no defect."""
    if isinstance(error, FairleadError) or context.code() not in (None, _OK):
        return True
    try:
        return _status_of(error) is not None
    except Exception:
        return False


def _status_of(error: BaseException) -> tuple[grpc.StatusCode, str, Metadata] | None:
    """What an exception says that can be read as a ``grpc.RpcError``: RpcAborted, grpc.aio.AioRpcError."""
    if isinstance(error, FairleadError):
        return None
    read: Any = getattr(error, "code", None)
    code = read() if callable(read) else None
    if not isinstance(code, grpc.StatusCode) or code is _OK:
        return None
    details = getattr(error, "details", None)
    trailing = getattr(error, "trailing_metadata", None)
    kept = [(key, value) for key, value in (trailing() if callable(trailing) else None) or () if _may_pass(key)]
    return code, str((details() if callable(details) else None) or ""), checked_metadata(kept)


def _may_pass(key: Any) -> bool:
    """What another server's call came with belongs to its transport, the status's details aside."""
    return isinstance(key, str) and (not key.startswith("grpc-") or key == DETAILS_KEY)


def _outcome(code: grpc.StatusCode, details: str, trailing: Metadata) -> session_pb2.Outcome:
    status = status_pb2.Status(code=code.value[0], message=details.encode("utf-8", "replace").decode()[:MAX_MESSAGE])
    outcome = session_pb2.Outcome(status=status)
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            _take_details(outcome.status, value)
    outcome.trailing_metadata.extend(entries_of(trailing))
    return outcome


def _take_details(status: status_pb2.Status, data: bytes) -> None:
    """The details of a status that came as metadata; the gateway makes metadata of them again."""
    try:
        status.details.extend(status_pb2.Status.FromString(data).details)
    except DecodeError:
        pass


def entries_of(metadata: Metadata) -> list[session_pb2.Metadata]:
    """Metadata as they travel; the details of a status travel with it, and are not among them."""
    return [
        session_pb2.Metadata(key=key, value=value if isinstance(value, bytes) else value.encode())
        for key, value in metadata
        if key != DETAILS_KEY
    ]
