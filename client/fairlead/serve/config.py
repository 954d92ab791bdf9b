"""Settings that users give: frozen, keyword-only, checked when they are made, unknown names refused.

Plain dataclasses: the client library does without pydantic.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from fairlead.serve.autoscaling_context import AutoscalingContext
from fairlead.serve.backend_config import BackendConfig
from fairlead.serve.validation import check_choice, check_integer, check_number, check_optional_number, check_text


class UnknownSettingError(TypeError, ValueError):
    """A name that a settings object does not have: a TypeError as for any keyword, in Ray Serve a ValueError."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all settings objects share."""

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None) -> Self:
        """The settings that a user gave as an object, as a mapping with the same names, or not at all.

        Raises TypeError for anything else, UnknownSettingError for unknown names, listing the known ones.
        """
        if isinstance(value, cls):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise TypeError(f"{cls.__name__} expected, or a mapping with its fields; got {type(value).__name__}")
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise UnknownSettingError(
                f"{cls.__name__} has no {', '.join(map(repr, unknown))}; it has {', '.join(known)}"
            )
        return cls(**value)


class ProxyLocation(enum.StrEnum):
    """Where HTTP and gRPC are served. On one machine ``HeadOnly`` and ``EveryNode`` are the same."""

    Disabled = "Disabled"
    """Nowhere: handles only."""
    HeadOnly = "HeadOnly"
    """On the machine that started the instance."""
    EveryNode = "EveryNode"
    """On every machine."""

    @classmethod
    def of(cls, value: ProxyLocation | str | None) -> ProxyLocation:
        """The location that a user gave, in any case; None: ``EveryNode``. ``NoServer`` is the classic ``Disabled``."""
        if value is None:
            return cls.EveryNode
        if isinstance(value, str):
            name = value.value if isinstance(value, ProxyLocation) else value
            found = {"noserver": cls.Disabled, **{one.value.lower(): one for one in cls}}.get(name.lower())
            if found is not None:
                return found
        raise ValueError(f"proxy_location must be one of {', '.join(one.value for one in cls)}, not {value!r}")


class DeploymentMode(enum.StrEnum):
    """The classic names of :class:`ProxyLocation`."""

    NoServer = "NoServer"
    """Nowhere."""
    HeadOnly = "HeadOnly"
    """On the machine that started the instance."""
    EveryNode = "EveryNode"
    """On every machine."""


