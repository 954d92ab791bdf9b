"""The methods of ``fairlead.v1.ServingService`` as methods like those of typed services.

Their messages are opened here: the target becomes the call's header, the payload's bytes go on as they are.
"""

from __future__ import annotations

from typing import Any

from google.api import httpbody_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError

from fairlead.v1 import control_pb2, serving_pb2, session_pb2
from fairlead.wire.codecs import codec_of
from fairlead.wire.errors import InvalidCallError
from fairlead_gateway.edge.protojson import ProtoJson
from fairlead_gateway.edge.serving_headers import fill_header

_NAMES = ("Call", "CallStream", "CallBidi", "Broadcast")
_HttpBody = httpbody_pb2.HttpBody


class _NoContext:
    """Whoever starts the call has read the metadata and knows the time that is left."""

    @staticmethod
    def invocation_metadata() -> tuple[Any, ...]:
        return ()

    @staticmethod
    def time_remaining() -> None:
        return None


_NO_CONTEXT: Any = _NoContext()


class ServingMethod:
    """One of them: see ``RpcMethod`` in :mod:`fairlead_gateway.edge.typed.rpc_method`."""

    def __init__(self, descriptor: MethodDescriptor, json: ProtoJson) -> None:
        self.path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        self.descriptor = descriptor
        self.client_streaming: bool = descriptor.client_streaming
        self.server_streaming: bool = descriptor.server_streaming
        self.application = ""
        self.deployment = ""
        self.json = json
        self.options = control_pb2.JsonOptions()
        self.starts_empty = False
        self._broadcast = descriptor.name == "Broadcast"
        self._request: Any = message_factory.GetMessageClass(descriptor.input_type)
        self._response: Any = message_factory.GetMessageClass(descriptor.output_type)

    def __repr__(self) -> str:
        return f"<ServingMethod {self.path}>"

    def begin(self, header: session_pb2.CallHeader, first: bytes) -> bytes:
        """The target of the first message; its payload."""
        message = self._parsed(first)
        fill_header(header, message.target, message.payload.content_type, _NO_CONTEXT)
        header.stream = self.server_streaming
        header.broadcast = self._broadcast
        payload: bytes = message.payload.data
        return payload

    def further(self, message: bytes) -> bytes:
        """The payload of a message of CallBidi after the first."""
        parsed = self._parsed(message)
        if parsed.HasField("target"):
            raise InvalidCallError("only the first message of CallBidi has a target")
        payload: bytes = parsed.payload.data
        return payload

    def result(self, payload: bytes, header: session_pb2.CallHeader) -> bytes:
        """The item in a response; what a broadcast answers is one already."""
        if self._broadcast:
            return payload
        media_type = codec_of(header.response_serialization).media_type
        message: bytes = self._response(payload=_HttpBody(content_type=media_type, data=payload)).SerializeToString()
        return message

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._request.FromString(data)
        except DecodeError as error:
            raise InvalidCallError(f"the request is not a valid message: {error}") from error


def serving_methods() -> tuple[ServingMethod, ...]:
    """All but Session, which carries frames and not messages."""
    service = serving_pb2.DESCRIPTOR.services_by_name["ServingService"]
    json = ProtoJson()
    return tuple(ServingMethod(service.methods_by_name[name], json) for name in _NAMES)
