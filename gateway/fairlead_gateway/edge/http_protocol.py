"""The connections of the HTTP door: uvicorn's protocol, with bounds in time and in memory on what clients do.

A well-behaved request, whose head and body come in one piece and whose answer is read, pays for hardly any of it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, cast

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fairlead_gateway.edge import http_refusals as refusals
from fairlead_gateway.edge.http_bodies import BodyWatch, Excess, Incoming
from fairlead_gateway.edge.http_connection import Connection
from fairlead_gateway.edge.http_cycle import run
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_request import content_length
from fairlead_gateway.edge.http_response import CONNECTION

logger = logging.getLogger(__name__)

_FIELD_OVERHEAD = 4
"""Bytes of a header field beside its name and value."""

for _status in range(600, 1000):  # uvicorn knows only those that mean something
    httptools_impl.STATUS_LINE.setdefault(_status, b"HTTP/1.1 %d \r\n" % _status)


class DoorConfig(uvicorn.Config):
    """uvicorn's configuration, and what its protocols have to know of Fairlead's."""

    limits: HttpLimits = HttpLimits()
    """What clients may do."""
    incoming: Incoming
    """What they are sending."""


class _HeadTooLargeError(Exception):
    """A head that came in one piece is above the limit."""


class _HostError(Exception):
    """A request names no host, or more than one (RFC 9112, 3.2)."""


class _TooManyPipelinedError(Exception):
    """A client does not wait for its answers."""


class DoorProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also bounds what a client sends and reads, and says when it has gone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = cast(DoorConfig, self.config).limits
        self._connection: Connection
        self._refusal = refusals.BAD_REQUEST
        self._in_head = True
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body = BodyWatch(self._limits, cast(DoorConfig, self.config).incoming)
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._connection = Connection(transport, self._limits)
        super().connection_made(cast(asyncio.Transport, self._connection))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_timer()
        if self._body_timer is not None:
            self._body_timer.cancel()
        self._body.end()
        super().connection_lost(exc)
        self._connection.lost()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._chunk_bytes = len(data)
        late = self._body.cycle
        before = 0 if late is None else len(self.cycle.body)
        self._feed(data)
        if self._in_head:
            if not self.transport.is_closing():
                self._head_bytes += len(data)
                if self._head_bytes > self._limits.max_head_bytes:
                    self._reject(refusals.HEAD_TOO_LARGE)
                elif self._head_timer is None:
                    self._expect_head()
        elif self.cycle is not None and self.cycle.more_body:
            self._expect_body(len(data), before)
        elif late is not None:
            self._body.end()

    def _feed(self, data: bytes) -> None:
        """uvicorn's ``data_received``, but for a warning per request that is none: strangers could fill the log."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._get_upgrade() == b"websocket":
                self.handle_websocket_upgrade()
            else:
                self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:  # what came is not HTTP, or a callback has raised
            logger.debug("refused what %s sent: %s", self.client, error)
            self._reject(self._refusal)

    # -- what the parser says

    def on_message_begin(self) -> None:
        """A request has begun."""
        super().on_message_begin()
        self._in_head = True
        self.scope[CONNECTION] = self._connection  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Its head is there."""
        limits = self._limits
        if self._head_bytes + self._chunk_bytes > limits.max_head_bytes and self._head_size() > limits.max_head_bytes:
            self._refusal = refusals.HEAD_TOO_LARGE
            raise _HeadTooLargeError
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._refusal = refusals.NOT_ONE_HOST
            raise _HostError
        if len(self.pipeline) >= limits.max_pipelined:
            raise _TooManyPipelinedError
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is before:  # a WebSocket's: it has no body, and what comes in its place is bounded as the head is
            return
        self.headers = []  # takes the trailers, which must not pass for header fields (RFC 9110, 6.5.1)
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._stop_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(run(app, cycle))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in self.headers)

    def _reject(self, response: bytes) -> None:
        """Says why, unless that would get into another answer, and closes the connection."""
        self._head_timer = None
        if self.transport.is_closing():
            return
        cycle = self.cycle
        free = cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)
        if free and not self.pipeline:  # else it would be taken for the answer to a request before this one
            self.transport.write(response)
        self.transport.close()

    # -- time

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._reject, refusals.HEAD_TOO_LATE)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expect_body(self, amount: int, before: int) -> None:
        """Part of a body has come; more is to follow. ``before``: what of it was here already, and not taken yet."""
        cycle, body, limits = self.cycle, self._body, self._limits
        grew = True
        if cycle is not body.cycle:
            body.begin(cycle, self.loop.time())
            if content_length(self.scope) > limits.max_body_bytes:  # nobody needs to wait for it
                self._reject(refusals.body_too_large(limits.max_body_bytes))
                return
        else:
            grew = len(cycle.body) > before
        excess = body.add(amount, grew=grew, streams=bool(self._connection.streams))
        if excess is not None:
            self._reject(refusals.HEAD_TOO_LARGE if excess is Excess.FRAMING else refusals.TOO_MUCH_TOGETHER)
        elif self._body_timer is None:
            self._body_timer = self.loop.call_later(limits.body_timeout_s, self._check_body)

    def _check_body(self) -> None:
        self._body_timer = None
        cycle, body = self.cycle, self._body
        if body.cycle is not cycle or not cycle.more_body or self.transport.is_closing():
            body.end()
            return
        if self.flow.read_paused or (self._connection.streams and not cycle.response_complete):
            # It is not the client that does not go on, or it need not.
            body.excuse(self.loop.time())
        if self.loop.time() < body.due:
            self._body_timer = self.loop.call_at(body.due, self._check_body)
        elif cycle.response_complete:
            self.transport.close()
        else:
            self._reject(refusals.BODY_TOO_LATE)

    def eof_received(self) -> None:
        """See asyncio.Protocol: the connection closes when the client has read what waits for it."""
        self._connection.patience.begin()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client does not read."""
        super().pause_writing()
        self._connection.patience.begin()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if not self.transport.is_closing():  # else what is left must be read, too
            self._connection.patience.end()

    # -- other protocols

    def _should_upgrade(self) -> bool:
        return True  # whatever the parser takes for one: what becomes of it is decided behind its head

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Takes a request for a protocol that is not spoken here as any other (RFC 9110, 7.8).

        The parser has passed over its body, ``rest``, so another one begins anew.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":  # that is no wish but an order
            self._reject(self._refusal)
            return
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())]
        head += [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"".join(head) + b"\r\n" + rest)

    def handle_websocket_upgrade(self) -> None:
        """Hands the connection over."""
        from fairlead_gateway.edge.websocket_protocol import DoorWebSocketProtocol

        self._stop_timer()
        self._in_head = False
        self.ws_protocol_class = partial(DoorWebSocketProtocol, self._limits, cast(DoorConfig, self.config).incoming)  # type: ignore[assignment]
        super().handle_websocket_upgrade()
