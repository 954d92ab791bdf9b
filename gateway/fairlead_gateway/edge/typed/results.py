"""Messages of an answer as bodies of HTTP responses, compiled per binding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from fairlead.paths.rules import HTTP_BODY, HttpBinding
from fairlead_gateway.edge.protojson import NotRepresentable
from fairlead_gateway.edge.typed.rpc_method import RpcMethod

JSON = b"application/json"
_OCTETS = b"application/octet-stream"

Encode = Callable[[bytes], tuple[bytes, bytes]]
"""A message, as protobuf encodes it, as content type and body. Raises NotRepresentable."""


class ResultPlan:
    """Makes the response bodies of one binding."""

    __slots__ = ("encode", "raw")

    def __init__(self, method: RpcMethod, binding: HttpBinding) -> None:
        output_type = method.descriptor.output_type
        field = output_type.fields_by_name.get(binding.response_body)
        self.raw = False
        """Whether bodies are those of ``google.api.HttpBody``: bytes of whatever type."""
        if field is None and output_type.full_name == HTTP_BODY:
            self.raw = True
            self.encode: Encode = _raw(output_type, "")
        elif field is not None and _holds_http_body(field):
            self.raw = True
            self.encode = _raw(output_type, field.name)
        elif field is not None:
            self.encode = _of_field(method, output_type, field.name)
        else:
            transcoded = method.json.encoder(output_type).transcoded
            self.encode = lambda payload: (JSON, transcoded(payload))


def _holds_http_body(field: Any) -> bool:
    message = field.message_type
    return message is not None and not field.is_repeated and message.full_name == HTTP_BODY


def _of_field(method: RpcMethod, output_type: Descriptor, field: str) -> Encode:
    parse = _parser(output_type)
    encoder = method.json.encoder(output_type)
    return lambda payload: (JSON, encoder.dump_field(parse(payload), field))


def _raw(output_type: Descriptor, field: str) -> Encode:
    parse = _parser(output_type)

    def encode(payload: bytes) -> tuple[bytes, bytes]:
        message = parse(payload)
        body = getattr(message, field) if field else message
        return _content_type(body.content_type), body.data

    return encode


def _parser(message_type: Descriptor) -> Callable[[bytes], Any]:
    message_class = message_factory.GetMessageClass(message_type)

    def parse(payload: bytes) -> Any:
        try:
            return message_class.FromString(payload)
        except DecodeError as error:
            raise NotRepresentable(f"the payload is not a {message_type.full_name}") from error

    return parse


def _content_type(text: str) -> bytes:
    """A content type as it can be a field of a response: what has control characters in it, or none, is just bytes."""
    return text.encode() if text and text.isascii() and text.isprintable() else _OCTETS
