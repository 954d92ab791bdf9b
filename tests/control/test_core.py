"""From a deploy to replicas that run: starts, failures, restarts, and replicas that are silent."""

import pytest

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.control.actions import DrainReplica, KillReplica, StartReplica
from fairlead_gateway.control.core import LEASE_GRACE_S
from fairlead_gateway.control.silence import LOOK_S
from tests.control.application_specs import deployment
from tests.control.world import calls, scaled


def test_a_deploy_starts_as_many_replicas_as_wanted(world):
    world.deploy(deployment(num_replicas=3))
    assert len(world.started) == 3
    assert all(replica_id.startswith("default#Echo#") for replica_id in world.started)
    assert world.state == "DEPLOYING"
    assert world.step() == []


def test_an_application_runs_when_gateways_route_to_all_of_its_replicas(world):
    world.acknowledging = False
    world.deploy(deployment(num_replicas=2))
    world.make_ready(world.started[0])
    world.step()
    world.acknowledge()
    world.step()
    assert world.state == "DEPLOYING"
    assert world.core.snapshot.applications[0].serving is False
    world.make_ready(world.started[1])
    world.step()
    assert world.state == "DEPLOYING"
    assert world.core.snapshot.applications[0].serving is True
    world.acknowledge()
    world.step()
    assert world.state == "RUNNING"
    assert world.routed() == world.started


def test_nothing_runs_without_a_gateway(world):
    world.core.gateway_lost("gateway-0")
    world.acknowledging = False
    world.deploy()
    world.run_all()
    assert world.state == "DEPLOYING"
    world.acknowledge()
    world.step()
    assert world.state == "RUNNING"


def test_a_replica_that_dies_is_replaced_with_backoff(world):
    world.deploy()
    world.run_all()
    for delay in (0.1, 0.2, 0.4):
        count = len(world.started)
        world.end(world.started[-1])
        assert world.state == "UNHEALTHY"
        assert "died" in world.status.message
        assert len(world.started) == count
        assert world.core.due == pytest.approx(world.now + delay)
        world.step(delay)
        assert len(world.started) == count + 1
        world.run_all()
        assert world.state == "RUNNING"
        assert world.status.message == ""


def test_backoff_starts_over_after_a_calm_while(world):
    world.deploy()
    world.run_all()
    world.end(world.started[-1])
    world.step(0.1)
    world.run_all()
    world.now += 60
    world.end(world.started[-1])
    assert world.core.due == pytest.approx(world.now + 0.1)


def test_constructor_failures_end_a_deploy(world):
    world.deploy(deployment(num_replicas=1, max_constructor_retry_count=20))
    for attempt in range(1, 4):
        assert len(world.started) == attempt
        world.fail(world.started[-1], "Traceback: ValueError: no")
        world.step(10)
    assert len(world.started) == 3
    assert world.state == "DEPLOY_FAILED"
    assert "3 times in a row" in world.status.message
    assert "Traceback: ValueError: no" in world.status.message
    assert "failed to deploy" in world.routes().unavailable_message
    assert "Traceback" not in world.routes().unavailable_message
    assert world.step(100) == []


def test_fewer_retries_if_so_configured(world):
    world.deploy(deployment(num_replicas=4, max_constructor_retry_count=1))
    actions = world.fail(world.started[0])
    assert world.state == "DEPLOY_FAILED"
    assert {action.replica_id for action in actions if isinstance(action, KillReplica)} == set(world.started[1:])


def test_a_process_that_ends_before_it_is_ready_counts_as_a_failure(world):
    world.deploy(deployment(max_constructor_retry_count=1))
    world.core.events.process_ended(world.started[0], "it ended with signal 11 (SIGSEGV).", world.now)
    world.step()
    assert world.state == "DEPLOY_FAILED"
    assert "SIGSEGV" in world.status.message


def test_failures_after_a_success_are_retried_for_ever(world):
    world.deploy()
    world.run_all()
    world.end(world.started[-1])
    for _ in range(10):
        world.step(10)
        world.fail(world.started[-1])
        assert world.state == "UNHEALTHY"
    world.step(10)
    world.run_all()
    assert world.state == "RUNNING"


def test_three_failed_health_checks_replace_a_replica(world):
    world.deploy()
    world.run_all()
    sick = world.started[0]
    assert world.core.events.reported(sick, replica_pb2.ReplicaReport(failed_health_checks=2))
    assert world.step() == []
    world.core.events.reported(sick, replica_pb2.ReplicaReport(failed_health_checks=3, health_message="no GPU"))
    actions = world.step()
    assert [type(action) for action in actions] == [StartReplica, DrainReplica]
    assert world.routed() == []
    assert "no GPU" in world.status.message


