"""A client's connection, as the HTTP door's protocol and application see it."""

from __future__ import annotations

import asyncio

from fairlead_gateway.edge.answers import Answer

_COPY_LIMIT = 64 * 1024
"""Bytes of a body above which copying it costs more than a system call."""


class Connection:
    """A transport, as much of it as uvicorn uses, and a HttpConnection.

    uvicorn writes the head of a response and its body one after the other, a system call each. Here they go out in one.
    """

    __slots__ = (
        "_held",
        "_holding",
        "_patience_s",
        "abort",
        "get_extra_info",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "running",
        "streams",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport, patience_s: float) -> None:
        """``patience_s``: how long a client may take to read what is left when the connection is closed."""
        self.running: Answer | None = None
        self.streams = False
        self.transport = transport
        self._patience_s = patience_s
        self._holding = False
        self._held = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        """See asyncio.Transport."""
        if self._holding:
            self._holding = False
            self._held = data
        elif self._held:
            held, self._held = self._held, b""
            if len(data) > _COPY_LIMIT:
                self.transport.write(held)
            else:
                data = held + data
            self.transport.write(data)
        else:
            self.transport.write(data)

    def hold(self) -> None:
        """See HttpConnection."""
        self._holding = True

    def flush(self) -> None:
        """See HttpConnection."""
        self._holding = False
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """See asyncio.Transport; it would wait for ever for a client that does not read."""
        self.flush()
        transport = self.transport
        if not transport.is_closing() and transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._patience_s, transport.abort)
        transport.close()

    def lost(self) -> None:
        """The client is gone."""
        running, self.running = self.running, None
        if running is not None:
            running.close()