@dataclass(frozen=True, kw_only=True)
class HTTPOptions(Settings):
    """How HTTP is served."""

    host: str | None = "127.0.0.1"
    """The address to bind; None: no HTTP."""
    port: int = 8000
    """The port to bind; 0: any free one."""
    root_path: str = ""
    """The prefix that a proxy in front has removed from paths."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, queueing included, unless it says otherwise itself; None: no limit."""
    keep_alive_timeout_s: float = 90
    """Seconds that an idle connection is kept open."""
    ssl_keyfile: str | None = None
    """The file of the private key for TLS (PEM)."""
    ssl_certfile: str | None = None
    """The file of the certificate for TLS, followed by those of its issuers (PEM); None: plain text."""
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    """The password of the private key; None: it has none."""
    ssl_ca_certs: str | None = None
    """The file of authorities that clients' certificates must come from (PEM); None: clients need none."""
    location: ProxyLocation | str | None = ProxyLocation.EveryNode
    """The classic spelling of ``serve.start(proxy_location=...)``, where None and ``NoServer`` mean ``Disabled``."""
    middlewares: Sequence[Any] = ()
    """``starlette.middleware.Middleware`` objects, around everything that the port answers; they run in the gateway
    workers. The last one is the outermost."""
    max_request_timeout_s: float | None = None
    """Seconds that a request may take whatever it says itself; None: as it says."""
    max_body_bytes: int = 64 * 1024 * 1024
    """The largest body of a request; above it the answer is 413."""
    max_incoming_bytes: int = 1024 * 1024 * 1024
    """Bytes of bodies that come in at once, of all requests to a gateway worker; above it the answer is 503."""
    max_head_bytes: int = 64 * 1024
    """Bytes of a request line and its header fields; above it the answer is 431."""
    head_timeout_s: float = 30
    """Seconds that a client may take to send the head of a request; then the answer is 408."""
    body_timeout_s: float = 30
    """Seconds that a client may take to send a body, and one more for each KiB of it; then the answer is 408."""
    write_timeout_s: float = 60
    """Seconds after which a client that does not read what it is sent is given up."""
    max_websocket_message_bytes: int = 16 * 1024 * 1024
    """The largest message of a WebSocket's client; a larger one closes it with 1009."""
    metadata_headers: Sequence[str] = ()
    """Further header fields of requests that methods of typed services get as metadata, under the same names."""

    def __post_init__(self) -> None:
        if self.host is not None:
            check_text("host", self.host)
        check_integer("port", self.port, at_least=0, at_most=65535)
        if self.root_path and not self.root_path.startswith("/"):
            raise ValueError(f"root_path must start with '/', not {self.root_path!r}")
        check_optional_number("request_timeout_s", self.request_timeout_s, above=0)
        check_number("keep_alive_timeout_s", self.keep_alive_timeout_s, at_least=0)
        _check_tls(self.ssl_certfile, self.ssl_keyfile, self.ssl_ca_certs, self.ssl_keyfile_password)
        location = ProxyLocation.Disabled if self.location is None else ProxyLocation.of(self.location)
        object.__setattr__(self, "location", location)
        check_optional_number("max_request_timeout_s", self.max_request_timeout_s, above=0)
        for name in ("max_body_bytes", "max_incoming_bytes", "max_head_bytes", "max_websocket_message_bytes"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("head_timeout_s", "body_timeout_s", "write_timeout_s"):
            check_number(name, getattr(self, name), above=0)
        object.__setattr__(self, "middlewares", _checked_middlewares(self.middlewares))
        object.__setattr__(self, "metadata_headers", _checked_fields(self.metadata_headers))

    def limits(self) -> dict[str, float]:
        """Those that are not what they are by default, by name: what clients may send, and how long they may take."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name in _LIMITS and getattr(self, one.name) != one.default
        }


_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_LIMITS = frozenset(
    {
        "max_request_timeout_s",
        "max_body_bytes",
        "max_incoming_bytes",
        "max_head_bytes",
        "head_timeout_s",
        "body_timeout_s",
        "write_timeout_s",
        "max_websocket_message_bytes",
    }
)


def _checked_middlewares(middlewares: Any) -> tuple[Any, ...]:
    found = tuple(middlewares or ())
    for one in found:
        if not callable(getattr(one, "cls", None)) or not isinstance(getattr(one, "kwargs", None), Mapping):
            raise TypeError(f"middlewares must be starlette.middleware.Middleware objects, not {one!r}")
    return found


def _checked_fields(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
        raise TypeError(f"metadata_headers must be a list of names, not {names!r}")
    found = tuple(name.lower() for name in names or ())
    for name in found:
        if _METADATA_KEY.fullmatch(name) is None or name.startswith("grpc-"):
            raise ValueError(f"metadata_headers: {name!r} cannot be the name of metadata")
    return found


def _check_tls(certificate: str | None, key: str | None, authority: str | None, password: str | None = None) -> None:
    if (key is None) != (certificate is None):
        raise ValueError("Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS.")
    if certificate is None and (authority is not None or password is not None):
        raise ValueError("ssl_ca_certs and ssl_keyfile_password need ssl_certfile and ssl_keyfile.")


@dataclass(frozen=True, kw_only=True)
class gRPCOptions(Settings):
    """How gRPC is served."""

    host: str | None = "127.0.0.1"
    """The address to bind; None: no gRPC port."""
    port: int = 9000
    """The port to bind; 0: any free one."""
    grpc_servicer_functions: Sequence[str | Callable[..., Any]] = ()
    """The generated ``add_…Servicer_to_server`` functions of typed services, or their import paths."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, queueing included; None: no limit but the caller's deadline."""
    enable_reflection: bool = True
    """Whether the reflection service, which describes all others, is offered."""
    ssl_keyfile: str | None = None
    """The file of the private key for TLS (PEM), without a password: gRPC can read no others. Ray Serve has no TLS for
    gRPC; the names are those of ``HTTPOptions``."""
    ssl_certfile: str | None = None
    """The file of the certificate for TLS, followed by those of its issuers (PEM); None: plain text."""
    ssl_ca_certs: str | None = None
    """The file of authorities that clients' certificates must come from (PEM); None: clients need none."""

    def __post_init__(self) -> None:
        if self.host is not None:
            check_text("host", self.host)
        check_integer("port", self.port, at_least=0, at_most=65535)
        check_optional_number("request_timeout_s", self.request_timeout_s, above=0)
        _check_tls(self.ssl_certfile, self.ssl_keyfile, self.ssl_ca_certs)
        if isinstance(self.grpc_servicer_functions, str):
            raise TypeError("grpc_servicer_functions must be a list of functions or import paths, not a string")
        object.__setattr__(self, "grpc_servicer_functions", tuple(self.grpc_servicer_functions))


class AggregationFunction(enum.StrEnum):
    """How autoscaling condenses the ongoing calls of a time span into one figure."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, kw_only=True)
class AutoscalingPolicy(Settings):
    """A function of the user's that decides how many replicas a deployment has."""

    policy_function: str | Callable[..., Any]
    """Takes an ``AutoscalingContext``, returns a number of replicas, or that and a dictionary for its next call. Or its
    import path, "package.module:name"."""
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of it, by keyword."""

    def __post_init__(self) -> None:
        function = self.policy_function
        if isinstance(function, str):
            if not all(function.partition(":")):
                raise ValueError(f"policy_function must be an import path 'package.module:name', not {function!r}")
        elif not callable(function):
            raise TypeError(f"policy_function must be a function or its import path, not {type(function).__name__}")
        if not isinstance(self.policy_kwargs, Mapping):
            raise TypeError(f"policy_kwargs must be a mapping, not {type(self.policy_kwargs).__name__}")


@dataclass(frozen=True, kw_only=True)
class AutoscalingConfig(Settings):
    """How many replicas a deployment has, by the calls it gets."""

    min_replicas: int = 1
    """The fewest; 0: none while nobody calls."""
    initial_replicas: int | None = None
    """How many at first; None: ``min_replicas``."""
    max_replicas: int = 1
    """The most."""
    target_ongoing_requests: float = 2
    """How many ongoing calls one replica shall have."""
    metrics_interval_s: float = 10
    """Seconds between measurements. Kept for compatibility."""
    look_back_period_s: float = 30
    """Seconds of the past that a decision looks at."""
    smoothing_factor: float = 1
    """Deprecated: sets both factors below where they are None."""
    upscaling_factor: float | None = None
    """Multiplies growth; None: 1."""
    downscaling_factor: float | None = None
    """Multiplies decline; None: 1."""
    upscale_delay_s: float = 30
    """Seconds that more replicas must be wanted before they are started."""
    downscale_delay_s: float = 600
    """Seconds that fewer replicas must be wanted before some are stopped."""
    downscale_to_zero_delay_s: float | None = None
    """The same for the last replica; None: ``downscale_delay_s``."""
    aggregation_function: AggregationFunction | str = AggregationFunction.MEAN
    """How ongoing calls are condensed."""
    policy: AutoscalingPolicy | Mapping[str, Any] | Callable[..., Any] | str | None = None
    """What decides instead: an ``AutoscalingPolicy``, a function, or its import path. Bounds and delays still count."""

    def __post_init__(self) -> None:
        check_integer("min_replicas", self.min_replicas, at_least=0)
        check_integer("max_replicas", self.max_replicas, at_least=1)
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) must be at least min_replicas ({self.min_replicas})")
        if self.initial_replicas is not None:
            check_integer("initial_replicas", self.initial_replicas, at_least=0)
            if not self.min_replicas <= self.initial_replicas <= self.max_replicas:
                raise ValueError(
                    f"initial_replicas ({self.initial_replicas}) must be between min_replicas ({self.min_replicas}) "
                    f"and max_replicas ({self.max_replicas})"
                )
        for name in ("target_ongoing_requests", "metrics_interval_s", "look_back_period_s", "smoothing_factor"):
            check_number(name, getattr(self, name), above=0)
        for name in ("upscaling_factor", "downscaling_factor"):
            check_optional_number(name, getattr(self, name), above=0)
        check_number("upscale_delay_s", self.upscale_delay_s, at_least=0)
        check_number("downscale_delay_s", self.downscale_delay_s, at_least=0)
        check_optional_number("downscale_to_zero_delay_s", self.downscale_to_zero_delay_s, at_least=0)
        object.__setattr__(self, "aggregation_function", AggregationFunction(self.aggregation_function))
        if callable(self.policy) or isinstance(self.policy, str):
            object.__setattr__(self, "policy", AutoscalingPolicy(policy_function=self.policy))
        elif self.policy is not None:
            object.__setattr__(self, "policy", AutoscalingPolicy.of(self.policy))

    @property
    def starting_replicas(self) -> int:
        """How many replicas at first."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas


AUTO = AutoscalingConfig(min_replicas=1, max_replicas=100, target_ongoing_requests=2)
"""What ``num_replicas="auto"`` stands for."""


@dataclass(frozen=True, kw_only=True)
class BackpressureConfig(Settings):
    """How a HTTP call that finds the queue full is answered."""

    status_code: int = 503
    """503 or 429."""
    retry_after_s: float | None = None
    """Seconds for the ``Retry-After`` header; None: no header."""

    def __post_init__(self) -> None:
        check_choice("status_code", self.status_code, (503, 429))
        check_optional_number("retry_after_s", self.retry_after_s, at_least=0)


@dataclass(frozen=True, kw_only=True)
class RequestRouterConfig(Settings):
    """How calls are spread over replicas; see ``fairlead.serve.request_router``."""

    request_router_class: str | type | None = None
    """A ``RequestRouter`` of the user's, or its import path "package.module:Class". None: the gateway's own choice."""
    request_router_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What its ``initialize_state`` gets."""
    request_routing_stats_period_s: float = 10
    """Seconds between two calls of the deployment's ``record_routing_stats``."""
    request_routing_stats_timeout_s: float = 30
    """Seconds that one may take."""
    initial_backoff_s: float = 0.025
    """Seconds until the router is asked again about a call for which what it chose is full, and others are free."""
    backoff_multiplier: float = 2
    """By how much that grows with each time."""
    max_backoff_s: float = 0.5
    """The most that it grows to."""

    def __post_init__(self) -> None:
        chosen = self.request_router_class
        if isinstance(chosen, str):
            if not all(chosen.replace(":", ".").rpartition(".")[::2]):
                raise ValueError(f"request_router_class is a class or 'package.module:Class', not {chosen!r}")
        elif chosen is not None and not (
            isinstance(chosen, type) and inspect.iscoroutinefunction(getattr(chosen, "choose_replicas", None))
        ):
            raise TypeError(f"request_router_class needs a coroutine choose_replicas; {chosen!r} has none")
        if not isinstance(self.request_router_kwargs, Mapping):
            raise TypeError("request_router_kwargs is a dict of keyword arguments")
        check_number("request_routing_stats_period_s", self.request_routing_stats_period_s, above=0)
        check_number("request_routing_stats_timeout_s", self.request_routing_stats_timeout_s, above=0)
        check_number("initial_backoff_s", self.initial_backoff_s, above=0)
        check_number("backoff_multiplier", self.backoff_multiplier, at_least=1)
        check_number("max_backoff_s", self.max_backoff_s, above=0)


__all__ = [
    "AUTO",
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackendConfig",
    "BackpressureConfig",
    "DeploymentMode",
    "HTTPOptions",
    "ProxyLocation",
    "RequestRouterConfig",
    "Settings",
    "gRPCOptions",
]