def test_a_lost_lease_is_forgiven_for_a_while(world):
    world.deploy()
    world.run_all()
    world.core.events.lease_lost(world.started[0], world.now)
    assert world.step(LEASE_GRACE_S - 1) == []
    world.core.events.lease_taken(world.started[0])
    assert world.step(LEASE_GRACE_S) == []
    world.core.events.lease_lost(world.started[0], world.now)
    actions = world.step(LEASE_GRACE_S)
    assert KillReplica(replica_id=world.started[0], reason="lost its lease") in actions


def test_an_unknown_replica_gets_no_assignment(world):
    with pytest.raises(FairleadError, match="not wanted"):
        world.core.events.assignment("default#Echo#xxxxxx", "/r")


def test_events_of_replicas_that_are_gone_are_ignored(world):
    world.core.events.ready("x", "unix:/x", 1.0)
    world.core.events.failed("x", "", 1.0)
    world.core.events.drained("x", 1.0)
    world.core.events.reconfigured("x", "")
    world.core.events.lease_lost("x", 1.0)
    world.core.events.process_ended("x", "", 1.0)
    assert world.step() == []


def test_an_application_without_replicas_runs_and_wakes_when_it_is_called(world):
    world.deploy(scaled())
    assert (world.state, world.deployment_state, world.started) == ("RUNNING", "HEALTHY", [])
    assert world.routes().autoscaled
    assert calls(world, 2)
    world.step()
    assert len(world.started) == 2
    assert (world.state, world.deployment_state) == ("RUNNING", "UPSCALING")
    assert world.status.deployments[0].trigger == control_pb2.DEPLOYMENT_TRIGGER_AUTOSCALING
    world.run_all()
    assert (world.state, world.deployment_state) == ("RUNNING", "HEALTHY")
    calls(world, 0)
    world.step(2.0)
    world.step(2.0)
    for replica_id in world.started:
        world.end(replica_id)
    assert world.routed() == []
    assert (world.state, world.deployment_state) == ("RUNNING", "HEALTHY")
    assert calls(world, 1)
    world.step()
    assert len(world.started) == 3


def test_what_cannot_start_when_it_is_called_fails_the_deploy(world):
    world.deploy(scaled())
    calls(world, 1)
    world.step()
    for _ in range(3):
        world.fail(world.started[-1])
        world.step(1.0)
    assert world.state == "DEPLOY_FAILED"
    assert world.routes().unavailable_message


def test_a_frozen_replica_gets_no_calls_and_is_replaced_if_it_stays_so(world):
    world.deploy(deployment(num_replicas=2))
    world.run_all()
    well, frozen = world.started
    for _ in range(12):
        world.step(0.25)
        world.core.events.heard(well, world.now)
    assert world.routed() == [well]
    assert (world.state, world.deployment_state) == ("UNHEALTHY", "UNHEALTHY")
    assert "no sign of life" in world.status.message
    assert world.core.events.heard(frozen, world.now)
    world.step()
    assert world.routed() == [well, frozen]
    assert world.state == "RUNNING"
    killed = []
    for _ in range(160):
        killed += [action.replica_id for action in world.step(0.25) if isinstance(action, KillReplica)]
        world.core.events.heard(well, world.now)
    assert killed == [frozen]
    assert len(world.started) == 3


def test_a_constructor_that_takes_long_is_told(world):
    world.deploy()
    world.step(29.0)
    assert world.status.message == ""
    world.step(2.0)
    assert "starting for more than 30 s" in world.status.message
    assert world.started[0] in world.status.message
    world.run_all()
    assert (world.state, world.status.message) == ("RUNNING", "")


def test_a_look_between_decisions_finds_the_frozen(world):
    world.deploy(deployment(num_replicas=2))
    world.run_all()
    well = world.started[0]
    assert world.core.look_due == world.now + LOOK_S
    assert world.core.due is None
    found = []
    for _ in range(12):
        world.now += LOOK_S
        world.core.events.heard(well, world.now)
        found.append(world.core.look(world.now))
    assert found.count(True) == 1
    world.step()
    assert world.routed() == [well]
    assert world.core.look_due is not None
    for replica_id in world.started:
        world.core.events.lease_lost(replica_id, world.now)
    world.step()
    assert world.core.look_due is None


def test_a_look_between_decisions_follows_the_calls(world):
    world.deploy(scaled())
    assert world.core.look_due is not None
    calls(world, 1)
    world.step()
    world.run_all()
    assert not world.core.look(world.now + 0.25)
    calls(world, 3)
    world.now += 2.0
    assert world.core.look(world.now)
    world.step()
    assert len(world.started) == 3
    world.run_all()
    assert not world.core.look(world.now + 0.25)
