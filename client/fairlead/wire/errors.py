"""Every error that Fairlead itself raises: one tree, one table.

A class says what the error is on every door: its reason (``ErrorReason``), gRPC code, HTTP status, and whether a call
that ended with it provably did not start, so that it may be sent again. Code raises these anywhere;
:mod:`fairlead.wire.outcomes` turns them into ``Outcome`` messages and back at the edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import grpc

from fairlead.v1 import error_pb2

DOMAIN = "fairlead"
"""The ``domain`` of the ``google.rpc.ErrorInfo`` in every status."""


class FairleadError(Exception):
    """The base of all errors of Fairlead's own. Ray Serve's users know it as ``RayServeException``."""

    reason: ClassVar[error_pb2.ErrorReason.ValueType] = error_pb2.ERROR_REASON_INTERNAL
    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500
    never_started: ClassVar[bool] = False
    """Whether the user's code provably did not see the call."""

    def __init__(self, message: str = "", *, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata or {}
        """Facts for programs; they travel in ``ErrorInfo.metadata``."""

    @classmethod
    def restore(cls, message: str, metadata: dict[str, str]) -> FairleadError:
        """Makes the error again from what travelled. Subclasses with fields of their own override it."""
        return cls(message, metadata=metadata)

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.message, self.metadata))


def _restore(cls: type[FairleadError], message: str, metadata: dict[str, str]) -> FairleadError:
    return cls.restore(message, metadata)


class InternalError(FairleadError):
    """A defect of Fairlead's own."""


class ApplicationNotFoundError(FairleadError):
    """No application of that name is deployed."""

    reason = error_pb2.ERROR_REASON_APPLICATION_NOT_FOUND
    code = grpc.StatusCode.NOT_FOUND
    http_status = 404


class DeploymentNotFoundError(FairleadError):
    """The application has no deployment of that name."""

    reason = error_pb2.ERROR_REASON_DEPLOYMENT_NOT_FOUND
    code = grpc.StatusCode.NOT_FOUND
    http_status = 404


class MethodNotFoundError(FairleadError):
    """The deployment has no method of that name."""

    reason = error_pb2.ERROR_REASON_METHOD_NOT_FOUND
    code = grpc.StatusCode.NOT_FOUND
    http_status = 404


class InvalidCallError(FairleadError):
    """The call is malformed: a field is missing, out of range, or contradicts another one."""

    reason = error_pb2.ERROR_REASON_INVALID_CALL
    code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class InvalidArgumentsError(FairleadError):
    """The arguments could not be decoded with the serialization they were sent in."""

    reason = error_pb2.ERROR_REASON_INVALID_ARGUMENTS
    code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class ResultNotSerializableError(FairleadError):
    """The result could not be encoded in the serialization that the caller asked for."""

    reason = error_pb2.ERROR_REASON_RESULT_NOT_SERIALIZABLE


class UnknownSerializationError(FairleadError):
    """The serialization is not known."""

    reason = error_pb2.ERROR_REASON_UNKNOWN_SERIALIZATION
    code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 415


class UntrustedSerializationError(FairleadError):
    """The serialization can run code when it is decoded, and the connection is not trusted with it."""

    reason = error_pb2.ERROR_REASON_UNTRUSTED_SERIALIZATION
    code = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403


class CardinalityError(FairleadError, TypeError):
    """The method streams and the call does not, or the other way round."""

    reason = error_pb2.ERROR_REASON_CARDINALITY_MISMATCH
    code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class BackPressureError(FairleadError):
    """The deployment's queue is full."""

    reason = error_pb2.ERROR_REASON_QUEUE_FULL
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 503
    never_started = True

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            f"Request dropped due to backpressure (num_queued_requests={num_queued_requests}, "
            f"max_queued_requests={max_queued_requests}).",
            metadata={
                "num_queued_requests": str(num_queued_requests),
                "max_queued_requests": str(max_queued_requests),
                "status_code": str(status_code),
            },
        )
        if retry_after_s is not None:
            self.metadata["retry_after_s"] = repr(retry_after_s)
        self.num_queued_requests = num_queued_requests
        self.max_queued_requests = max_queued_requests
        self.status_code = status_code
        self.retry_after_s = retry_after_s

    @classmethod
    def restore(cls, message: str, metadata: dict[str, str]) -> FairleadError:
        """Makes the error again from what travelled."""
        retry_after = metadata.get("retry_after_s")
        return cls(
            int(metadata.get("num_queued_requests", 0)),
            int(metadata.get("max_queued_requests", 0)),
            int(metadata.get("status_code", 503)),
            None if retry_after is None else float(retry_after),
        )


