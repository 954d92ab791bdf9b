"""An ``AutoscalingConfig`` as the controller is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cloudpickle

from fairlead.serve.code import SettingError, import_path_of, imported, pickled_code
from fairlead.serve.config import AggregationFunction, AutoscalingConfig, AutoscalingPolicy
from fairlead.serve.fingerprint import pickled_digest
from fairlead.serve.sources import source_digest
from fairlead.v1 import control_pb2

_AGGREGATIONS = {
    AggregationFunction.MEAN: control_pb2.LOAD_AGGREGATION_MEAN,
    AggregationFunction.MAX: control_pb2.LOAD_AGGREGATION_MAX,
    AggregationFunction.MIN: control_pb2.LOAD_AGGREGATION_MIN,
}


def autoscaling_settings(config: AutoscalingConfig) -> control_pb2.AutoscalingSettings:
    """The settings, complete.

    Raises TypeError for a policy that cannot be sent to the controller, SettingError for one that cannot be imported.
    """
    down = config.downscale_delay_s
    to_zero = config.downscale_to_zero_delay_s
    settings = control_pb2.AutoscalingSettings(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        target_ongoing_requests=config.target_ongoing_requests,
        look_back_period_s=config.look_back_period_s,
        upscaling_factor=config.smoothing_factor if config.upscaling_factor is None else config.upscaling_factor,
        downscaling_factor=config.smoothing_factor if config.downscaling_factor is None else config.downscaling_factor,
        upscale_delay_s=config.upscale_delay_s,
        downscale_delay_s=down,
        downscale_to_zero_delay_s=down if to_zero is None else to_zero,
        aggregation=_AGGREGATIONS[AggregationFunction(config.aggregation_function)],
    )
    if config.policy is not None:
        _put(AutoscalingPolicy.of(config.policy), settings)  # type: ignore[arg-type]  # which it is, once checked
    return settings


def put_application_policy(given: Mapping[str, Any], spec: control_pb2.ApplicationSpec) -> None:
    """Has one policy decide for all deployments of an application that scale by themselves.

    ``given``: the fields of an ``AutoscalingPolicy``. Raises ValueError if none does, or one has a policy of its own,
    SettingError if it cannot be imported.
    """
    policy = AutoscalingPolicy.of(given)
    scaling = [each for each in spec.deployments if each.settings.HasField("autoscaling")]
    if not scaling:
        raise ValueError("autoscaling_policy: no deployment scales by itself; give at least one an autoscaling_config")
    for deployment in scaling:
        settings = deployment.settings.autoscaling
        if settings.WhichOneof("policy") is not None:
            raise ValueError(
                f"autoscaling_policy: the deployment '{deployment.name}' has a policy of its own; leave one of them out"
            )
        _put(policy, settings)
        settings.application_policy = True


_PLACE = ("autoscaling_config", "policy", "policy_function")


def _checked(path: str) -> str:
    """An import path that leads to a function."""
    if not callable(imported(path, *_PLACE)):
        raise SettingError(f"policy_function: '{path}' is no function", *_PLACE)
    return path


def _put(policy: AutoscalingPolicy, settings: control_pb2.AutoscalingSettings) -> None:
    function: Any = policy.policy_function
    path = _checked(function) if isinstance(function, str) else import_path_of(function)
    if path is not None:
        settings.policy_import_path = path
    else:
        settings.pickled_policy = pickled_code(function)
    if policy.policy_kwargs:
        settings.policy_arguments = cloudpickle.dumps(dict(policy.policy_kwargs))
    pickles = settings.pickled_policy, settings.policy_arguments
    settings.policy_digest = source_digest(function) + pickled_digest(*pickles)
