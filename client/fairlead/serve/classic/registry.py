"""The backends and endpoints of an instance: kept by its controller, as the configuration of their applications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from fairlead.paths import BUILTIN, Converter, Route, StarlettePath
from fairlead.paths.route import Shape
from fairlead.serve import api
from fairlead.serve.backend_config import BackendConfig
from fairlead.serve.classic.backend import Backend
from fairlead.serve.classic.handle import APPLICATION
from fairlead.serve.context import BACKEND
from fairlead.serve.deployment import deployment
from fairlead.serve.graph import application_spec
from fairlead.serve.instance import Instance
from fairlead.v1 import control_pb2


@dataclass(kw_only=True)
class Endpoint:
    """An endpoint, and how its calls are spread."""

    route: str | None
    methods: list[str]
    traffic: dict[str, float]
    shadows: dict[str, float] = field(default_factory=dict)
    converters: dict[str, str] = field(default_factory=dict)
    """What the parameters of the user's own converters take: regular expressions by the converter's name."""

    def as_listed(self) -> dict[str, Any]:
        """What ``list_endpoints`` shows."""
        return {"route": self.route, "methods": self.methods, "traffic": self.traffic, "shadows": self.shadows}

    def parsed_route(self) -> Route[None]:
        """The route of one that has one. Raises ValueError for what is none."""
        own = {name: Converter(regex=regex, convert=str) for name, regex in self.converters.items()}
        return Route(StarlettePath(self.route or "", {**BUILTIN, **own}), self.methods, None)


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What is kept of a backend."""

    config: BackendConfig
    accepts_batches: bool
    convertors: list[str]
    """The names of the user's own Starlette convertors that its replicas have."""

    def encoded(self) -> bytes:
        """As the configuration of its application."""
        kept = {
            "backend": self.config.given(),
            "max_concurrent_queries": self.config.max_concurrent_queries,
            "accepts_batches": self.accepts_batches,
            "convertors": self.convertors,
        }
        return orjson.dumps(kept)


def backends(instance: Instance) -> dict[str, Registered]:
    """All backends by tag."""
    return {
        one.application.removeprefix(BACKEND): registered(one.config)
        for one in instance.configs()
        if one.application.startswith(BACKEND)
    }


def registered(encoded: bytes) -> Registered:
    """The backend of which this is kept."""
    kept = orjson.loads(encoded)
    config = BackendConfig.restored(kept["backend"], kept["max_concurrent_queries"])
    return Registered(config=config, accepts_batches=kept["accepts_batches"], convertors=kept["convertors"])


class Endpoints(dict[str, Endpoint]):
    """All endpoints by name, in the order in which they were created, as they were read."""

    def __init__(self, found: Mapping[str, Endpoint], generation: int) -> None:
        super().__init__(found)
        self.generation = generation
        """That of their application; 0: there are none."""


def endpoints(instance: Instance) -> Endpoints:
    """All endpoints."""
    for one in instance.configs():
        if one.application == APPLICATION and one.config and one.generation:
            kept = orjson.loads(one.config)["endpoints"]
            return Endpoints({name: Endpoint(**fields) for name, fields in kept.items()}, one.generation)
    return Endpoints({}, 0)


def deploy_endpoints(instance: Instance, wanted: Endpoints, changed: str) -> None:
    """Makes these the endpoints, of which one was changed, added or removed; returns when they can be called.

    An endpoint is a deployment without replicas, whose routes the gateways take and whose calls a policy spreads.
    Raises ChangedMeanwhileError, and nothing is changed, if another program has changed what was read.
    """
    if wanted:
        policy = policy_of(changed, wanted[changed]) if changed in wanted else control_pb2.TrafficPolicy(name=changed)
        api.deploy_change(_application(wanted), wanted.generation, [policy])
    else:
        instance.delete(APPLICATION, expected_generation=wanted.generation)


def _application(wanted: Mapping[str, Endpoint]) -> control_pb2.ApplicationSpec:
    routed = [name for name, endpoint in wanted.items() if endpoint.route is not None]
    return control_pb2.ApplicationSpec(
        name=APPLICATION,
        route_prefix="/" if routed else None,
        ingress_deployment=next(iter(routed or wanted)),
        deployments=_placeholders(wanted),
        config=orjson.dumps({"endpoints": {name: asdict(endpoint) for name, endpoint in wanted.items()}}),
    )


def policy_of(name: str, endpoint: Endpoint) -> control_pb2.TrafficPolicy:
    """How the gateways shall spread an endpoint's calls. Weights sum up to about 1, and shares to no more than that."""
    total = sum(endpoint.traffic.values())
    return control_pb2.TrafficPolicy(
        name=name,
        backends=[_share(tag, weight / total) for tag, weight in sorted(endpoint.traffic.items()) if weight],
        shadows=[_share(tag, proportion) for tag, proportion in sorted(endpoint.shadows.items()) if proportion],
    )


def _share(tag: str, share: float) -> control_pb2.TrafficShare:
    return control_pb2.TrafficShare(application=f"{BACKEND}{tag}", deployment=tag, share=share)


def _placeholders(wanted: Mapping[str, Endpoint]) -> list[control_pb2.DeploymentSpec]:
    """Where several endpoints' routes take the same requests, these are the first one's, as in Starlette."""
    taken: set[tuple[Shape, str]] = set()
    made = []
    for name, endpoint in wanted.items():
        made.append(_placeholder(name, endpoint))
        if endpoint.route is None:
            continue
        shape = endpoint.parsed_route().shape
        methods = [method for method in endpoint.methods if (shape, method) not in taken]
        taken.update((shape, method) for method in methods)
        if methods:
            made[-1].interface.http_routes.add(
                path=endpoint.route,
                http_methods=methods,
                method="serve_http",
                handler=True,
                converters=endpoint.converters,
            )
    return made


def _placeholder(name: str, endpoint: Endpoint) -> control_pb2.DeploymentSpec:
    """A deployment that has no replicas as long as nobody calls it, which nobody does."""
    hosted = deployment(name=name, autoscaling_config={"min_replicas": 0, "max_replicas": 1})(Backend)
    (spec,) = application_spec(hosted.bind(None, (), {}), name=APPLICATION, caller="create_endpoint").deployments
    shown = control_pb2.Endpoint(route=endpoint.route or "", http_methods=endpoint.methods)
    spec.interface.CopyFrom(control_pb2.DeploymentInterface(endpoint=shown))
    return spec
