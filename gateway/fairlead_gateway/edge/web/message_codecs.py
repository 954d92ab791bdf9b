"""How the messages of a call are written outside: as protobuf's bytes, or as JSON by the method's own options."""

from __future__ import annotations

from typing import Protocol

from fairlead.wire.errors import InternalError, InvalidCallError
from fairlead_gateway.edge.conversions import LARGE, beside
from fairlead_gateway.edge.protojson import Decoder, Encoder, JsonRefused, NotRepresentable
from fairlead_gateway.edge.typed.rpc_method import RpcMethod


class MessageCodec(Protocol):
    """One way to write messages. Inside they are always protobuf's bytes."""

    name: str
    """As the content type has it: ``application/connect+proto``."""

    def load(self, data: bytes) -> bytes:
        """A message of the request. Raises InvalidCallError for what is none."""

    def dump(self, message: bytes) -> bytes:
        """A message of the response. Raises InternalError for what cannot be written."""


class Proto:
    """Protobuf's bytes, which nobody looks at here."""

    name = "proto"

    def load(self, data: bytes) -> bytes:
        """See MessageCodec."""
        return data

    def dump(self, message: bytes) -> bytes:
        """See MessageCodec."""
        return message


class Json:
    """ProtoJSON of one method's messages."""

    name = "json"

    def __init__(self, method: RpcMethod) -> None:
        self._decoder: Decoder = method.json.decoder(method.descriptor.input_type)
        self._encoder: Encoder = method.json.encoder(method.descriptor.output_type)

    def load(self, data: bytes) -> bytes:
        """See MessageCodec."""
        try:
            message: bytes = self._decoder.parse(data).SerializeToString()
        except JsonRefused as error:
            raise InvalidCallError(str(error)) from error
        return message

    def dump(self, message: bytes) -> bytes:
        """See MessageCodec."""
        try:
            return self._encoder.transcoded(message)
        except NotRepresentable as error:
            raise InternalError(f"the result has no JSON: {error}") from error


async def loaded(codec: MessageCodec, data: bytes) -> bytes:
    """``codec.load``, beside the event loop if it may take long."""
    return codec.load(data) if len(data) <= LARGE else await beside(codec.load, data)


async def dumped(codec: MessageCodec, message: bytes) -> bytes:
    """``codec.dump``, beside the event loop if it may take long."""
    return codec.dump(message) if len(message) <= LARGE else await beside(codec.dump, message)


_PROTO = Proto()


def message_codec(name: str, method: RpcMethod) -> MessageCodec:
    """The codec of that name, ``proto`` or ``json``, for a method."""
    return _PROTO if name == Proto.name else Json(method)
