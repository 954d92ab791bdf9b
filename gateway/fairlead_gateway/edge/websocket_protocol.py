"""uvicorn's WebSocket protocol, which also gives up a client that does not read. Imported with the first WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_protocol import BAD_REQUEST
from fairlead_gateway.edge.http_response import CONNECTION


class DoorWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket's connection."""

    def __init__(self, limits: HttpLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._stalled: asyncio.TimerHandle | None = None
        self.running: Answer | None = None
        """The call that ends a while after the connection, even while it takes nothing and sends nothing."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The first data are the whole handshake."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            # The library may have an answer for what it takes for no handshake, such as a head with too many fields.
            self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
            self.transport.close()

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

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._stop_timer()
        running, self.running = self.running, None
        if running is not None:
            self.loop.call_later(self._limits.websocket_farewell_s, running.close)

    def _stop_timer(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
