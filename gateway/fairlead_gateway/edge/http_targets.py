"""What the paths of each application lead to: one router per application, made of what its deployments declare.

Built once per change of the route table, and again only for applications whose declarations changed. An application
that declares nothing has none: its requests go to its request handler, and cost nothing here.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

import grpc

from fairlead.paths import (
    Found,
    MethodNotAllowed,
    NotFound,
    OptionsAnswer,
    PathError,
    PathRouter,
    Redirect,
    Result,
    Route,
)
from fairlead.v1 import control_pb2
from fairlead_gateway.edge import http_reply, http_status
from fairlead_gateway.edge.exchange import HttpTarget
from fairlead_gateway.edge.http_methods import method_routes
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import Scope
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.table import Application

logger = logging.getLogger(__name__)

_Code = grpc.StatusCode

Source: TypeAlias = Callable[[Deployment], Iterable[Route[HttpTarget]]]

SOURCES: tuple[Source, ...] = (method_routes,)
"""Each reads one kind of declaration off ``Deployment.interface``. May raise ValueError for what cannot be served."""


@dataclass(frozen=True, slots=True)
class Matched:
    """A route takes the request."""

    target: HttpTarget
    params: dict[str, str]
    """What its pattern captured: text by the parameter's name or field path."""
    pattern: str = ""
    """The route's own path, below the mount's."""


class ApplicationTargets:
    """What the paths below one application's route prefix lead to. Immutable."""

    def __init__(self, deployments: Iterable[Deployment], ingress: str, sources: Iterable[Source] = SOURCES) -> None:
        """``ingress``: the deployment whose ``__call__`` takes what no route takes, if it takes requests at all.

        Raises ValueError, naming both, for two routes that take the same, and for what is no path.
        """
        reads = tuple(sources)
        declared: list[Route[HttpTarget]] = []
        derived: list[Route[HttpTarget]] = []
        self.rest = True
        """Whether a request that no route takes goes to the request handler of the ingress deployment."""
        self._classic = False
        for deployment in deployments:
            self._classic = self._classic or deployment.interface.HasField("endpoint")
            own = [route for source in reads for route in source(deployment)]
            services = frozenset(deployment.interface.derived_services)
            for route in own:  # those of services have the full name of their RPC
                (derived if route.name.rpartition(".")[0] in services else declared).append(route)
            if own and deployment.name == ingress:
                self.rest = deployment.interface.handles_requests or deployment.interface.asgi
        self._router = PathRouter(declared)
        self._derived = PathRouter(derived)
        self.routes = (*declared, *derived)
        """All of them. Those of services that were derived from type hints stand last, and yield to the others."""

    def __bool__(self) -> bool:
        return bool(self.routes)

    def _match(self, method: str, raw_path: bytes) -> Result[HttpTarget]:
        result = self._router.match(method, raw_path)
        if isinstance(result, Found) or not self._derived.routes:
            return result
        further = self._derived.match(method, raw_path)
        if isinstance(result, MethodNotAllowed | OptionsAnswer) and isinstance(further, type(result)):
            return type(result)(tuple(sorted({*result.allow, *further.allow})))
        return further if isinstance(further, Found) or isinstance(result, NotFound) else result

    def resolve(self, scope: Scope, mount: Mount, root_path: str = "") -> Matched | Reply | None:
        """What takes a request, or the reply if nothing does. None: the application's request handler.

        ``root_path``: a prefix that a proxy has removed from the path, for redirects.
        """
        below = _below(scope["raw_path"], mount)
        try:
            result = self._match(scope["method"], below or b"/")
        except PathError as error:
            return http_status.reply(400, _Code.INVALID_ARGUMENT, str(error))
        match result:
            case Found():
                return Matched(result.route.target, result.params, result.route.pattern.source)
            case MethodNotAllowed() | OptionsAnswer():
                return _classic_by_methods(result) if self._classic else by_methods(result, scope)
            case Redirect() if not self.rest:
                return _redirect(scope, root_path, scope["raw_path"][: -len(below) or None] + result.raw_path)
            case NotFound() | Redirect():
                if self.rest:
                    return None
                if self._classic:
                    path = http_status.shortened(scope["path"])
                    words = f"Path {path} not found. Please ping http://.../-/routes for route table."
                    return http_reply.text(404, words)
                return http_status.not_found(scope["path"], ", http://.../-/openapi.json for those of this application")


class HttpTargets:
    """The routers of all applications, kept up to date by :meth:`refresh`. Of one event loop."""

    def __init__(self, sources: Iterable[Source] = SOURCES) -> None:
        self._sources = tuple(sources)
        self._applications: dict[str, tuple[_Declared, ApplicationTargets]] = {}

    def of(self, application: str) -> ApplicationTargets | None:
        """The targets of an application; None if it has but its request handler."""
        found = self._applications.get(application)
        return found[1] if found is not None and found[1] else None

    def refresh(self, applications: Iterable[Application]) -> None:
        """Takes in what is deployed now. What cannot be served is logged, and its application keeps what it had."""
        before, self._applications = self._applications, {}
        for app in applications:
            declared = _Declared(app.ingress, {name: each.interface for name, each in app.deployments.items()})
            known = before.get(app.name)
            if known is None or known[0] != declared:
                try:
                    targets = ApplicationTargets(app.deployments.values(), app.ingress, self._sources)
                except ValueError:
                    logger.exception("the routes of application %r cannot be served", app.name)
                    targets = known[1] if known is not None else ApplicationTargets((), app.ingress)
                known = declared, targets
            self._applications[app.name] = known


@dataclass(frozen=True, slots=True)
class _Declared:
    """What an application's router is made of."""

    ingress: str
    interfaces: dict[str, control_pb2.DeploymentInterface]


def by_methods(result: MethodNotAllowed | OptionsAnswer, scope: Scope) -> Reply:
    """The reply for a path that is there, and has other methods: which ones."""
    if isinstance(result, OptionsAnswer):
        return Reply(204, [_allow(result.allow)], b"")
    message = f"{scope['method']} is not allowed here; what is: {', '.join(result.allow)}"
    return http_status.reply(405, _Code.UNIMPLEMENTED, message, _allow(result.allow))


def _classic_by_methods(result: MethodNotAllowed | OptionsAnswer) -> Reply:
    """The same for classic endpoints, as Starlette's Router answers it: OPTIONS is a method like any other."""
    allowed = tuple(method for method in result.allow if method != "OPTIONS")
    return http_reply.text(405, "Method Not Allowed", _allow(allowed))


def _below(raw_path: bytes, mount: Mount) -> bytes:
    """The part of a raw path below the mount's prefix, which has as many segments as the mount's: it matched it."""
    path = raw_path.partition(b"?")[0]
    depth = mount.root_path.count("/")
    pieces = path.split(b"/", depth + 1)
    return b"/" + pieces[depth + 1] if len(pieces) > depth + 1 else b""


def _allow(methods: tuple[str, ...]) -> tuple[bytes, bytes]:
    return b"allow", ", ".join(methods).encode()


def _escaped(target: bytes) -> bytes:
    """A target as a header may say it: what is not printable ASCII is percent-encoded, all else as it came."""
    return quote(target, safe=string.punctuation).encode()


def _redirect(scope: Scope, root_path: str, raw_path: bytes) -> Reply:
    """307 to the same path with the other ending. Absolute where the client names its host, as Starlette's."""
    target = quote(root_path).encode() + raw_path
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    target = _escaped(target)
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    location = scope["scheme"].encode() + b"://" + host + target if host else b"/" + target.lstrip(b"/")
    return Reply(307, [(b"location", location), (b"content-length", b"0")], b"")
