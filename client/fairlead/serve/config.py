"""Settings that users give, gathered at the path where Ray Serve has them."""

from __future__ import annotations

from fairlead.serve.autoscaling_context import AutoscalingContext
from fairlead.serve.backend_config import BackendConfig
from fairlead.serve.port_options import DeploymentMode, HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.routing_config import BackpressureConfig, RequestRouterConfig
from fairlead.serve.scaling_config import AUTO, AggregationFunction, AutoscalingConfig, AutoscalingPolicy
from fairlead.serve.user_settings import Settings, UnknownSettingError

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
    "UnknownSettingError",
    "gRPCOptions",
]
