"""What is deployed for tests of handles, and what they ask of it."""

from __future__ import annotations

from typing import Any

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.handle import DeploymentBroadcastResponse, DeploymentHandle, DeploymentResponse

SERIALIZATIONS = ("cloudpickle", "pickle", "msgpack", "orjson")
LIMIT_S = 60


class Replicated:
    """What one replica runs may be asked for by name: ``deployed.kit`` and so on."""

    def __init__(self, ingress: DeploymentHandle) -> None:
        self.ingress = ingress
        self.kit = serve.get_deployment_handle("Kit", "handles")
        self.crowd = serve.get_deployment_handle("Crowd", "handles")
        self.narrow = serve.get_app_handle("narrow")
        self.function = serve.get_app_handle("function")
        self.exists = serve.get_app_handle("exists")


def running(deployment: str, app: str = "handles") -> int:
    return api.status().applications[app].deployments[deployment].replica_states.get("RUNNING", 0)


def result(response: DeploymentResponse) -> Any:
    return response.result(timeout_s=LIMIT_S)


def late(response: DeploymentBroadcastResponse) -> list[str]:
    """The replicas that have not answered a broadcast."""
    outcomes = response.results_by_replica(timeout_s=0.01)
    return [replica for replica, outcome in outcomes.items() if isinstance(outcome, TimeoutError)]
