"""The errors that ``fairlead.serve`` raises, under the names that Ray Serve's users know.

They are the classes of :mod:`fairlead.wire.errors`; only ``gRPCStatusError`` lives here.
"""

from __future__ import annotations

import grpc

from fairlead.wire.errors import (
    ApplicationNotFoundError,
    BackPressureError,
    CardinalityError,
    ChangedMeanwhileError,
    ConnectionLostError,
    DeadlineExceededError,
    DeployFailedError,
    DeploymentNotFoundError,
    DeploymentUnavailableError,
    FairleadError,
    InternalError,
    InvalidArgumentsError,
    InvalidCallError,
    MessageTooLargeError,
    MethodNotFoundError,
    ReplicaUnavailableError,
    RequestCancelledError,
    ReservationNotFoundError,
    ResultNotSerializableError,
    TooManyCallsError,
    UnauthenticatedError,
    UnknownSerializationError,
    UntrustedSerializationError,
    UserExceptionError,
)

RayServeException = FairleadError
"""What Ray Serve calls the base of its errors."""


class gRPCStatusError(FairleadError):
    """An error with a gRPC status of the user's choice, set through a ``grpc_context``."""

    def __init__(self, original_exception: BaseException, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(details or str(original_exception))
        self.original_exception = original_exception
        self.grpc_code = code
        self.grpc_details = details

    def __reduce__(self) -> tuple[object, ...]:
        return (gRPCStatusError, (self.original_exception, self.grpc_code, self.grpc_details))


__all__ = [
    "ApplicationNotFoundError",
    "BackPressureError",
    "CardinalityError",
    "ChangedMeanwhileError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "DeployFailedError",
    "DeploymentNotFoundError",
    "DeploymentUnavailableError",
    "FairleadError",
    "InternalError",
    "InvalidArgumentsError",
    "InvalidCallError",
    "MessageTooLargeError",
    "MethodNotFoundError",
    "RayServeException",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "ReservationNotFoundError",
    "ResultNotSerializableError",
    "TooManyCallsError",
    "UnauthenticatedError",
    "UnknownSerializationError",
    "UntrustedSerializationError",
    "UserExceptionError",
    "gRPCStatusError",
]
