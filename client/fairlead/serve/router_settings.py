"""A deployment's request router, as the controller and gateway workers are told of it."""

from __future__ import annotations

from typing import Any

import cloudpickle

from fairlead.serve.code import SettingError, import_path_of, imported, pickled_code
from fairlead.serve.config import RequestRouterConfig
from fairlead.serve.fingerprint import pickled_digest
from fairlead.serve.routing_config import is_router
from fairlead.v1 import control_pb2


def router_settings(config: RequestRouterConfig | None) -> control_pb2.RequestRouterSettings | None:
    """None: no router, though statistics may be wanted.

    Raises TypeError for what cannot be sent to gateway workers, SettingError for an import path that leads to none.
    """
    if config is None or config.request_router_class is None:
        return None
    settings = control_pb2.RequestRouterSettings(
        stats_period_s=config.request_routing_stats_period_s,
        stats_timeout_s=config.request_routing_stats_timeout_s,
        initial_backoff_s=config.initial_backoff_s,
        backoff_multiplier=config.backoff_multiplier,
        max_backoff_s=config.max_backoff_s,
    )
    chosen: Any = config.request_router_class
    path = _checked(_colon(chosen)) if isinstance(chosen, str) else import_path_of(chosen)
    if path is not None:
        settings.import_path = path
    else:
        settings.pickled_class = pickled_code(chosen)
    if config.request_router_kwargs:
        try:
            settings.arguments = cloudpickle.dumps(dict(config.request_router_kwargs))
        except Exception as error:
            raise TypeError(
                f"request_router_kwargs cannot be sent to gateways: {type(error).__name__}: {error}"
            ) from error
    settings.digest = pickled_digest(settings.pickled_class, settings.arguments)
    return settings


_PLACE = ("request_router_config", "request_router_class")


def _checked(path: str) -> str:
    """An import path that leads to a router: gateway workers have no better to take in its place."""
    if not is_router(chosen := imported(path, *_PLACE)):
        raise SettingError(f"request_router_class needs a coroutine choose_replicas; {chosen!r} has none", *_PLACE)
    return path


def _colon(path: str) -> str:
    """An import path in either notation: "package.module:Class", or Ray Serve's "package.module.Class"."""
    if ":" in path:
        return path
    module, _, name = path.rpartition(".")
    return f"{module}:{name}"
