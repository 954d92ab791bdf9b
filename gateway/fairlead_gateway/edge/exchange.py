"""One HTTP request that matched a route, with all that the route's target needs to answer it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from fairlead.v1 import session_pb2
from fairlead.wire.errors import MessageTooLargeError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_meter import REQUEST_ID
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.http_port import HttpPort
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import (
    KEEP_ON_DISCONNECT,
    Receive,
    Scope,
    call_header,
    read_body,
    request_id_of,
    timeout_of,
)
from fairlead_gateway.edge.http_response import CONNECTION, HttpConnection, Send, identify, send_reply
from fairlead_gateway.routing.router import StartedCall

_A = TypeVar("_A", bound=Answer)


class Exchange:
    """A request and the way to answer it. One per request; of one event loop.

    A target reads :meth:`body`, makes a :meth:`header`, starts calls with :meth:`start`, and answers with :meth:`reply`
    or ``send``. Calls that it leaves open are cancelled when it returns.
    """

    __slots__ = (
        "_answer",
        "call",
        "connection",
        "mount",
        "noticed",
        "params",
        "port",
        "receive",
        "scope",
        "send",
        "timeout_s",
    )

    def __init__(
        self,
        port: HttpPort,
        mount: Mount,
        noticed: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        params: dict[str, str],
    ) -> None:
        self.port = port
        self._answer: Answer | None = None
        self.call: StartedCall | None = None
        """The call, once it is started."""
        self.mount = mount
        self.noticed = noticed
        """The header fields that mean something to the gateway: see ``http_request.notice``."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self.params = params
        """What the route's pattern captured: text by the parameter's name or field path."""
        self.timeout_s = timeout_of(noticed, port.limits) if noticed else port.limits.request_timeout_s
        """Seconds that the request may take; None: no limit."""
        self.connection: HttpConnection | None = scope.get(CONNECTION)

    async def body(self) -> bytes | None:
        """The whole body; None if there is nothing more to do: it was too large, and answered so.

        Raises ClientGoneError if the client leaves.
        """
        try:
            return await read_body(self.scope, self.receive, self.port.limits.max_body_bytes)
        except MessageTooLargeError as error:
            await self.reply(http_status.error_reply(error, http_status.CLOSE), request_id_of(self.noticed))
            return None

    def header(self, deployment: str, method: str) -> session_pb2.CallHeader:
        """The header of a call that streams, with what the request's own header says: ids, model, time left."""
        header = call_header(self.mount, self.noticed, self.timeout_s)
        header.deployment = deployment
        header.method = method
        return header

    def start(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        *,
        more: bool = False,
        last: bool = True,
        trust: Trust = Trust.OWNER,
        answer: Answer | None = None,
    ) -> Answer:
        """Starts the call, which from here on ends with the client's connection. ``call`` takes further messages of it.

        ``trust``: in the payload; one that is made at the door, of a request that may say what it likes, needs none.
        ``answer``: what :meth:`expect` was given, if it was; otherwise one is made here.
        """
        if answer is None:
            answer = self.expect(Answer(self.port.limits.max_message_bytes))
        self.call = self.port.router.start(header, payload, answer, trust=trust, more=more, last=last)
        self.scope[REQUEST_ID] = header.request_id
        answer.attach(self.call)
        return answer

    def expect(self, answer: _A) -> _A:
        """Takes the answer to the exchange's call, which from here on ends with the client's connection."""
        self._answer = answer
        if self.connection is not None and self.noticed.get(KEEP_ON_DISCONNECT) != "?1":
            self.connection.running = answer
        return answer

    async def reply(self, reply: Reply, request_id: str = "") -> None:
        """Sends a whole response. ``request_id``: of the call's header, to be echoed."""
        identify(reply.headers, request_id)
        await send_reply(self.send, reply)

    def close(self) -> None:
        """The target is done: what still runs is cancelled."""
        if self.connection is not None:
            self.connection.running = None
            self.connection.streams = False
            self.connection.flush()
        if self._answer is not None:
            self._answer.close()


class HttpTarget(Protocol):
    """What a route leads to. Immutable, made once per change of the route table, used by many requests at once."""

    @property
    def deployment(self) -> str:
        """The deployment that is called."""

    async def serve(self, exchange: Exchange) -> None:
        """Answers the request. ClientGoneError and cancelling may be let through."""

    def describe(self) -> dict[str, Any] | None:
        """Its OpenAPI operation object, made when somebody asks for it; None: it is not described."""

    def schemas(self) -> dict[str, Any]:
        """The JSON schemas that the operation refers to as ``#/components/schemas/...``, by name."""
