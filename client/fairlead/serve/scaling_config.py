"""How many replicas a deployment has, by the calls it gets: ``autoscaling_config``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.serve.user_settings import Settings
from fairlead.serve.validation import check_integer, check_number, check_optional_number


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
