"""gRPC-Web and Connect at the HTTP door: ``POST /package.Service/Method``, at the root of the port.

The path names the method alone; where several applications offer it, the header ``application`` says whose, as the
metadata of that name does over gRPC. Both protocols work over HTTP/1.1: a call that streams both ways may send while it
receives, as far as the client can.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
from google.protobuf import descriptor_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_meter import ROUTE
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import ClientGoneError, Receive, Scope
from fairlead_gateway.edge.http_response import Send, send_reply
from fairlead_gateway.edge.http_status import CLOSE
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.edge.web import compression, connect_unary
from fairlead_gateway.edge.web.body import Encoding, EnvelopedBody
from fairlead_gateway.edge.web.enveloped import ConnectStreamShape, GrpcWebShape, Shape, answer_enveloped, refusal
from fairlead_gateway.edge.web.exchange import WebExchange, outcome_for
from fairlead_gateway.edge.web.fields import CONNECT_TIMEOUT, GRPC_TIMEOUT, timeout_s
from fairlead_gateway.edge.web.message_codecs import message_codec
from fairlead_gateway.edge.web.negotiation import (
    CONNECT_VERSION,
    STREAM_TYPES,
    UNARY_TYPES,
    Found,
    Misused,
    Protocol,
    Spoken,
    Unsupported,
    check_version,
    negotiate,
)

_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


class WebDoor:
    """Serves those requests of a HTTP port that speak one of the protocols. Of one event loop.

    ``taken``: whether somebody else takes a request.
    ``secret``: whether the port asks for a token in ``authorization``, so that it is not for the methods.
    """

    def __init__(
        self,
        router: CallRouter,
        methods: RpcMethods,
        limits: HttpLimits,
        *,
        taken: Callable[[Scope], bool] = lambda scope: False,
        secret: bool = False,
    ) -> None:
        self._router = router
        self._methods = methods
        self._limits = limits
        self._taken = taken
        self._secret = secret
        self._services: frozenset[str] = frozenset()
        methods.on_change.append(self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        own = {method.path.rpartition("/")[0] for method in self._methods.own}
        self._services = frozenset(own | {f"/{key.service}" for key in self._methods.services})

    def spoken(self, scope: Scope) -> Found | None:
        """What a request for a method of a service speaks; None: it is none, or for the transcoder."""
        if scope["path"].rpartition("/")[0] not in self._services:
            return None
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        found = negotiate(scope["method"], fields, scope["query_string"])
        if found is None and not self._taken(scope):
            found = negotiate(scope["method"], fields, scope["query_string"], alone=True)
        return found

    def stray(self, scope: Scope) -> Reply | None:
        """The answer to a client of these protocols whose path is nobody's; None: it speaks neither."""
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        spoken = negotiate(scope["method"], fields, scope["query_string"])
        if not isinstance(spoken, Spoken):
            return None
        reply = _unknown(spoken, scope)
        return reply if reply.status == 200 else reply._replace(status=404)  # 501 is for methods of services that exist

    async def serve(self, spoken: Found, noticed: dict[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request that :meth:`spoken` has told apart."""
        if isinstance(spoken, Unsupported):
            return await send_reply(send, _unsupported(spoken.content_type, f"{UNARY_TYPES}, {STREAM_TYPES}"))
        if isinstance(spoken, Misused):
            return await send_reply(send, _not_allowed(f"{scope['method']} calls no method; POST does"))
        found = self._found(spoken, scope)
        if isinstance(found, Reply):
            return await send_reply(send, found)
        exchange = WebExchange(
            self._router,
            found,
            self._limits,
            noticed,
            scope=scope,
            receive=receive,
            send=send,
            secret=self._secret,
        )
        try:
            await _answer(spoken, exchange)
        except ClientGoneError:
            pass
        finally:
            exchange.close()
        return None

    def _found(self, spoken: Spoken, scope: Scope) -> RpcMethod | Reply:
        """The method that a request is for, or why it cannot be called so."""
        application = next((value for name, value in scope["headers"] if name == b"application"), b"")
        try:
            method = self._methods.find(scope["path"], application.decode("latin-1"))
        except FairleadError as error:
            return _refused(spoken, outcome_for(error))
        if method is not None:
            scope[ROUTE] = method.application, method.path
        if method is None:
            return _unknown(spoken, scope)
        return _misfit(spoken, method) or method


async def _answer(spoken: Spoken, exchange: WebExchange) -> None:
    codec = message_codec(spoken.codec, exchange.method)
    if spoken.protocol is Protocol.CONNECT_UNARY:
        return await connect_unary.answer_post(exchange, codec)
    if spoken.protocol is Protocol.CONNECT_GET:
        return await connect_unary.answer_get(exchange, codec)
    fields, limit = exchange.fields, exchange.limits.max_body_bytes
    prefix = "grpc" if spoken.protocol is Protocol.GRPC_WEB else "connect"
    try:
        if spoken.protocol is Protocol.CONNECT_STREAM:
            check_version(fields.get(CONNECT_VERSION))
        encoding = Encoding(fields.get("grpc-encoding" if prefix == "grpc" else "connect-content-encoding"))
        seconds = timeout_s(fields.get(GRPC_TIMEOUT), fields.get(CONNECT_TIMEOUT), exchange.limits)
    except FairleadError as error:
        return await exchange.reply(_refused(spoken, outcome_for(error)))
    gzip = compression.offered(fields.get(f"{prefix}-accept-encoding", ""))
    body = EnvelopedBody(exchange.receive, codec, encoding, limit=limit, text=spoken.text)
    return await answer_enveloped(exchange, _shape(spoken, fields.get("accept", ""), gzip), codec, body, seconds)


def _shape(spoken: Spoken, accept: str = "", gzip: bool = False) -> Shape:
    """How the answer is written. A client of gRPC-Web may ask for the other mode than its request's."""
    if spoken.protocol is Protocol.CONNECT_STREAM:
        return ConnectStreamShape(spoken.codec, gzip=gzip)
    text = "application/grpc-web-text" in accept or (spoken.text and "application/grpc-web" not in accept)
    return GrpcWebShape(spoken.codec, text=text, gzip=gzip)


def _refused(spoken: Spoken, outcome: session_pb2.Outcome) -> Reply:
    """The answer to a request whose body has not been read."""
    if spoken.protocol in (Protocol.CONNECT_UNARY, Protocol.CONNECT_GET):
        return connect_unary.error_reply(outcome, CLOSE)
    return refusal(_shape(spoken), outcome)


def _unknown(spoken: Spoken, scope: Scope) -> Reply:
    message = f"there is no method {http_status.shortened(scope['path'])}"
    return _refused(spoken, http_status.with_details(grpc.StatusCode.UNIMPLEMENTED, message))


def _misfit(spoken: Spoken, method: RpcMethod) -> Reply | None:
    """Connect's content type says whether a call streams, and a GET that it may be repeated; it must be so."""
    streams = method.client_streaming or method.server_streaming
    if spoken.protocol is Protocol.CONNECT_STREAM and not streams:
        return _unsupported(f"application/connect+{spoken.codec}, which is for streams,", UNARY_TYPES)
    if spoken.protocol in (Protocol.CONNECT_UNARY, Protocol.CONNECT_GET) and streams:
        return _unsupported(f"application/{spoken.codec}, which is for unary calls,", STREAM_TYPES)
    if spoken.protocol is Protocol.CONNECT_GET:
        options = method.descriptor.GetOptions()
        if options.idempotency_level != _NO_SIDE_EFFECTS:
            return _not_allowed(f"GET is for methods whose idempotency_level is NO_SIDE_EFFECTS; {method.path} is none")
    return None


def _unsupported(what: str, accepted: str) -> Reply:
    message = f"{what or 'a request without a content type'} is not supported here; what is: {accepted}"
    fields = ((b"accept-post", accepted.encode()), CLOSE)
    if what.startswith("application/grpc-web"):  # whose clients take any body for envelopes
        return Reply(415, [*fields, (b"content-length", b"0")], b"")
    return _misused(415, message, *fields)


def _not_allowed(message: str) -> Reply:
    return _misused(405, message, (b"allow", b"POST"), CLOSE)


def _misused(status: int, message: str, *fields: tuple[bytes, bytes]) -> Reply:
    """An error in Connect's form, whose clients take it for what these statuses mean to them: UNKNOWN."""
    outcome = http_status.with_details(grpc.StatusCode.UNKNOWN, message)
    return connect_unary.error_reply(outcome, *fields)._replace(status=status)