class ReplicaBusyError(FairleadError):
    """The replica runs as many calls as it may. The call did not start."""

    reason = error_pb2.ERROR_REASON_REPLICA_BUSY
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    never_started = True


class ReplicaDrainingError(FairleadError):
    """The replica is draining. The call did not start."""

    reason = error_pb2.ERROR_REASON_REPLICA_DRAINING
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    never_started = True


class ReplicaUnavailableError(FairleadError):
    """The replica is gone, and may have been running the call. The call was not sent again."""

    reason = error_pb2.ERROR_REASON_REPLICA_LOST
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503


class DeploymentUnavailableError(FairleadError):
    """The deployment failed to deploy, or has no replicas that could serve."""

    reason = error_pb2.ERROR_REASON_DEPLOYMENT_UNAVAILABLE
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    never_started = True


class DeadlineExceededError(FairleadError, TimeoutError):
    """The call's deadline passed."""

    reason = error_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 408


class RequestCancelledError(FairleadError):
    """The call was cancelled with ``cancel()``."""

    reason = error_pb2.ERROR_REASON_CANCELLED
    code = grpc.StatusCode.CANCELLED
    http_status = 499

    def __init__(self, message: str = "Request was cancelled.", *, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message, metadata=metadata)


class MessageTooLargeError(FairleadError):
    """A message is larger than the limit."""

    reason = error_pb2.ERROR_REASON_MESSAGE_TOO_LARGE
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 413


class ProtocolViolationError(FairleadError):
    """The peer broke the session protocol."""

    reason = error_pb2.ERROR_REASON_PROTOCOL_VIOLATION


class ConnectionLostError(FairleadError):
    """The connection to the gateway was lost, and the call may have been running."""

    reason = error_pb2.ERROR_REASON_CONNECTION_LOST
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503


class GatewayDrainingError(FairleadError):
    """The gateway is draining. The call did not start."""

    reason = error_pb2.ERROR_REASON_GATEWAY_DRAINING
    code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    never_started = True


class TooManyCallsError(FairleadError):
    """The session carries as many calls as it may. The call did not start."""

    reason = error_pb2.ERROR_REASON_TOO_MANY_CALLS
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 503
    never_started = True


class ReservationNotFoundError(FairleadError):
    """There is no such reservation: it was used, has ended, or is another deployment's. The call did not start."""

    reason = error_pb2.ERROR_REASON_RESERVATION_NOT_FOUND
    code = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 409


class UnauthenticatedError(FairleadError):
    """The caller has not proved who it is: no token, or a wrong one."""

    reason = error_pb2.ERROR_REASON_UNAUTHENTICATED
    code = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401


class DeployFailedError(FairleadError):
    """The application could not be deployed."""

    reason = error_pb2.ERROR_REASON_DEPLOY_FAILED
    code = grpc.StatusCode.FAILED_PRECONDITION


class ChangedMeanwhileError(FairleadError):
    """The application was deployed or deleted since the caller looked at it. Nothing was changed."""

    reason = error_pb2.ERROR_REASON_CHANGED_MEANWHILE
    code = grpc.StatusCode.ABORTED
    http_status = 409


class UserExceptionError(FairleadError):
    """The user's code raised an exception that cannot be made again here; the message names its type.

    A trusted Python handle raises the user's own exception instead.
    """

    reason = error_pb2.ERROR_REASON_USER_EXCEPTION


def _subclasses(cls: type[FairleadError]) -> Iterator[type[FairleadError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


BY_REASON: dict[str, type[FairleadError]] = {
    error_pb2.ErrorReason.Name(cls.reason).removeprefix("ERROR_REASON_"): cls for cls in _subclasses(FairleadError)
}
"""The table: ``ErrorInfo.reason`` to class."""
