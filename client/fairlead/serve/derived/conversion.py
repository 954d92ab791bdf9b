"""The conversion of a method: payloads to arguments, results to payloads."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError

from fairlead.serve.derived.decoding import Decoders
from fairlead.serve.derived.encoding import Fillers
from fairlead.serve.derived.shapes import Method
from fairlead.wire.errors import InvalidArgumentsError


class MethodConversion:
    """The conversion of one method. May be used by several threads at once."""

    __slots__ = ("_decode", "_fill", "_method", "_request", "_response")

    parameters_are_fields = True
    """A second parameter is no context."""

    def __init__(self, method: Method, descriptor: MethodDescriptor) -> None:
        """``descriptor``: the method as it was deployed. Raises KeyError where it lacks what the hints ask for."""
        self._method = method
        self._decode = Decoders().message(method.request, descriptor.input_type)
        self._fill = Fillers().message(method.response, descriptor.output_type)
        self._request = message_factory.GetMessageClass(descriptor.input_type)
        self._response = message_factory.GetMessageClass(descriptor.output_type)

    def arguments(self, message: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a request. Raises InvalidArgumentsError that names the field."""
        value = self._value(message)
        method = self._method
        if method.passed_as:
            value = {method.passed_as: value}
        return tuple(value.pop(name) for name in method.positional if name in value), value

    def item(self, message: bytes) -> Any:
        """One item of a client stream. Raises as ``arguments``."""
        value = self._value(message)
        return value if self._method.passed_as else value[self._method.stream_key]

    def dump(self, result: Any) -> bytes:
        """A result, or an item of one. Raises ValueError that names the field, or TypeError."""
        message = self._response()
        self._fill(message, result)
        data: bytes = message.SerializeToString()
        return data

    def _value(self, data: bytes) -> Any:
        try:
            message = self._request.FromString(data)
        except DecodeError as error:
            raise InvalidArgumentsError(f"the payload is no {self._method.request.name}: {error}") from error
        try:
            return self._decode(message)
        except Exception as error:  # the user's classes check what they are built of, and raise what they like
            raise InvalidArgumentsError(str(error) or type(error).__name__) from error
