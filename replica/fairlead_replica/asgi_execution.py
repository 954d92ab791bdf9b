"""Running a call that is a HTTP request or a WebSocket for the user's ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from google.protobuf.message import DecodeError

from fairlead.serve.context import RequestContext
from fairlead.v1 import http_pb2
from fairlead.wire.errors import InvalidArgumentsError
from fairlead.wire.stream import Stream
from fairlead_replica.asgi import play
from fairlead_replica.call import Call
from fairlead_replica.http import Body
from fairlead_replica.streams import Inbound
from fairlead_replica.websocket import CODEC, WebSocket


class AsgiExecution(Call):
    """A call that the ASGI application answers, in a task of its own."""

    __slots__ = ("_websocket",)

    _websocket: WebSocket | None

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A message of the client's; its last one is a close."""
        super().on_message(stream, payload, more, last)
        if last and self._inbound is not None and self._websocket is not None:
            self._websocket.left()

    def _start(self, payload: bytes, last: bool) -> None:
        host = self._host
        self._websocket = None
        try:
            request = http_pb2.HttpRequest.FromString(payload)
        except DecodeError as error:
            self._refuse(InvalidArgumentsError(f"the payload is not a HttpRequest: {error}"))
            return
        self._context = RequestContext(
            self.header, app_name=host.application, deadline=self._deadline, is_http_request=True
        )
        application = host.callable.asgi
        assert application is not None
        if request.websocket:
            self._inbound = inbound = Inbound(CODEC, host.loop, max_message=host.max_message)
            self._websocket = WebSocket(inbound, self._send)
            if last:
                inbound.finish(None)
            playing = self._websocket.play(application.app, application.scope(request))
        else:
            playing = play(application.app, application.scope(request), Body(request.body).receive, self._send)
        host.loop.create_task(self._run(playing), context=host.context.copy())

    async def _run(self, playing: Coroutine[Any, Any, None]) -> None:
        try:
            self._task = asyncio.current_task()  # from here on cancelling reaches a try
            self._enter()
            self._check()
            await playing
        except BaseException as error:
            playing.close()
            self._fail(error)
        else:
            self._succeed(None)

    def _check(self) -> None:
        """The last step before the user's code. Raises what keeps the call from starting."""
        if self._interrupted is not None:
            raise self._interrupted
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise self._late("before it could start")

    async def _send(self, payload: bytes) -> None:
        self._answered = True
        if not self._link.send(self.stream, payload):
            self._waiter = self._host.loop.create_future()
            await self._waiter
