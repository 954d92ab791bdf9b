"""Responses among the arguments of a call: they are resolved first, all at once, and their values sent."""

from __future__ import annotations

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
        failure: BaseException = error
        if not isinstance(error, FairleadError) and _nested(args) | _nested(kwargs):
            failure = FairleadError(NOT_SERIALIZABLE)
        call.finish(failure)
        return False
    return True


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
