"""uvicorn's WebSocket protocol, which also gives up a client that does not read. Imported with the first WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_bodies import Incoming
from fairlead_gateway.edge.http_connection import Connection
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_refusals import BAD_REQUEST
from fairlead_gateway.edge.http_response import CONNECTION

_NO_TEXT, _TRY_AGAIN_LATER = 1007, 1013
_Code = grpc.StatusCode
_CODES = {
    400: _Code.INVALID_ARGUMENT,
    403: _Code.PERMISSION_DENIED,
    405: _Code.UNIMPLEMENTED,
    414: _Code.RESOURCE_EXHAUSTED,
    431: _Code.RESOURCE_EXHAUSTED,
    500: _Code.INTERNAL,
}
_FEW = 64
"""Fragments of a message that are kept one by one; more would be larger than what is in them."""


class _Handshake(ServerProtocol):
    """The library's, whose refusals are a google.rpc.Status as all others are."""

    def reject(self, status: int, text: str) -> Response:
        """See ServerProtocol."""
        response = super().reject(status, text)
        message = text.partition("\n")[0] or "The WebSocket was refused."
        reply = http_status.reply(status, _CODES.get(status, _Code.FAILED_PRECONDITION), http_status.shortened(message))
        for name, value in reply.headers:
            del response.headers[name.decode()]
            response.headers[name.decode()] = value.decode()
        response.body = reply.body
        return response


class DoorWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket's connection. ``incoming``: what all clients of the door have sent of something incomplete."""

    def __init__(self, limits: HttpLimits, incoming: Incoming, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Without compression: one read of 256 KiB could hold hundreds of megabytes of compressed messages.
        self.conn = _Handshake(max_size=limits.max_websocket_message_bytes, logger=self.logger)
        self._limits = limits
        self._incoming = incoming
        self._held = 0
        self._fragment_bytes = 0
        self._connection: Connection
        self.running: Answer | None = None
        """The call that ends a while after the connection, even while it takes nothing and sends nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol. ``transport``: a Connection."""
        super().connection_made(transport)
        self._connection = cast(Connection, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The first data are the whole handshake."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            # The library may have an answer for what it takes for no handshake, such as a head with too many fields.
            self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
            self.transport.close()
        self._hold(len(self.conn.reader.buffer) + self._fragment_bytes)

    def _hold(self, amount: int) -> None:
        """So many bytes of an incomplete message are here now."""
        self._incoming.held += amount - self._held
        self._held = amount
        if amount and self._incoming.held > self._limits.max_incoming_bytes and not self.transport.is_closing():
            self.conn.fail(_TRY_AGAIN_LATER, "too much is coming in at once")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

    def handle_text(self, event: Frame) -> None:
        """A text message, or the beginning of one."""
        self._fragment_bytes = 0 if event.fin else len(event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """A binary message, or the beginning of one."""
        self._fragment_bytes = 0 if event.fin else len(event.data)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """It goes on."""
        self._fragment_bytes = 0 if event.fin else self._fragment_bytes + len(event.data)
        if len(self.frames) == _FEW:
            self.frames = [bytearray().join(self.frames)]  # type: ignore[list-item]
        if isinstance(self.frames[0], bytearray):
            self.frames[0] += event.data
            if event.fin:
                self.frames = [bytes(self.frames[0])]
                self.send_receive_event_to_app()
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A message is complete. uvicorn writes a traceback for a text that is none: strangers could fill the log."""
        if self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self.frames = []
            self.conn.send_close(_NO_TEXT)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """What came is no WebSocket."""
        if self.handshake_initiated:
            super().handle_parser_exception()

    def handle_connect(self, event: Request) -> None:
        """The handshake is there."""
        super().handle_connect(event)
        if self.handshake_complete:  # it was refused: there is no scope
            return
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self._connection.patience.begin()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._connection.patience.begin()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if not self.transport.is_closing():  # else what is left must be read, too
            self._connection.patience.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._hold(0)
        self._connection.lost()
        running, self.running = self.running, None
        if running is not None:
            self.loop.call_later(self._limits.websocket_farewell_s, running.close)


def _is_text(fragments: list[bytes]) -> bool:
    try:
        b"".join(fragments).decode()
    except UnicodeDecodeError:
        return False
    return True
