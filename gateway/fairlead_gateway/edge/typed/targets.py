"""Typed services' methods over HTTP: what the routes of their ``google.api.http`` annotations lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.rpc import error_details_pb2

from fairlead.paths import Found, MethodNotAllowed, OptionsAnswer, PathRouter, Route, Template
from fairlead.paths.rules import HttpBinding, bindings_of
from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.conversions import LARGE, beside
from fairlead_gateway.edge.exchange import Exchange, HttpTarget
from fairlead_gateway.edge.http_headers import DEFAULT_RULES, HeaderRules, to_metadata
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import Scope, read_ids
from fairlead_gateway.edge.http_targets import by_methods
from fairlead_gateway.edge.protojson import JsonRefused
from fairlead_gateway.edge.typed import openapi
from fairlead_gateway.edge.typed.answers import TypedAnswer
from fairlead_gateway.edge.typed.bodies import JSON_TYPES, messages, refused_type
from fairlead_gateway.edge.typed.calls import drive
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.typed.requests import RequestPlan
from fairlead_gateway.edge.typed.responses import fail, respond_stream, respond_unary
from fairlead_gateway.edge.typed.results import ResultPlan
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.routing.deployment import Deployment

_KNOWN_FIELDS = 200
"""Names of header fields that are remembered."""
_LONGEST_FIELD = 64
"""Bytes of such a name."""


class TypedTarget:
    """One binding of a method, compiled. ``rules``: which fields of a request are metadata of its call."""

    def __init__(self, method: RpcMethod, binding: HttpBinding, rules: HeaderRules) -> None:
        self.method = method
        self.binding = binding
        self._rules = rules
        self._known_fields: dict[bytes, bool] = {}
        self._request = RequestPlan(method, binding)
        self._result = ResultPlan(method, binding)
        # A typed method's payload is made here. ServingService's is what its caller says, in the encoding it names.
        self._trust = Trust.OWNER if method.application else Trust.UNTRUSTED

    def __repr__(self) -> str:
        return f"<TypedTarget {self.binding.http_method} {self.binding.template.source} {self.method.path}>"

    @property
    def deployment(self) -> str:
        """See HttpTarget."""
        return self.method.deployment

    async def serve(self, exchange: Exchange) -> None:
        """See HttpTarget."""
        try:
            header = self._header(exchange)
            if self.method.client_streaming:
                return await self._serve_uploads(exchange, header)
            body = await exchange.body()
            if body is None:
                return None
            scope = exchange.scope
            content_type = self._content_type(exchange, bool(body))
            given = exchange.params, scope["query_string"], body, content_type
            convert = self._request.message
            message = convert(*given) if len(body) <= LARGE else await beside(convert, *given)
            payload = self.method.begin(header, message)
        except JsonRefused as refused:
            return await fail(exchange, _bad_request(refused), self.method)
        except FairleadError as error:
            return await fail(exchange, outcome_of(error, trusted=False), self.method)
        answer = exchange.expect(TypedAnswer(exchange.port.limits.max_message_bytes))
        exchange.start(header, payload, trust=self._trust, answer=answer)
        if self.method.server_streaming:
            return await respond_stream(exchange, answer, header, self.method, self._result)
        return await respond_unary(exchange, answer, header, self.method, self._result)

    async def _serve_uploads(self, exchange: Exchange, header: session_pb2.CallHeader) -> None:
        """A method that takes a stream: its answer may begin while the body is still coming."""
        content_type = self._content_type(exchange, True)
        answer = exchange.expect(TypedAnswer(exchange.port.limits.max_message_bytes))
        if exchange.connection is not None:
            exchange.connection.streams = True
        sent = messages(exchange, self._request, content_type)
        driving = asyncio.get_running_loop().create_task(
            drive(exchange.port.router, self.method, header, sent, answer, self._trust)
        )
        respond = respond_stream if self.method.server_streaming else respond_unary
        try:
            await respond(exchange, answer, header, self.method, self._result)
        finally:
            driving.cancel()

    def _header(self, exchange: Exchange) -> session_pb2.CallHeader:
        """What the request's fields say of its call. Raises InvalidCallError for metadata that is malformed."""
        header = session_pb2.CallHeader(route=self.binding.template.source)
        if exchange.noticed:
            read_ids(header, exchange.noticed)
        if exchange.timeout_s is not None:
            header.timeout_us = int(exchange.timeout_s * 1e6) or 1  # 0 would mean no limit
        passing = [field for field in exchange.scope["headers"] if self._passes(field[0])]
        if passing:
            header.metadata.extend(to_metadata(passing, self._rules))
        client = exchange.scope.get("client")
        if client:
            header.peer = f"ipv6:[{client[0]}]:{client[1]}" if ":" in client[0] else f"ipv4:{client[0]}:{client[1]}"
        return header

    def _passes(self, name: bytes) -> bool:
        """Whether a field becomes metadata. Names are few and the same all the time, so that what is known is kept."""
        passes = self._known_fields.get(name)
        if passes is None:
            passes = self._rules.admits(name)
            if len(self._known_fields) < _KNOWN_FIELDS and len(name) <= _LONGEST_FIELD:
                self._known_fields[name] = passes
        return passes

    def _content_type(self, exchange: Exchange, given: bool) -> str:
        """The body's type. Raises UnknownSerializationError where it must be JSON and is not."""
        for name, value in exchange.scope["headers"]:
            if name == b"content-type":
                if given and not self._request.raw and self._request.takes_body and value not in JSON_TYPES:
                    refused_type(value, streaming=self.method.client_streaming)
                return str(value, "latin-1")
        return ""

    def describe(self) -> dict[str, Any] | None:
        """See HttpTarget."""
        return openapi.operation(self.method, self.binding)

    def schemas(self) -> dict[str, Any]:
        """See HttpTarget."""
        return openapi.schemas(self.method, self.binding)


