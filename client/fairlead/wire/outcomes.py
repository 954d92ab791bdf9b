"""Exceptions to ``Outcome`` messages and back: the side channel that errors travel in, whatever the serialization.

Between trusted peers an exception travels as itself, made by cloudpickle, with the remote traceback as text. Everywhere
else a ``google.rpc.Status`` with an ``ErrorInfo`` says what happened, and builtin exceptions are made again by name.
"""

from __future__ import annotations

import builtins
import pickle

import cloudpickle
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import error_pb2, session_pb2
from fairlead.wire.errors import (
    BY_REASON,
    DOMAIN,
    BackPressureError,
    FairleadError,
    InternalError,
    UserExceptionError,
)

MAX_MESSAGE = 4096
"""Characters of a status message; longer ones are cut, because they travel in HTTP/2 headers too."""

MAX_TRACEBACK = 64 * 1024
"""Characters of a traceback; of longer ones the end is kept."""

MAX_EXCEPTION = 512 * 1024
"""Bytes of a pickled exception; a larger one travels by its type and text, because a frame does not carry it."""

_USER_EXCEPTION = "USER_EXCEPTION"


class RemoteTraceback(Exception):
    """The traceback of an exception as it was in the replica, attached to it as its cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def _status(code: int, message: str, reason: str, metadata: dict[str, str]) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=_cut(message))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    for key, value in metadata.items():
        info.metadata[key] = _cut(value)
    status.details.add().Pack(info)
    return status


def _cut(message: str) -> str:
    message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    return message if message.isascii() else _encodable(message)


def _encodable(text: str) -> str:
    """The text without lone surrogates, as in names of files, which no protobuf string may hold."""
    return text.encode("utf-8", "replace").decode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # the user's code, again
        return f"<its text cannot be had: {type(failure).__name__}>"


def _pickled(error: BaseException) -> bytes:
    """The exception as bytes that can be unpickled; empty if there are none, or too many."""
    try:
        data: bytes = cloudpickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)  # an exception with a required constructor argument pickles, and fails only here
    except Exception:
        return b""
    return data if len(data) <= MAX_EXCEPTION else b""


def outcome_of(error: BaseException, *, trusted: bool = True, traceback: str = "") -> session_pb2.Outcome:
    """What travels for an exception.

    Fairlead's own errors become their status. Any other exception is the user's: INTERNAL, its type and text, and for a
    trusted peer the exception itself and ``traceback``.
    """
    if isinstance(error, FairleadError):
        reason = error_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
        code: int = error.code.value[0]
        outcome = session_pb2.Outcome(status=_status(code, error.message, reason, error.metadata))
        if isinstance(error, BackPressureError) and error.retry_after_s is not None:
            wait = error_details_pb2.RetryInfo()  # which gRPC clients look for (AIP-193); HTTP's say Retry-After
            wait.retry_delay.FromMicroseconds(int(error.retry_after_s * 1e6))
            outcome.status.details.add().Pack(wait)
    else:
        kind = type(error)
        name = f"{kind.__module__}.{kind.__qualname__}"
        text = _text(error)
        message = f"{kind.__qualname__}: {text}" if text else kind.__qualname__
        metadata = {"exception_type": name, "exception_message": text}
        code = UserExceptionError.code.value[0]
        outcome = session_pb2.Outcome(status=_status(code, message, _USER_EXCEPTION, metadata))
        if trusted:
            outcome.exception = _pickled(error)
    if trusted and traceback:
        outcome.traceback = _encodable(traceback[-MAX_TRACEBACK:])
    return outcome


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo | None:
    """The status's ErrorInfo of our domain, if it has one."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        try:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
        except DecodeError:  # a peer's defect; its status still says something
            continue
    return None


def error_of(outcome: session_pb2.Outcome, *, trusted: bool = True) -> BaseException:
    """The exception to raise for an outcome, whatever the peer put in it. Only with ``trusted`` is anything unpickled.

    Always an ``Exception`` that can be set on a future: a user's ``SystemExit`` or ``StopIteration`` becomes a
    UserExceptionError, since here it would end the caller or the caller's loop.
    """
    error = _restored(outcome, trusted)
    if trusted and outcome.traceback:
        BaseException.__setattr__(
            error, "__cause__", RemoteTraceback(outcome.traceback)
        )  # it may forbid setting attributes
    return error


def _restored(outcome: session_pb2.Outcome, trusted: bool) -> BaseException:
    status = outcome.status
    info = error_info(status)
    if info is None:
        return InternalError(status.message or f"failed with code {status.code}")
    metadata = dict(info.metadata)
    if info.reason != _USER_EXCEPTION:
        try:
            return BY_REASON.get(info.reason, InternalError).restore(status.message, metadata)
        except Exception:  # metadata that is not what the class expects
            return InternalError(status.message, metadata=metadata)
    if trusted and outcome.exception:
        try:
            error = pickle.loads(outcome.exception)
            if _may_be_raised(type(error)):
                return error  # type: ignore[no-any-return]
        except Exception as failure:
            metadata["unpickling_failed"] = f"{type(failure).__name__}: {failure}"
    return _builtin(metadata) or UserExceptionError(status.message, metadata=metadata)


def _builtin(metadata: dict[str, str]) -> BaseException | None:
    """A builtin exception by name: safe, since making one runs no code of the sender's."""
    module, _, name = metadata.get("exception_type", "").rpartition(".")
    kind = getattr(builtins, name, None) if module == "builtins" else None
    if isinstance(kind, type) and _may_be_raised(kind):
        try:
            error: BaseException = kind(metadata.get("exception_message", ""))
            return error
        except TypeError:  # UnicodeDecodeError and the like want more than a message
            return None
    return None


def _may_be_raised(kind: type) -> bool:
    return issubclass(kind, Exception) and not issubclass(kind, StopIteration | StopAsyncIteration)


def without_secrets(outcome: session_pb2.Outcome) -> session_pb2.Outcome:
    """The outcome as a peer that is not trusted may see it."""
    if not outcome.exception and not outcome.traceback:
        return outcome
    return session_pb2.Outcome(
        status=outcome.status,
        trailing_metadata=outcome.trailing_metadata,
    )
