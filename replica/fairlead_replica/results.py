"""Results to payloads, and the errors for results that cannot become one."""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from fairlead.serve.response import DeploymentResponseGenerator, ResponseOfCall
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import CardinalityError, MessageTooLargeError, ResultNotSerializableError
from fairlead_replica.callable import Method

GENERATORS = (GeneratorType, AsyncGeneratorType)
"""Results that are streams."""
UNFINISHED = (CoroutineType, AsyncGeneratorType)
"""Results that must be run on the event loop."""


def encode(result: Any, method: Method, codec: Codec, dumps: Callable[[Any], bytes], limit: int) -> bytes:
    """A result, or an item of a stream, as a payload.

    Raises CardinalityError for a generator where one result is expected, ResultNotSerializableError that names the
    serialization, the type and the way out, and MessageTooLargeError above ``limit`` bytes.
    """
    if isinstance(result, GENERATORS):
        raise unexpected_generator(method)
    try:
        payload = dumps(result)
    except Exception as error:
        if isinstance(result, ResponseOfCall):
            raise _response_returned(result, method) from None
        raise _not_serializable(result, method, codec, error) from error
    if len(payload) > limit:
        raise MessageTooLargeError(
            f"the result of method {method.name!r} has {len(payload)} bytes; the limit is {limit}"
        )
    return payload


def unexpected_generator(method: Method) -> CardinalityError:
    """A generator where one result is expected."""
    return CardinalityError(
        f"Method {method.name!r} returned a generator. You must use `handle.options(stream=True)` to call generators "
        "on a deployment."
    )


def missing_generator(method: Method) -> CardinalityError:
    """One result where a stream is expected."""
    return CardinalityError(
        f"Called method {method.name!r} with `handle.options(stream=True)` but it did not return a generator."
    )


def _response_returned(result: ResponseOfCall, method: Method) -> ResultNotSerializableError:
    """For methods that forget to wait for the call that they make."""
    streams = isinstance(result, DeploymentResponseGenerator)
    instead = "yield the items of `async for item in response`" if streams else "write `return await response`"
    return ResultNotSerializableError(
        f"method {method.name!r} returned a {type(result).__name__}, not what the call that it is of returns: {instead}"
    )


def _not_serializable(result: Any, method: Method, codec: Codec, error: Exception) -> ResultNotSerializableError:
    kind = f"{type(result).__module__}.{type(result).__qualname__}"
    if codec.serialization == session_pb2.SERIALIZATION_HTTP:
        way_out = "return something that JSON can hold, or a Response"
    else:
        way_out = "choose another one with options(response_serialization=...), or return something that it can hold"
    return ResultNotSerializableError(
        f"the result of method {method.name!r}, of type {kind}, cannot be encoded as {codec.name} "
        f"({type(error).__name__}: {error}); {way_out}"
    )
