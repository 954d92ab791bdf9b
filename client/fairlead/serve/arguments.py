"""Responses among the arguments of a call: they are resolved first, all at once, and their values sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from fairlead.serve.caller import Call
from fairlead.serve.response import NOT_SERIALIZABLE, DeploymentResponse, DeploymentResponseGenerator
from fairlead.wire.codecs import dump_arguments
from fairlead.wire.errors import ConnectionLostError, FairleadError, ReplicaUnavailableError

GENERATOR_PASSED_ON = (
    "Streaming deployment handle results cannot be passed to downstream handle calls. If you have a use case requiring "
    "this feature, please file a feature request on GitHub."
)
_NOT_THE_USERS = ("fairlead", "cloudpickle")
RESPONSES = frozenset({DeploymentResponse, DeploymentResponseGenerator})


def holds_response(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a response stands among the top-level arguments."""
    for arg in args:
        if type(arg) in RESPONSES:
            return True
    return any(type(arg) in RESPONSES for arg in kwargs.values()) if kwargs else False


def encode(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Encodes the arguments of a call. False: they cannot be encoded, and the call has ended with an error."""
    try:
        call.payload = dump_arguments(call.template.request_codec, args, kwargs)
    except Exception as error:  # whatever a user's __reduce__ or a codec raises is the call's error
        call.finish(_failure(error, call, nested=_nested(args) | _nested(kwargs)))
        return False
    return True


def _failure(error: Exception, call: Call, *, nested: bool) -> Exception:
    """What the caller is told: the error with its call, and of its traceback the user's lines only."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        trace = trace.tb_next
    if isinstance(error, FairleadError):
        return error.with_traceback(trace)
    if nested:
        return FairleadError(NOT_SERIALIZABLE)
    with contextlib.suppress(Exception):  # it may forbid setting attributes
        error.add_note(
            f"the arguments of the call to {call.template.callee} cannot be encoded as "
            f"{call.template.request_codec.name}, which options(request_serialization=...) chooses"
        )
    return error.with_traceback(trace)


def _nested(value: Any) -> bool:
    """Whether a response stands in lists, tuples and dicts: for codecs that only say that they cannot encode it."""
    if isinstance(value, dict):
        return any(_nested(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_nested(item) for item in value)
    return type(value) in RESPONSES


class Resolution:
    """Waits for the responses among the arguments of one call, then encodes and sends it."""

    def __init__(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], send: Callable[[], None]) -> None:
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._send = send
        self._count = 1
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Starts waiting; sends at once what needs no waiting. Raises RuntimeError for a stream among the arguments."""
        values = [*self._args, *self._kwargs.values()]
        if any(type(value) is DeploymentResponseGenerator for value in values):
            raise RuntimeError(GENERATOR_PASSED_ON)
        for value in values:
            if type(value) is DeploymentResponse:
                with self._lock:
                    self._count += 1
                if not value._call.add(self._one_done):
                    self._one_done()
        self._one_done()

    def _one_done(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count:
                return
        call = self._call
        if call.done:
            return
        try:
            args = tuple(self._value(arg) for arg in self._args)
            kwargs = {name: self._value(arg) for name, arg in self._kwargs.items()}
        except Exception as error:
            call.finish(error)
            return
        if encode(call, args, kwargs):
            self._send()

    def _value(self, arg: Any) -> Any:
        if type(arg) is not DeploymentResponse:
            return arg
        try:
            return arg._fetch()
        except (ReplicaUnavailableError, ConnectionLostError) as error:
            raise FairleadError(
                f"an argument of the call to {self._call.template.callee} could not be resolved, because the call to "
                f"{arg._call.template.callee} that it comes from was lost: {error.message}"
            ) from error
