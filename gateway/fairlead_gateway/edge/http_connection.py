"""A client's connection, as the HTTP door's protocol and application see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_limits import HttpLimits

_COPY_LIMIT = 64 * 1024
"""Bytes of a body above which copying it costs more than a system call."""


class Patience:
    """Gives up a client that does not read what it is sent, or next to nothing of it. ``call_later``: the loop's."""

    __slots__ = ("_call_later", "_enough", "_period_s", "_timer", "_transport", "_unread")

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
        self._unread = 0

    def begin(self) -> None:
        """More waits for it to read than shall."""
        if self._timer is None:
            self._unread = self._transport.get_write_buffer_size()
            self._timer = self._call_later(self._period_s, self._check)

    def end(self) -> None:
        """It has read enough, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        unread = self._transport.get_write_buffer_size()
        if self._unread - unread >= self._enough:
            self.begin()
        elif unread:
            self._transport.abort()


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
            self.patience.begin()
        transport.close()

    def lost(self) -> None:
        """The client is gone."""
        self.patience.end()
        running, self.running = self.running, None
        if running is not None:
            running.close()
