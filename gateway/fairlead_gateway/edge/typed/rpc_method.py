"""One method of a service, as the doors see it; and the kind of it that deployments implement."""

from __future__ import annotations

from typing import Protocol

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor

from fairlead.v1 import control_pb2, session_pb2
from fairlead_gateway.edge.protojson import Options, ProtoJson

_PROTOBUF = session_pb2.SERIALIZATION_PROTOBUF
_IDEMPOTENT = (descriptor_pb2.MethodOptions.IDEMPOTENT, descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS)
"""The method's option says that it may run twice, so that its calls are sent again when a replica is lost."""


class RpcMethod(Protocol):
    """One method of a service, as the doors see it."""

    path: str
    """``/package.Service/Method``."""
    descriptor: MethodDescriptor
    client_streaming: bool
    server_streaming: bool
    application: str
    """The application that serves it; empty: each call names its own."""
    deployment: str
    """The deployment that serves it; empty: each call names its own."""
    json: ProtoJson
    """Converts its messages from and to JSON, by ``options``."""
    options: control_pb2.JsonOptions
    starts_empty: bool
    """Whether a client stream opens its call with nothing, so that the first message is one to send like the others."""

    def begin(self, header: session_pb2.CallHeader, first: bytes) -> bytes:
        """Fills in whom a call is for and how it is encoded; the payload that it starts with.

        ``first``: the first message; where ``starts_empty``, it does not matter. Raises FairleadError.
        """

    def further(self, message: bytes) -> bytes:
        """The payload for a message of a client stream. Raises FairleadError."""

    def result(self, payload: bytes, header: session_pb2.CallHeader) -> bytes:
        """The message for an item of the answer."""


class TypedMethod:
    """A method that a deployment implements: its messages cross the gateway as they are."""

    __slots__ = (
        "_template",
        "application",
        "client_streaming",
        "deployment",
        "descriptor",
        "json",
        "options",
        "path",
        "server_streaming",
        "starts_empty",
    )

    def __init__(
        self,
        descriptor: MethodDescriptor,
        application: str,
        deployment: str,
        json: ProtoJson,
        options: control_pb2.JsonOptions,
    ) -> None:
        self.path = path_of(descriptor)
        self.descriptor = descriptor
        self.client_streaming: bool = descriptor.client_streaming
        self.server_streaming: bool = descriptor.server_streaming
        self.application = application
        self.deployment = deployment
        self.json = json
        self.options = options
        self.starts_empty = self.client_streaming
        self._template = session_pb2.CallHeader(
            application=application,
            deployment=deployment,
            method=self.path,
            request_serialization=_PROTOBUF,
            response_serialization=_PROTOBUF,
            idempotent=descriptor.GetOptions().idempotency_level in _IDEMPOTENT,
        )

    def __repr__(self) -> str:
        return f"<TypedMethod {self.path} of {self.application}/{self.deployment}>"

    def begin(self, header: session_pb2.CallHeader, first: bytes) -> bytes:
        """See RpcMethod."""
        header.MergeFrom(self._template)
        header.stream = self.server_streaming
        return b"" if self.client_streaming else first

    def further(self, message: bytes) -> bytes:
        """See RpcMethod."""
        return message

    def result(self, payload: bytes, header: session_pb2.CallHeader) -> bytes:
        """See RpcMethod."""
        return payload


def path_of(descriptor: MethodDescriptor) -> str:
    """``/package.Service/Method``."""
    return f"/{descriptor.containing_service.full_name}/{descriptor.name}"


def json_options(options: control_pb2.JsonOptions) -> Options:
    """A service's choices, as ProtoJSON has them."""
    return Options(
        ignore_unknown_fields=options.ignore_unknown_fields,
        emit_defaults=options.always_print_primitive_fields,
        proto_names=options.preserve_proto_field_names,
        enum_numbers=options.always_print_enums_as_ints,
    )
