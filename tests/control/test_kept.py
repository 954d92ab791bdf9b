"""What the next controller knows of scaling and traffic."""

import random

from fairlead.v1 import control_pb2
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.persistence import Persistence
from fairlead_gateway.control.store import MemoryStore
from tests.control.application_specs import application, deployment


def core_of(store):
    core, persistence = Core(randomness=random.Random(1), gateways=1), Persistence(store)
    persistence.restore(core)
    return core, persistence


def deploy(core, persistence, *deployments):
    goals = core.desired.prepare([application(*deployments)], 1.0)
    persistence.deploying(goals)
    core.goals.accept(goals[0])


def scaled():
    settings = control_pb2.AutoscalingSettings(
        min_replicas=1, max_replicas=9, target_ongoing_requests=1, upscaling_factor=1, downscaling_factor=1
    )
    settings.downscale_delay_s = 600
    return deployment(autoscaling=settings)


def test_the_next_controller_goes_on_with_as_many_replicas():
    store = MemoryStore()
    core, persistence = core_of(store)
    deploy(core, persistence, scaled())
    load = control_pb2.DeploymentLoad(application="default", deployment="Echo", queued=5)
    core.reconcile(10.0)
    core.gateway_loads("gateway-0", [load], 10.0)
    core.reconcile(20.0)
    assert core.desired.applications["default"].deployments["Echo"].target == 5
    persistence.follow(core)
    after, _ = core_of(store)
    after.reconcile(1000.0)
    assert after.desired.applications["default"].deployments["Echo"].target == 5


def test_the_next_controller_spreads_calls_in_the_same_way():
    store = MemoryStore()
    core, persistence = core_of(store)
    deploy(core, persistence, deployment(), deployment(name="New"))
    shares = [control_pb2.TrafficShare(deployment=name, share=0.5) for name in ("Echo", "New")]
    traffic = core.goals.with_traffic("default", control_pb2.TrafficPolicy(name="Echo", backends=shares))
    persistence.spreading(core, "default", traffic)
    core.goals.spread("default", traffic)
    after, _ = core_of(store)
    assert after.standings["default"].traffic == core.standings["default"].traffic
    core.goals.delete("default")
    core.reconcile(10.0)
    persistence.follow(core)
    assert core_of(store)[0].standings == {}
