"""A client's connection, as the HTTP door's protocol and application see it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_limits import HttpLimits

_COPY_LIMIT = 64 * 1024
"""Bytes of a body above which copying it costs more than a system call."""


_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux
_ACKNOWLEDGED = struct.Struct("=120xQ")
"""``tcpi_bytes_acked`` in Linux's ``struct tcp_info``."""


def _taken(transport: asyncio.WriteTransport) -> int:
    """Bytes that the client has taken, counted from some time on.

    The system is asked, where it says: beneath TLS there is a buffer that the transport does not show.
    """
    connected = transport.get_extra_info("socket")
    if _TCP_INFO is not None and connected is not None:
        try:
            info = connected.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKNOWLEDGED.size)
            return int(_ACKNOWLEDGED.unpack(info)[0])
        except (OSError, struct.error):  # it is closed, or the system is an old one
            pass
    return -transport.get_write_buffer_size()


class Patience:
    """Gives up a client that does not read what it is sent, or next to nothing of it. ``call_later``: the loop's."""

    __slots__ = ("_call_later", "_enough", "_period_s", "_taken", "_timer", "_transport")

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        limits: HttpLimits,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._transport = transport
        self._call_later = call_later
        self._period_s = limits.write_timeout_s
        self._enough = limits.write_timeout_s * limits.min_body_rate
        self._timer: asyncio.TimerHandle | None = None
        self._taken = 0

    def begin(self) -> None:
        """More waits for it to read than shall, or nothing but its reading keeps the connection."""
        if self._timer is None:
            self._taken = _taken(self._transport)
            self._timer = self._call_later(self._period_s, self._check)

    def end(self) -> None:
        """It has read enough, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        transport = self._transport
        if _taken(transport) - self._taken >= self._enough:
            self.begin()
        elif transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()


class Connection:
    """A transport, as much of it as uvicorn uses, and a HttpConnection.

    uvicorn writes the head of a response and its body one after the other, a system call each. Here they go out in one.
    """

    __slots__ = (
        "_held",
        "_holding",
        "abort",
        "get_extra_info",
        "is_closing",
        "patience",
        "pause_reading",
        "resume_reading",
        "running",
        "set_protocol",
        "streams",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport, limits: HttpLimits) -> None:
        self.running: Answer | None = None
        self.streams = False
        self.transport = transport
        self.patience = Patience(transport, limits, asyncio.get_running_loop().call_later)
        self._holding = False
        self._held = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol
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
        if transport.is_closing():  # asyncio's TLS forgets too much when it is closed again
            return
        tls = transport.get_extra_info("sslcontext") is not None  # its client has to say goodbye, too
        if tls or transport.get_write_buffer_size():
            self.patience.begin()
        transport.close()

    def lost(self) -> None:
        """The client is gone."""
        self.patience.end()
        running, self.running = self.running, None
        if running is not None:
            running.close()
