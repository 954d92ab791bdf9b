"""The public face: ``from fairlead import serve``. The names are Ray Serve's."""

from fairlead.serve.config import HTTPOptions
from fairlead.serve.context import get_multiplexed_model_id, get_replica_context, get_request_context
from fairlead.serve.deployment import Application, Deployment, deployment

__all__ = [
    "Application",
    "Deployment",
    "HTTPOptions",
    "deployment",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_request_context",
]
