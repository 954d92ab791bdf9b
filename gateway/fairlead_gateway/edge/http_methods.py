"""Routes that lead to plain methods: the replica binds the request to their parameters and makes the response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from fairlead.paths import BUILTIN, Converter, Route, StarlettePath
from fairlead.v1 import control_pb2
from fairlead_gateway.edge.exchange import Exchange, HttpTarget
from fairlead_gateway.edge.http_request import encode
from fairlead_gateway.edge.http_response import respond
from fairlead_gateway.routing.deployment import Deployment


@dataclass(frozen=True, slots=True)
class MethodTarget:
    """A method of a deployment, as it was declared for one path."""

    deployment: str
    route: control_pb2.HttpRoute

    async def serve(self, exchange: Exchange) -> None:
        """Calls the method with the request as it is and the parameters of its path."""
        body = await exchange.body()
        if body is None:
            return
        header = exchange.header(self.deployment, self.route.method)
        payload = encode(
            exchange.scope, exchange.mount, body, exchange.port.root_path, route=self.route.path, params=exchange.params
        )
        answer = exchange.start(header, payload)
        await respond(
            answer,
            header,
            exchange.timeout_s,
            exchange.send,
            exchange.connection,
            plain=self.route.handler,
            routed=True,
            head=exchange.scope["method"] == "HEAD",
        )

    def describe(self) -> dict[str, Any] | None:
        """As the driver described it."""
        return orjson.loads(self.route.openapi_operation) if self.route.openapi_operation else None

    def schemas(self) -> dict[str, Any]:
        """As the driver described them."""
        return orjson.loads(self.route.openapi_schemas) if self.route.openapi_schemas else {}


def method_routes(deployment: Deployment) -> Iterator[Route[HttpTarget]]:
    """The routes of a deployment's methods. Raises PatternError for what is no path."""
    for route in deployment.interface.http_routes:
        own = {name: Converter(regex=regex, convert=str) for name, regex in route.converters.items()}
        path = StarlettePath(route.path, _AS_TEXT | own)
        target: HttpTarget = MethodTarget(deployment.name, route)
        yield Route(path, route.http_methods, target, name=f"{deployment.name}.{route.method}")


def _checked(convert: Callable[[str], Any]) -> Callable[[str], str]:
    def check(text: str) -> str:
        convert(text)
        return text

    return check


_AS_TEXT: dict[str, Converter] = {
    name: Converter(regex=converter.regex, convert=_checked(converter.convert), language=converter.language)
    for name, converter in BUILTIN.items()
}
"""Starlette's converters, which decide here what a path may be, and make values of it in the replica only."""
