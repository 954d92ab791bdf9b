"""Answers of typed services' methods as HTTP responses: a body, a stream of messages, or a Status in JSON."""

from __future__ import annotations

import logging

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InternalError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.conversions import LARGE, beside
from fairlead_gateway.edge.exchange import Exchange
from fairlead_gateway.edge.http_headers import from_metadata
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import request_id_of
from fairlead_gateway.edge.http_response import identify
from fairlead_gateway.edge.protojson import NotRepresentable
from fairlead_gateway.edge.typed.answers import Head, TypedAnswer
from fairlead_gateway.edge.typed.formats import JSON, NDJSON, StreamFormat, chosen
from fairlead_gateway.edge.typed.results import ResultPlan
from fairlead_gateway.edge.typed.rpc_method import RpcMethod

logger = logging.getLogger(__name__)

Fields = list[tuple[bytes, bytes]]


async def fail(
    exchange: Exchange, outcome: session_pb2.Outcome, method: RpcMethod, request_id: str = "", head: Head = ()
) -> None:
    """Answers with the Status of a call that failed before there was a response, or was never started."""
    request_id = request_id or request_id_of(exchange.noticed)
    reply = http_status.outcome_reply(outcome, request_id, exchange.timeout_s, method.json.pool)
    reply.headers.extend(_fields(head, outcome))
    await exchange.reply(reply, request_id)


async def respond_unary(
    exchange: Exchange, answer: TypedAnswer, header: session_pb2.CallHeader, method: RpcMethod, plan: ResultPlan
) -> None:
    """Answers with the one message of the result; status and metadata are known by then."""
    payload = await answer.single()
    if answer.outcome is not None:
        return await fail(exchange, answer.outcome, method, header.request_id, answer.head)
    try:
        result = method.result(payload, header)
        content_type, body = plan.encode(result) if len(result) <= LARGE else await beside(plan.encode, result)
    except NotRepresentable as error:
        return await fail(exchange, _unfit(method, error), method, header.request_id, answer.head)
    fields: Fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if answer.head or answer.metadata is not None:
        fields += _fields(answer.head, answer.metadata)
    if exchange.connection is not None:
        exchange.connection.hold()
    return await exchange.reply(Reply(200, fields, body), header.request_id)


async def respond_stream(
    exchange: Exchange, answer: TypedAnswer, header: session_pb2.CallHeader, method: RpcMethod, plan: ResultPlan
) -> None:
    """Answers with messages as they come, each written at once. The head waits for the first of them, whatever initial
    metadata there are: a call that fails before has a status of its own.

    What fails later is told in the stream, in a record of its own. Where there is no place for one (in an array, in
    bytes of whatever type) the response breaks off: nobody shall take what there is for the whole.
    """
    stream = _Stream(exchange, answer, header, method, plan)
    while True:
        entry = await answer.next()
        if entry is None:
            break
        try:
            await stream.write(entry[0])
        except NotRepresentable as error:
            answer.close()
            return await stream.fail(_unfit(method, error))
        if exchange.scope["method"] == "HEAD":  # nobody reads the rest, however long it is
            answer.close()
            break
        answer.consumed(entry[1])
    if answer.outcome is not None:
        return await stream.fail(answer.outcome)
    return await stream.finish()


class _Stream:
    """The body of one response that streams."""

    def __init__(
        self,
        exchange: Exchange,
        answer: TypedAnswer,
        header: session_pb2.CallHeader,
        method: RpcMethod,
        plan: ResultPlan,
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._header = header
        self._method = method
        self._plan = plan
        self._begun = False
        self._format: StreamFormat | None = None if plan.raw and method.application else _format(exchange)

    async def write(self, payload: bytes) -> None:
        """A message. Raises NotRepresentable before anything of it is written."""
        encode, result = self._plan.encode, self._method.result(payload, self._header)
        content_type, body = encode(result) if len(result) <= LARGE else await beside(encode, result)
        if self._plan.raw and not self._begun and content_type != JSON:
            self._format = None  # bytes of ServingService's that are no JSON
        if self._format is not None:
            content_type, body = self._format.media_type, self._format.item(body, not self._begun)
        if not self._begun:
            await self._begin(content_type)
        await self._exchange.send({"type": "http.response.body", "body": body, "more_body": True})

    async def fail(self, outcome: session_pb2.Outcome) -> None:
        """The end of a call that failed."""
        if not self._begun:
            return await fail(self._exchange, outcome, self._method, self._header.request_id, self._answer.head)
        logger.info("a response of %s broke off: %s", self._method.path, outcome.status.message)
        record = b"" if self._format is None else self._format.failure(outcome, self._method.json.pool)
        if record:
            await self._exchange.send({"type": "http.response.body", "body": record})
        return None

    async def finish(self) -> None:
        """The end of a call that succeeded."""
        empty = not self._begun
        if empty:
            media_type = b"application/octet-stream" if self._format is None else self._format.media_type
            await self._begin(media_type, self._answer.metadata)
        ending = b"" if self._format is None else self._format.ending(empty)
        await self._exchange.send({"type": "http.response.body", "body": ending})

    async def _begin(self, content_type: bytes, metadata: session_pb2.Outcome | None = None) -> None:
        self._begun = True
        fields: Fields = [(b"content-type", content_type), (b"cache-control", b"no-cache")]
        fields += _fields(self._answer.head, metadata)
        identify(fields, self._header.request_id)
        await self._exchange.send({"type": "http.response.start", "status": 200, "headers": fields})


def _format(exchange: Exchange) -> StreamFormat:
    accepted = [value for name, value in exchange.scope["headers"] if name == b"accept"]
    return chosen(b",".join(accepted)) if accepted else NDJSON


def _fields(head: Head, metadata: session_pb2.Outcome | None) -> Fields:
    return from_metadata((*head, *(() if metadata is None else metadata.trailing_metadata)))


def _unfit(method: RpcMethod, error: NotRepresentable) -> session_pb2.Outcome:
    """A result that has no JSON is our side's fault; what it is about stays in the log."""
    logger.error("a result of %s has no JSON: %s", method.path, error)
    return outcome_of(InternalError("the result has no JSON form"), trusted=False)
