"""Applications that go away, one of them or all."""

from fairlead_gateway.control.actions import KillReplica
from tests.control.application_specs import deployment


def test_a_deletion_drains_the_ingress_first(world):
    world.deploy(deployment("Ingress"), deployment("Model"))
    world.run_all()
    ingress, model = world.started
    world.core.goals.delete("default")
    actions = world.step()
    assert [action.replica_id for action in actions] == [ingress]
    assert world.state == "DELETING"
    assert world.core.snapshot.applications[0].serving is False
    assert world.routed("Model") == [model]
    assert "being deleted" in world.routes("Ingress").unavailable_message
    world.core.events.drained(ingress, world.now)
    assert [action.replica_id for action in world.step()] == [model]
    world.end(ingress)
    world.end(model)
    assert not world.core.desired.applications
    assert not world.core.standings
    assert not world.core.observed.progress
    assert not world.core.snapshot.applications


def test_a_forced_deletion_waits_for_nothing(world):
    world.deploy(deployment("Ingress"), deployment("Model"))
    world.run_all()
    world.core.goals.delete("default", force=True)
    actions = world.step()
    assert [type(action) for action in actions] == [KillReplica] * 2
    assert [action.replica_id for action in actions] == world.started
    for replica_id in world.started:
        world.end(replica_id)
    assert not world.core.desired.applications


def test_a_deletion_kills_what_is_starting(world):
    world.deploy()
    world.core.goals.delete("default")
    assert [type(action) for action in world.step()] == [KillReplica]
    world.end(world.started[0])
    assert not world.core.desired.applications


def test_deploying_over_a_deletion_brings_it_back(world):
    world.deploy()
    world.run_all()
    world.core.goals.delete("default")
    world.step()
    world.deploy()
    assert len(world.started) == 2
    world.run_all()
    assert world.state == "RUNNING"
    world.end(world.started[0])
    assert world.state == "RUNNING"


def test_an_application_that_is_being_deleted_can_be_deployed_again(world):
    world.deploy(deployment(code="app:V1"))
    world.run_all()
    old = world.started[0]
    world.core.goals.delete("default")
    world.step()
    assert world.state == "DELETING"
    world.deploy(deployment(code="app:V1"))
    world.run_all()
    assert world.state == "RUNNING"
    assert world.routed() == world.started[1:]
    world.end(old)
    assert world.state == "RUNNING"


def test_gateways_hear_that_the_whole_instance_ends(world):
    world.deploy(deployment())
    world.run_all()
    assert not world.core.snapshot.ending
    world.core.end()
    world.run_all()
    assert world.core.snapshot.ending
    assert not world.core.snapshot.drain  # that comes when the applications have gone
