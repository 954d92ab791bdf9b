"""The user's ASGI application: made for the instance, started and ended with the replica, played for each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from fairlead.serve.ingress import ingress_of
from fairlead.v1 import http_pb2
from fairlead.wire.errors import DeployFailedError
from fairlead_replica.http import encode_response, scope_of
from fairlead_replica.http_fields import fields_of
from fairlead_replica.views import prepare

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
SendMessage: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[dict[str, Any], Receive, SendMessage], Awaitable[None]]
Send: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends one encoded message and returns when there is room for the next."""

_HttpResponse = http_pb2.HttpResponse


class AsgiApplication:
    """An application with its lifespan. Belongs to the replica's loop."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._lifespan = _Lifespan(app)

    async def start(self) -> None:
        """Runs the application's startup. Raises DeployFailedError if it says that it failed."""
        await self._lifespan.start()

    async def stop(self) -> None:
        """Runs its shutdown, if it was started. What fails is logged."""
        await self._lifespan.stop()

    def scope(self, request: http_pb2.HttpRequest) -> dict[str, Any]:
        """The scope of a request, or of a WebSocket."""
        scope = scope_of(request)
        scope["headers"] = list(scope["headers"])  # applications and their middlewares may change it
        scope["state"] = self._lifespan.state.copy()
        if request.websocket:
            offered = (field.value for field in request.headers if field.name == b"sec-websocket-protocol")
            scope["type"] = "websocket"
            scope["scheme"] = "wss" if request.scheme in ("https", "wss") else "ws"
            scope["subprotocols"] = [name.decode().strip() for value in offered for name in value.split(b",")]
            scope["extensions"] = {"websocket.http.response": {}}
            del scope["method"]
        return scope


def application_of(instance: Any) -> AsgiApplication | None:
    """The application that ``@serve.ingress`` gave the instance's class; None: it has none.

    Raises whatever making it raises.
    """
    ingress = ingress_of(instance)
    return None if ingress is None else AsgiApplication(prepare(ingress.build(instance), instance))


class _Lifespan:
    """The lifespan protocol of ASGI: one task, for as long as the application lives."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        """What the application keeps for its requests."""
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[str | None]
        self._ended: asyncio.Future[str | None]
        self._events: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._begun, self._ended = loop.create_future(), loop.create_future()
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._run())
        failure = await self._begun
        if failure is not None:
            raise DeployFailedError(f"the ASGI application's startup failed: {failure}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        try:
            failure = await self._ended
            if failure is not None:
                logger.warning("the ASGI application's shutdown failed: %s", failure)
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._events.get, self._send)
        except Exception:
            # ASGI: an application that does not know lifespans raises. One that failed has said so before.
            if self._begun.done():
                logger.warning("the ASGI application's lifespan ended early", exc_info=True)
        finally:
            for waiting in (self._begun, self._ended):
                if not waiting.done():
                    waiting.set_result(None)

    async def _send(self, message: Message) -> None:
        phase, _, result = message["type"].removeprefix("lifespan.").partition(".")
        waiting = self._begun if phase == "startup" else self._ended
        if not waiting.done():
            waiting.set_result((message.get("message") or "it gave no reason") if result == "failed" else None)


async def play(app: App, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Runs an application, or a Response of any kind, for one request; ``send`` gets the pieces of its response.

    Raises what it raises, unless the response was complete: what follows, a background task, is only logged. Raises
    RuntimeError if it returns without a complete response. Cancelling it cancels the application.
    """
    response = _Response(send)
    try:
        await app(scope, receive, response.send)
    except Exception:
        if not response.complete:
            raise
        logger.exception("what followed a complete response failed")
    if not response.complete:
        raise RuntimeError("the ASGI application returned without a complete response")


class _Response:
    """ASGI's ``send`` for one request. The head waits for the first piece of the body.

    Raises RuntimeError for a message that does not fit, ValueError for header fields that HTTP cannot carry.
    """

    def __init__(self, send: Send) -> None:
        self.complete = False
        self._send = send
        self._head: Message | None = None
        self._begun = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self._begun and self._head is None:
            self._head = {**message, "headers": fields_of(message.get("headers", ()))}
        elif kind == "http.response.body" and not self.complete and (self._begun or self._head is not None):
            await self._send_body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(f"the ASGI message {kind!r} does not fit here")

    async def _send_body(self, body: bytes, more: bool) -> None:
        self.complete = not more
        head, self._head, self._begun = self._head, None, True
        if head is not None:
            await self._send(encode_response(head["status"], head["headers"], body, complete=not more))
        elif body or not more:
            await self._send(_HttpResponse(body=body, complete=not more).SerializeToString())
