"""A deployment's settings: what ``@serve.deployment`` and ``Deployment.options`` take, checked and complete."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from fairlead.serve.config import AUTO, AutoscalingConfig, BackpressureConfig, RequestRouterConfig
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.validation import check_integer, check_number, check_variables
from fairlead.v1 import control_pb2


class DEFAULT(enum.Enum):
    """Tells "not given" from None."""

    VALUE = 1


_MAX_ONGOING_REQUESTS = 5
_VARIABLES = "env_vars"
_ACTOR_OPTIONS = frozenset(
    {
        "accelerator_type",
        "memory",
        "num_cpus",
        "num_gpus",
        "resources",
        "runtime_env",
        "label_selector",
        "fallback_strategy",
    }
)


@dataclass(frozen=True, kw_only=True)
class DeploymentConfig:
    """How a deployment runs."""

    num_replicas: int = 1
    """How many replicas; at first, where ``autoscaling_config`` is set."""
    max_ongoing_requests: int | None = None
    """How many calls one replica runs at once; None: not given, so 5, or as many as its batches can hold."""
    max_queued_requests: int = -1
    """How many calls may wait for a slot; -1: as many as the gateway's own bound allows."""
    user_config: Any = None
    """For the class's ``reconfigure`` method; anything that JSON can carry; None: it is not called."""
    autoscaling_config: AutoscalingConfig | None = None
    """None: the number of replicas is fixed."""
    backpressure_config: BackpressureConfig = field(default_factory=BackpressureConfig)
    """How a HTTP call that finds the queue full is answered."""
    graceful_shutdown_wait_loop_s: float = 2
    """Kept for compatibility: drains wake on completion."""
    graceful_shutdown_timeout_s: float = 20
    """Seconds that a replica may take to drain before it is killed."""
    health_check_period_s: float = 10
    """Seconds between health checks."""
    health_check_timeout_s: float = 30
    """Seconds that a health check may take."""
    max_constructor_retry_count: int = 20
    """How many constructor failures end a deploy."""
    ray_actor_options: Mapping[str, Any] | None = None
    """Ray's resources, whose names are checked, and ``runtime_env``, of which ``env_vars`` counts and may be there."""
    placement_group_bundles: list[dict[str, float]] | None = None
    """Ray only; accepted and not used. So are the next two."""
    placement_group_strategy: str | None = None
    """Ray only."""
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    """Ray only."""
    max_replicas_per_node: int | None = None
    """1 to 100; None: no limit. Without effect on one machine."""
    logging_config: LoggingConfig | None = None
    """How its replicas log; None: as the application."""
    request_router_config: RequestRouterConfig | None = None
    """Accepted for compatibility."""
    gang_scheduling_config: Any = None
    """Ray only; accepted and not used."""
    deployment_actors: Any = None
    """Ray only; accepted and not used."""
    rolling_update_percentage: float = 0.2
    """The fraction of replicas replaced at a time during an update; above 0, at most 1."""
    max_surge_percent: float = 0
    """How many per cent of extra replicas an update may use; 0 to 100."""

    def __post_init__(self) -> None:
        check_integer("num_replicas", self.num_replicas, at_least=0 if self.autoscaling_config else 1)
        if self.max_ongoing_requests is not None:
            check_integer("max_ongoing_requests", self.max_ongoing_requests, at_least=1)
        check_integer("max_queued_requests", self.max_queued_requests, at_least=-1)
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests must be -1 (no limit) or at least 1, not 0")
        check_number("graceful_shutdown_wait_loop_s", self.graceful_shutdown_wait_loop_s, at_least=0)
        check_number("graceful_shutdown_timeout_s", self.graceful_shutdown_timeout_s, at_least=0)
        check_number("health_check_period_s", self.health_check_period_s, above=0)
        check_number("health_check_timeout_s", self.health_check_timeout_s, above=0)
        check_integer("max_constructor_retry_count", self.max_constructor_retry_count, at_least=1)
        if self.max_replicas_per_node is not None:
            check_integer("max_replicas_per_node", self.max_replicas_per_node, at_least=1, at_most=100)
        check_number("rolling_update_percentage", self.rolling_update_percentage, above=0)
        check_number("max_surge_percent", self.max_surge_percent, at_least=0)
        if self.rolling_update_percentage > 1 or self.max_surge_percent > 100:
            raise ValueError("rolling_update_percentage is at most 1, and max_surge_percent at most 100")
        self._check_actor_options()
        self._user_config_json()

    def _check_actor_options(self) -> None:
        if self.ray_actor_options is None:
            return
        if not isinstance(self.ray_actor_options, Mapping):
            raise TypeError("ray_actor_options must be a dictionary.")
        unknown = sorted(set(self.ray_actor_options) - _ACTOR_OPTIONS)
        if unknown:
            raise ValueError(f"ray_actor_options may not contain {unknown}; allowed are {sorted(_ACTOR_OPTIONS)}")
        environment = self.ray_actor_options.get("runtime_env") or {}
        if not isinstance(environment, Mapping):
            raise TypeError("runtime_env in ray_actor_options must be a dictionary.")
        for key in environment:
            if key != _VARIABLES:
                raise ValueError(f"{key!r} in runtime_env has no effect for one deployment; there is {_VARIABLES}")
        check_variables(_VARIABLES, self.variables)

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of its replicas."""
        environment = (self.ray_actor_options or {}).get("runtime_env") or {}
        return environment.get(_VARIABLES) or {}

    def _user_config_json(self) -> bytes:
        if self.user_config is None:
            return b""
        try:
            return orjson.dumps(self.user_config)
        except TypeError as error:
            raise ValueError(f"user_config must be something that JSON can carry: {error}") from error

    def update(self, given: Mapping[str, Any]) -> Self:
        """A copy with the settings that were given; those that are ``DEFAULT.VALUE`` stay. Raises as the checks do."""
        changes = {name: value for name, value in given.items() if value is not DEFAULT.VALUE}
        if changes.get("max_ongoing_requests", 1) is None:
            raise ValueError("`max_ongoing_requests` must be a positive integer, got None.")
        if "backpressure_config" in changes:
            changes["backpressure_config"] = BackpressureConfig.of(changes["backpressure_config"])
        if changes.get("request_router_config") is not None:
            changes["request_router_config"] = RequestRouterConfig.of(changes["request_router_config"])
        if "logging_config" in changes:
            changes["logging_config"] = LoggingConfig.of(changes["logging_config"])
        if "num_replicas" in changes or "autoscaling_config" in changes:
            changes |= _scale(changes.get("num_replicas"), changes.get("autoscaling_config"))
        return replace(self, **changes)

    def ongoing_limit(self, batched: int = 0) -> int:
        """How many calls one replica runs at once, where its batches can hold ``batched`` calls."""
        if self.max_ongoing_requests is not None:
            return self.max_ongoing_requests
        return max(_MAX_ONGOING_REQUESTS, batched)

    def to_settings(self, batched: int = 0) -> control_pb2.DeploymentSettings:
        """What the controller is told of a deployment whose batches can hold ``batched`` calls at once."""
        return control_pb2.DeploymentSettings(
            num_replicas=self.num_replicas,
            max_ongoing_requests=self.ongoing_limit(batched),
            max_queued_requests=self.max_queued_requests,
            user_config=self._user_config_json(),
            graceful_shutdown_wait_loop_s=self.graceful_shutdown_wait_loop_s,
            graceful_shutdown_timeout_s=self.graceful_shutdown_timeout_s,
            health_check_period_s=self.health_check_period_s,
            health_check_timeout_s=self.health_check_timeout_s,
            max_constructor_retry_count=self.max_constructor_retry_count,
            backpressure_status_code=self.backpressure_config.status_code,
            backpressure_retry_after_s=self.backpressure_config.retry_after_s,
            rolling_update_percentage=self.rolling_update_percentage,
            max_surge_percent=self.max_surge_percent,
            logging=b"" if self.logging_config is None else self.logging_config.to_json(),
        )


def _scale(num_replicas: int | str | None, autoscaling: AutoscalingConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    """``num_replicas`` and ``autoscaling_config`` as they belong together."""
    if num_replicas == "auto":
        if isinstance(autoscaling, Mapping):
            given: Mapping[str, Any] = autoscaling
            autoscaling = AutoscalingConfig.of({"min_replicas": 1, "max_replicas": 100} | dict(given))
        found = autoscaling or AUTO
        return {"num_replicas": found.starting_replicas, "autoscaling_config": found}
    if isinstance(num_replicas, str):
        raise ValueError(f'num_replicas must be a positive integer or "auto", not {num_replicas!r}')  # noqa: TRY004 - Ray Serve's choice
    if num_replicas == 0:
        raise ValueError("num_replicas is expected to be larger than 0")
    if autoscaling is not None:
        if num_replicas is not None:
            raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
        found = AutoscalingConfig.of(autoscaling)
        return {"num_replicas": found.starting_replicas, "autoscaling_config": found}
    return {"num_replicas": 1 if num_replicas is None else num_replicas, "autoscaling_config": None}
