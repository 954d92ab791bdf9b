"""A core that decides over replicas and a gateway worker in memory."""

import random

from fairlead.v1 import control_pb2
from fairlead_gateway.control.actions import StartReplica
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.statuses import instance_status
from tests.control.application_specs import application, deployment


class World:
    """A core with a clock, and replicas and a gateway worker that do as they are told."""

    def __init__(self):
        self.core = Core(randomness=random.Random(1), gateways=1)
        self.now = 1000.0
        self.started: list[str] = []
        self.acknowledging = True
        self.acknowledge()

    def acknowledge(self):
        self.core.gateway_said(
            GatewayView(
                gateway_id="gateway-0",
                pid=1,
                applied_version=self.core.snapshot.version,
                trusted_address="unix:/g",
                grpc_address="",
                http_address="",
            )
        )

    def step(self, seconds=0.0):
        """Lets time pass, reconciles, and lets the gateway worker apply what came of it."""
        self.now += seconds
        actions = self.core.reconcile(self.now)
        self.started += [action.replica_id for action in actions if isinstance(action, StartReplica)]
        if self.acknowledging:
            self.acknowledge()
            actions += self.core.reconcile(self.now)
        return [action for action in actions if not hasattr(action, "snapshot")]

    def deploy(self, *deployments, **changes):
        generation = self.accept(application(*deployments, **changes))
        self.step()
        return generation

    def accept(self, spec):
        """Makes a specification an application's goal, as the controller does; its generation."""
        (goal,) = self.core.desired.prepare([spec], 1.0)
        return self.core.goals.accept(goal)

    def spread(self, policy):
        self.core.goals.spread("default", self.core.goals.with_traffic("default", policy))

    def make_ready(self, replica_id):
        self.core.events.assignment(replica_id, "/r")
        self.core.events.lease_taken(replica_id)
        self.core.events.ready(replica_id, f"unix:/{replica_id}", self.now)

    def run_all(self):
        """Has every starting replica become ready."""
        for replica in list(self.core.observed.replicas.values()):
            if replica.phase.name == "STARTING":
                self.make_ready(replica.replica_id)
        return self.step()

    def end(self, replica_id):
        self.core.events.lease_lost(replica_id, self.now)
        self.core.events.process_ended(replica_id, "it ended with exit status 0.", self.now)
        return self.step()

    def fail(self, replica_id, traceback="ValueError: no"):
        self.core.events.lease_taken(replica_id)
        self.core.events.failed(replica_id, traceback, self.now)
        return self.end(replica_id)

    @property
    def status(self):
        return instance_status(self.core, []).applications[0]

    @property
    def state(self):
        return control_pb2.ApplicationState.Name(self.status.state).removeprefix("APPLICATION_STATE_")

    @property
    def deployment_state(self):
        state = self.status.deployments[0].state
        return control_pb2.DeploymentState.Name(state).removeprefix("DEPLOYMENT_STATE_")

    def routes(self, name="Echo"):
        for routes in self.core.snapshot.applications[0].deployments:
            if routes.name == name:
                return routes
        return None

    def routed(self, name="Echo"):
        return [replica.replica_id for replica in self.routes(name).replicas]


def scaled(**changes):
    values = {
        "min_replicas": 0,
        "max_replicas": 4,
        "target_ongoing_requests": 1,
        "look_back_period_s": 1,
        "upscaling_factor": 1,
        "downscaling_factor": 1,
    }
    return deployment(num_replicas=0, autoscaling=control_pb2.AutoscalingSettings(**{**values, **changes}))


def calls(world, queued):
    load = control_pb2.DeploymentLoad(application="default", deployment="Echo", queued=queued)
    return world.core.gateway_loads("gateway-0", [load] if queued else [], world.now)
