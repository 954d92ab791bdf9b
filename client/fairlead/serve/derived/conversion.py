"""The conversion of a method: payloads to arguments, results to payloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError

from fairlead.serve.derived.decoding import Decode, Decoders
from fairlead.serve.derived.encoding import Fillers
from fairlead.serve.derived.errors import FieldError
from fairlead.serve.derived.shapes import OMITTED, Absent, Message, Method
from fairlead.wire.errors import InvalidArgumentsError


class MethodConversion:
    """The conversion of one method. May be used by several threads at once."""

    __slots__ = ("_decode", "_decode_item", "_fill", "_method", "_request", "_response")

    parameters_are_fields = True
    """A second parameter is no context."""

    def __init__(self, method: Method, descriptor: MethodDescriptor) -> None:
        """``descriptor``: the method as it was deployed. Raises KeyError where it lacks what the hints ask for."""
        self._method = method
        self._decode = Decoders().message(method.request, descriptor.input_type)
        item = _item_shape(method)
        self._decode_item = None if item is None else Decoders().message(item, descriptor.input_type)
        self._fill = Fillers().message(method.response, descriptor.output_type)
        self._request = message_factory.GetMessageClass(descriptor.input_type)
        self._response = message_factory.GetMessageClass(descriptor.output_type)

    @property
    def opens_with_parameters(self) -> bool:
        """Whether a client stream's first message has arguments beside the item."""
        return self._decode_item is not None

    def arguments(self, message: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a request. Raises InvalidArgumentsError that names the field, in its metadata, too."""
        value = self._value(message)
        method = self._method
        if method.passed_as:
            value = {method.passed_as: value}
        return tuple(value.pop(name) for name in method.positional if name in value), value

    def item(self, message: bytes) -> Any:
        """One item of a client stream; the message, where ``opens_with_parameters``. Raises as ``arguments``."""
        if self._decode_item is not None:
            return self._parsed(message)
        value = self._value(message)
        return value if self._method.passed_as else value[self._method.stream_key]

    def opening(self, first: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """The arguments that follow the stream, and its first item or ``OMITTED``.

        ``first``: the first message; None: there is none. Raises as ``arguments``.
        """
        values = self._decoded(self._decode, self._request() if first is None else first)
        item = values.pop(self._method.stream_key, OMITTED)
        return tuple(values.pop(name) for name in self._method.positional if name in values), values, item

    def further(self, message: Any) -> Any:
        """The item of a message after the first. Raises as ``arguments``."""
        assert self._decode_item is not None
        return self._decoded(self._decode_item, message)[self._method.stream_key]

    def dump(self, result: Any) -> bytes:
        """A result, or an item of one. Raises ValueError that names the field, or TypeError."""
        message = self._response()
        self._fill(message, result)
        data: bytes = message.SerializeToString()
        return data

    def _value(self, data: bytes) -> Any:
        return self._decoded(self._decode, self._parsed(data))

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._request.FromString(data)
        except DecodeError as error:
            raise InvalidArgumentsError(f"the payload is no {self._method.request.name}: {error}") from error

    def _decoded(self, decode: Decode, message: Any) -> Any:
        try:
            return decode(message)
        except FieldError as error:
            raise InvalidArgumentsError(str(error), metadata={"field": error.place}) from error
        except Exception as error:  # the user's classes check what they are built of, and raise what they like
            raise InvalidArgumentsError(str(error) or type(error).__name__) from error


def _item_shape(method: Method) -> Message | None:
    """What a message after the first stands for; None: the same as the first."""
    if not method.stream_key or method.passed_as or len(method.request.fields) == 1:
        return None
    item = next(each for each in method.request.fields if each.key == method.stream_key)
    return replace(method.request, fields=[replace(item, absent=Absent.REFUSED)])