def _bad_request(refused: JsonRefused) -> session_pb2.Outcome:
    violation = error_details_pb2.BadRequest.FieldViolation(field=refused.path, description=refused.problem)
    detail = error_details_pb2.BadRequest(field_violations=[violation])
    return http_status.with_details(grpc.StatusCode.INVALID_ARGUMENT, str(refused), detail)


def typed_routes(
    methods: RpcMethods, rules: HeaderRules = DEFAULT_RULES
) -> Callable[[Deployment], Iterator[Route[HttpTarget]]]:
    """What reads the routes of a deployment's typed services: see ``http_targets.SOURCES``.

    ``rules``: which fields of a request are metadata of its call. Raises ValueError for an annotation that cannot be
    served.
    """

    def read(deployment: Deployment) -> Iterator[Route[HttpTarget]]:
        for method in methods.of_application(deployment.application):
            if method.deployment == deployment.name:
                yield from _routes(method, rules)

    return read


def _routes(method: RpcMethod, rules: HeaderRules) -> Iterator[Route[HttpTarget]]:
    for binding in bindings_of(method.descriptor):
        target: HttpTarget = TypedTarget(method, binding, rules)
        yield Route(binding.template, [binding.http_method], target, name=method.path[1:].replace("/", "."))


class OwnTargets:
    """The paths of ServingService, which every HTTP door has, whatever is deployed. Immutable."""

    def __init__(self, methods: RpcMethods, rules: HeaderRules = DEFAULT_RULES) -> None:
        """``rules``: as for :func:`typed_routes`."""
        self.routes = tuple(route for method in methods.own for route in _routes(method, rules))
        self._router = PathRouter(self.routes)
        self._starts = tuple({_start(route) for route in self.routes})

    def find(self, scope: Scope) -> tuple[HttpTarget, dict[str, str]] | None:
        """The target of a request and what its path captured; None: it is for an application.

        Raises PathError for a path that is none.
        """
        if not scope["path"].startswith(self._starts):
            return None
        found = self._router.match(scope["method"], scope["raw_path"])
        return (found.route.target, found.params) if isinstance(found, Found) else None

    def refusal(self, scope: Scope) -> Reply | None:
        """The reply to a request whose path is one of these and whose method is not; None: the path is none of these.

        For requests that no application takes: one that has the path may have a use for other methods.
        """
        if not scope["path"].startswith(self._starts):
            return None
        found = self._router.match(scope["method"], scope["raw_path"])
        return by_methods(found, scope) if isinstance(found, MethodNotAllowed | OptionsAnswer) else None


def _start(route: Route[HttpTarget]) -> str:
    """What all paths of a route begin with: most requests are told apart by that."""
    assert isinstance(route.pattern, Template)
    literals: list[str] = []
    for segment in route.pattern.segments:
        if segment.literal is None:
            break
        literals.append(segment.literal)
    return "/" + "/".join(literals)
