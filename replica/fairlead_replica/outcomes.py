"""How a call's error is told to its caller, who is a gateway of the same owner and is trusted with all of it."""

from __future__ import annotations

import asyncio

import grpc

from fairlead.serve.multiplexing.decorator import CallersModelError
from fairlead.v1 import session_pb2
from fairlead.wire.errors import (
    ConnectionLostError,
    FairleadError,
    GatewayDrainingError,
    InternalError,
    ReplicaBusyError,
    ReplicaDrainingError,
    ReplicaUnavailableError,
    RequestCancelledError,
    TooManyCallsError,
)
from fairlead.wire.outcomes import outcome_of
from fairlead_replica.tracebacks import one_line, user_frames, user_traceback

_INVALID_ARGUMENT: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]
_ABOUT_A_CONNECTION = (
    ConnectionLostError,
    GatewayDrainingError,
    ReplicaBusyError,
    ReplicaDrainingError,
    TooManyCallsError,
)


def failure_of(error: BaseException) -> session_pb2.Outcome:
    """The outcome of a call that ended with ``error``. Never raises, whatever the user's exception is made of.

    Fairlead's own errors go as they are, the user's with their traceback. A TypeError that comes from no line of the
    user's is the one that Python raises for arguments that do not fit: a TypeError still, and INVALID_ARGUMENT for
    those who read statuses, as is a model id that cannot be one. A CancelledError that nobody asked for must not look
    at the caller's as if its own task had been cancelled.
    """
    try:
        if isinstance(error, asyncio.CancelledError):
            return outcome_of(RequestCancelledError("The method was cancelled from within."))
        in_user_code = user_frames(error) is not None
        if not in_user_code and isinstance(error, FairleadError):
            return outcome_of(error)
        trace = user_traceback(error)
        if isinstance(error, _ABOUT_A_CONNECTION):
            # It is about a call that this one made. Of this one a gateway would believe it too, and send it again.
            error = ReplicaUnavailableError(f"a call that the method made failed: {error.message}")
        outcome = outcome_of(error, traceback=trace)
        if isinstance(error, CallersModelError) or (isinstance(error, TypeError) and not in_user_code):
            outcome.status.code = _INVALID_ARGUMENT
        return outcome
    except Exception as failure:
        message = f"{type(error).__qualname__}, which cannot be described: {one_line(failure)}"
        return outcome_of(InternalError(message))
