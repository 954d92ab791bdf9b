"""How calls are spread over replicas, and answered where there is no room: a deployment's settings for that."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.serve.user_settings import Settings
from fairlead.serve.validation import check_choice, check_number, check_optional_number


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


def is_router(chosen: object) -> bool:
    """Whether it is a class that can be a request router."""
    return isinstance(chosen, type) and inspect.iscoroutinefunction(getattr(chosen, "choose_replicas", None))


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
        elif chosen is not None and not is_router(chosen):
            raise TypeError(f"request_router_class needs a coroutine choose_replicas; {chosen!r} has none")
        if not isinstance(self.request_router_kwargs, Mapping):
            raise TypeError("request_router_kwargs is a dict of keyword arguments")
        check_number("request_routing_stats_period_s", self.request_routing_stats_period_s, above=0)
        check_number("request_routing_stats_timeout_s", self.request_routing_stats_timeout_s, above=0)
        check_number("initial_backoff_s", self.initial_backoff_s, above=0)
        check_number("backoff_multiplier", self.backoff_multiplier, at_least=1)
        check_number("max_backoff_s", self.max_backoff_s, above=0)
