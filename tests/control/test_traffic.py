"""How an application's calls are to be spread."""

import pytest

from fairlead.v1 import control_pb2
from fairlead.wire.errors import InvalidCallError
from tests.control.application_specs import application, deployment


def policy(name="Echo", shadows=(), **shares):
    return control_pb2.TrafficPolicy(
        name=name,
        backends=[control_pb2.TrafficShare(deployment=each, share=share) for each, share in shares.items()],
        shadows=[control_pb2.TrafficShare(deployment=each, share=0.5) for each in shadows],
    )


def test_traffic_reaches_gateways_and_survives_a_deploy(world):
    two = (deployment(), deployment(name="New"))
    world.deploy(*two)
    world.run_all()
    world.spread(policy(Echo=0.9, New=0.1))
    world.step()
    (sent,) = world.core.snapshot.applications[0].traffic
    assert [(one.application, one.deployment, one.share) for one in sent.backends] == [
        ("default", "Echo", 0.9),
        ("default", "New", 0.1),
    ]
    world.deploy(*two)
    assert len(world.core.snapshot.applications[0].traffic) == 1
    assert world.status.traffic[0].name == "Echo"
    world.spread(control_pb2.TrafficPolicy(name="Echo"))
    world.step()
    assert not world.core.snapshot.applications[0].traffic


def test_a_deployment_without_replicas_and_its_traffic_go_together(world):
    idle = control_pb2.AutoscalingSettings(min_replicas=0, max_replicas=1, target_ongoing_requests=1)
    kept, gone = deployment(), deployment(name="Gone", num_replicas=0, autoscaling=idle)
    world.deploy(kept, gone)
    world.run_all()
    world.spread(policy(name="Gone", Echo=1.0))
    world.step()
    (goal,) = world.core.desired.prepare([application(kept)], 1.0)
    traffic = world.core.goals.with_traffic("default", control_pb2.TrafficPolicy(name="Gone"), goals=[goal])
    world.core.goals.accept(goal, traffic)
    published = [action.snapshot for action in world.core.reconcile(world.now) if hasattr(action, "snapshot")]
    routes = published[0].applications[0]
    assert [one.name for one in routes.deployments] == ["Echo"]
    assert not routes.traffic


@pytest.mark.parametrize(
    ("application_name", "given", "told"),
    [
        ("nobody", policy(Echo=1.0), "no such application"),
        ("default", policy(Echo=0.5), "sum up to 1, not 0.5"),
        ("default", policy(Echo=1.5), "between 0 and 1"),
        ("default", policy(Nothing=1.0), "no deployment 'Nothing'"),
        ("default", policy(shadows=["Echo"]), "need backends"),
        ("default", policy(Echo=1.0, shadows=["Echo", "Echo"]), "must differ"),
        ("default", policy(name="", Echo=1.0), "needs a name"),
    ],
)
def test_traffic_that_makes_no_sense_changes_nothing(world, application_name, given, told):
    world.deploy()
    with pytest.raises(InvalidCallError, match=told):
        world.core.goals.with_traffic(application_name, given)
    assert not world.core.standings["default"].traffic
