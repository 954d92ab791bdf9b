"""One request for a method and the call that it becomes, whichever of the two protocols it speaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError, InternalError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_meter import REQUEST_ID as REQUEST_ID_OF
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import KEEP_ON_DISCONNECT, MODEL_ID, REQUEST_ID, SESSION_ID, Receive, Scope
from fairlead_gateway.edge.http_response import CONNECTION, HttpConnection, Send, identify
from fairlead_gateway.edge.serving_headers import checked_request_id
from fairlead_gateway.edge.typed.answers import Head, TypedAnswer
from fairlead_gateway.edge.typed.calls import drive
from fairlead_gateway.edge.typed.grpc_handlers import read_metadata
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.edge.web.body import StatusError
from fairlead_gateway.edge.web.fields import Fields, metadata_of

logger = logging.getLogger(__name__)


class WebExchange:
    """A request, its call and its response. One per request; of one event loop.

    ``secret``: whether the header ``authorization`` is the gateway's own, and not for the method.
    """

    def __init__(
        self,
        router: CallRouter,
        method: RpcMethod,
        limits: HttpLimits,
        noticed: dict[str, str],
        *,
        scope: Scope,
        receive: Receive,
        send: Send,
        secret: bool = False,
    ) -> None:
        self.method = method
        self.limits = limits
        self.scope = scope
        self.receive = receive
        self.fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        """The header fields by name; of repeated ones the last."""
        self._router = router
        self._noticed = noticed
        self._send = send
        self._secret = secret
        self._connection: HttpConnection | None = scope.get(CONNECTION)
        self._header = session_pb2.CallHeader()
        self._answer: TypedAnswer | None = None
        self.send_head: Callable[[Head], Awaitable[None]] | None = None
        """Set before the start; sends the head of the response when initial metadata come. None: they wait."""
        self._driving: asyncio.Task[None] | None = None

    def _make_header(self, timeout_s: float | None) -> session_pb2.CallHeader:
        header, noticed = self._header, self._noticed
        if timeout_s is not None:
            header.timeout_us = int(timeout_s * 1e6) or 1  # 0 would mean no limit
        header.request_id = checked_request_id(noticed.get(REQUEST_ID, ""))
        header.session_id = noticed.get(SESSION_ID, "")
        header.multiplexed_model_id = noticed.get(MODEL_ID, "")
        if self.method.application:
            read_metadata(header, metadata_of(self.scope["headers"], secret=self._secret))
            header.peer = _peer(self.scope)
        return header

    def start(self, timeout_s: float | None, message: bytes) -> None:
        """Starts the call of a method that takes one message. Raises FairleadError; what fails later is an outcome."""
        header = self._make_header(timeout_s)
        payload = self.method.begin(header, message)
        answer = self._watched()
        answer.attach(self._router.start(header, payload, answer, trust=Trust.UNTRUSTED))

    def start_stream(self, timeout_s: float | None, messages: AsyncIterator[bytes]) -> None:
        """Starts the call of a method that takes a stream; what goes wrong with its messages ends the call."""
        header, answer = self._make_header(timeout_s), self._watched()
        if self._connection is not None:
            self._connection.streams = True
        self._driving = asyncio.get_running_loop().create_task(
            drive(self._router, self.method, header, messages, answer, Trust.UNTRUSTED)
        )

    def _watched(self) -> TypedAnswer:
        answer = self._answer = TypedAnswer(self.limits.max_message_bytes, self.send_head)
        if self._connection is not None and self._noticed.get(KEEP_ON_DISCONNECT) != "?1":
            self._connection.running = answer
        return answer

    async def results(self) -> AsyncIterator[bytes]:
        """The messages of the answer; what comes after one was yielded knows that it was written."""
        answer, method = self._answer, self.method
        if answer is None:
            return
        if not method.server_streaming:
            payload = await answer.single()
            if not failed(answer.outcome):
                yield method.result(payload, self._header)
            return
        while (entry := await answer.next()) is not None:
            yield method.result(entry[0], self._header)
            answer.consumed(entry[1])

    @property
    def head(self) -> Head:
        """The initial metadata that have come."""
        return () if self._answer is None else self._answer.head

    @property
    def outcome(self) -> session_pb2.Outcome | None:
        """How the call ended, when its results have; None: well, and without metadata."""
        return None if self._answer is None else self._answer.outcome or self._answer.metadata

    async def begin_response(self, status: int, fields: Fields) -> None:
        """Sends the head of the response."""
        self.scope[REQUEST_ID_OF] = self._header.request_id
        identify(fields, self._header.request_id)
        if self._connection is not None:
            self._connection.hold()
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    def flush(self) -> None:
        """Has the head of the response go out now, and not with the first piece of its body."""
        if self._connection is not None:
            self._connection.flush()

    async def write(self, data: bytes, *, more: bool) -> None:
        """Sends a piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        if more:
            self.flush()

    async def reply(self, reply: Reply) -> None:
        """Sends a whole response."""
        await self.begin_response(reply.status, reply.headers)
        await self.write(reply.body, more=False)

    def close(self) -> None:
        """The response is sent, or the client gone: what still runs is cancelled."""
        if self._driving is not None:
            self._driving.cancel()
        if self._connection is not None:
            self._connection.running = None
            self._connection.streams = False
            self._connection.flush()
        if self._answer is not None:
            self._answer.close()


def failed(outcome: session_pb2.Outcome | None) -> bool:
    """Whether a call did not succeed: one that did may have an outcome for its metadata."""
    return outcome is not None and outcome.status.code != 0


def outcome_for(error: Exception) -> session_pb2.Outcome:
    """An error as callers may see it: a defect of ours stays in the log."""
    if isinstance(error, StatusError):
        return error.outcome
    if not isinstance(error, FairleadError):
        logger.error("a call over gRPC-Web or Connect failed", exc_info=error)
        error = InternalError("internal error in the gateway")
    return outcome_of(error, trusted=False)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    if not client:
        return ""
    host, port = client[0], client[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
