"""Pickles in settings that mean what those of the deploy before meant, and differ in their bytes all the same. Pure."""

from __future__ import annotations

from fairlead.v1 import control_pb2


def keep_known(spec: control_pb2.ApplicationSpec, before: control_pb2.ApplicationSpec) -> None:
    """Puts the pickles of the deploy before in the place of those that mean the same: for all who compare, nothing has
    changed then.
    """
    known = {deployment.name: deployment.settings for deployment in before.deployments}
    for deployment in spec.deployments:
        if (old := known.get(deployment.name)) is not None:
            _keep_policy(deployment.settings, old)
            _keep_router(deployment.settings, old)


def _keep_policy(settings: control_pb2.DeploymentSettings, old: control_pb2.DeploymentSettings) -> None:
    if not settings.autoscaling.policy_digest or settings.autoscaling.policy_digest != old.autoscaling.policy_digest:
        return
    if settings.autoscaling.pickled_policy and old.autoscaling.pickled_policy:
        settings.autoscaling.pickled_policy = old.autoscaling.pickled_policy
    settings.autoscaling.policy_arguments = old.autoscaling.policy_arguments


def _keep_router(settings: control_pb2.DeploymentSettings, old: control_pb2.DeploymentSettings) -> None:
    if not settings.request_router.digest or settings.request_router.digest != old.request_router.digest:
        return
    if settings.request_router.pickled_class and old.request_router.pickled_class:
        settings.request_router.pickled_class = old.request_router.pickled_class
    settings.request_router.arguments = old.request_router.arguments
