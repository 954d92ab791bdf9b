"""How the messages of a method become what the user's method takes, and what it returns a message.

Services that were derived from type hints convert them to what the hints say; others pass messages as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from fairlead.v1 import control_pb2
from fairlead_replica.typed.messages import MessageTypes


class Conversion(Protocol):
    """The conversion of one method. Used by several threads at once."""

    parameters_are_fields: bool
    """Whether a second parameter of the method is a field of the request, and not the context."""

    @property
    def opens_with_parameters(self) -> bool:
        """Whether the first message of a client stream has arguments beside the item: see ``openings``."""

    def arguments(self, message: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a request. Raises what it likes for bytes that are none: INVALID_ARGUMENT."""

    def item(self, message: bytes) -> Any:
        """One item of a client stream. Raises as ``arguments``."""

    def dump(self, result: Any) -> bytes:
        """A result, or an item of one. Raises what it likes for what cannot be one: INTERNAL."""


def conversion_of(
    interface: control_pb2.DeploymentInterface,
    types: MessageTypes,
    descriptor: MethodDescriptor,
    target: Any,
) -> Conversion:
    """The conversion of a method of ``target``, the user's object or function.

    Raises HintError or KeyError where a service was derived from another class than is here.
    """
    if descriptor.containing_service.full_name in interface.derived_services:
        from fairlead_replica.typed.derived import derived_conversion  # few replicas need it

        return derived_conversion(descriptor, target)
    return MessageConversion(types.message_class(descriptor.input_type), types.message_class(descriptor.output_type))


class MessageConversion:
    """Messages as they are. A method may return a mapping of the message's fields, too."""

    __slots__ = ("_output", "_output_name", "_parse")

    parameters_are_fields = False
    opens_with_parameters = False

    def __init__(self, input_class: type[Message], output_class: type[Message]) -> None:
        self._parse: Callable[[bytes], Message] = input_class.FromString
        self._output = output_class
        self._output_name = output_class.DESCRIPTOR.full_name

    def arguments(self, message: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See Conversion."""
        return (self._parse(message),), {}

    def item(self, message: bytes) -> Any:
        """See Conversion."""
        return self._parse(message)

    def dump(self, result: Any) -> bytes:
        """See Conversion."""
        if type(result) is not self._output:
            if isinstance(result, Mapping):
                result = self._output(**result)
            elif not isinstance(result, Message) or result.DESCRIPTOR.full_name != self._output_name:
                raise TypeError(f"the method returns {self._output_name}, or a mapping of its fields")
        payload: bytes = result.SerializeToString()
        return payload
