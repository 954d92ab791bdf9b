"""What a deploy that fails goes back to: the last good version keeps its number of replicas."""

from __future__ import annotations

import pytest

from fairlead.v1 import control_pb2
from fairlead_gateway.control.observed import Phase
from fairlead_gateway.control.store import MemoryStore
from tests.control.application_specs import application, deployment
from tests.control.test_adoption import Controller, ran
from tests.control.world import World, calls, scaled


def good(**changes) -> control_pb2.DeploymentSpec:
    return deployment(code="app:Good", **changes)


def bad(**changes) -> control_pb2.DeploymentSpec:
    return deployment(code="app:Bad", max_constructor_retry_count=1, **changes)


FIVE_CALLS = [control_pb2.DeploymentLoad(application="default", deployment="Echo", ongoing=5)]

UP_TO_FIVE = scaled(min_replicas=1, max_replicas=5, upscale_delay_s=30).settings.autoscaling


def failed(*deployments: control_pb2.DeploymentSpec) -> World:
    """A world in which an update has failed after that ran."""
    world = World()
    world.deploy(*deployments)
    world.run_all()
    world.deploy(bad())
    world.fail(world.started[-1], "ValueError: bad")
    assert world.state == "DEPLOY_FAILED"
    return world


def code_of(world: World, replica_id: str) -> str:
    return world.core.events.assignment(replica_id, "/r").deployment.import_path


def test_a_replica_that_dies_after_a_failed_update_is_replaced_by_one_of_the_old_code() -> None:
    world = failed(good(num_replicas=2))
    first, second, _ = world.started
    world.end(first)
    world.step(0.2)
    assert len(world.started) == 4
    assert code_of(world, world.started[-1]) == "app:Good"
    world.run_all()
    assert world.routed() == [second, world.started[-1]]
    assert world.state == "DEPLOY_FAILED", "until something else is deployed"
    assert "ValueError: bad" in world.status.message
    assert "What ran before is kept running." in world.status.message
    assert "died" not in world.status.message
    assert (world.deployment_state, world.status.deployments[0].target_replicas) == ("DEPLOY_FAILED", 2)


def test_calls_wait_for_the_replacement() -> None:
    world = failed(good())
    world.end(world.started[0])
    assert world.routed() == []
    assert world.routes().unavailable_message == ""


def test_an_old_replica_that_cannot_start_again_is_tried_for_ever() -> None:
    world = failed(good())
    world.end(world.started[0])
    for attempt in range(1, 8):
        world.step(20)
        assert len(world.started) == 2 + attempt
        world.fail(world.started[-1], "ImportError: gone")
    assert "ValueError: bad" in world.status.message
    assert "What ran before cannot be started again. Error:\nImportError: gone" in world.status.message
    world.step(20)
    world.run_all()
    assert world.routed() == [world.started[-1]]
    assert "ImportError" not in world.status.message


def test_the_failed_deploy_is_tried_again_when_it_is_deployed_again() -> None:
    world = failed(good())
    world.deploy(bad())
    assert code_of(world, world.started[-1]) == "app:Bad"
    world.run_all()
    world.step(1)
    assert (world.state, world.routed()) == ("RUNNING", world.started[-1:])


def test_one_that_never_ran_completely_is_nothing_to_go_back_to() -> None:
    world = World()
    world.deploy(good(num_replicas=2))
    world.make_ready(world.started[0])
    world.deploy(bad(num_replicas=2))
    world.fail(world.started[-1])
    assert (world.state, world.routed()) == ("DEPLOY_FAILED", world.started[:1])
    world.end(world.started[0])
    assert world.step(100) == []
    assert world.routes().unavailable_message
    assert "kept running" not in world.status.message


def test_as_many_as_were_last_asked_for() -> None:
    world = World()
    world.deploy(good())
    world.run_all()
    world.deploy(good(num_replicas=3))
    world.deploy(bad(num_replicas=3))
    world.fail(world.started[-1])
    world.step(1)
    assert world.status.deployments[0].target_replicas == 3


def test_settings_that_were_refused_are_taken_back() -> None:
    world = World()
    world.deploy(good(user_config=b"1"))
    world.run_all()
    world.deploy(good(user_config=b"2"))
    world.core.events.reconfigured(world.started[0], "KeyError: 2")
    (action,) = world.step()
    assert action.settings.user_config == b"1"
    world.core.events.reconfigured(world.started[0], "")
    world.step()
    assert world.state == "DEPLOY_FAILED"
    assert "KeyError: 2" in world.status.message
    world.end(world.started[0])
    world.step(0.2)
    assert world.core.events.assignment(world.started[-1], "/r").deployment.settings.user_config == b"1"


def test_what_an_update_removes_is_kept_until_the_update_is_complete() -> None:
    world = World()
    world.deploy(deployment("Ingress"), deployment("Model"))
    world.run_all()
    ingress, model = world.started
    world.core.desired.applications["default"].spec.environment.variables["A"] = "old"
    world.deploy(bad(), route_prefix="/new")
    world.fail(world.started[-1])
    assert world.state == "DEPLOY_FAILED"
    world.end(model)
    world.step(0.2)
    assert [one.rpartition("#")[0] for one in world.started[3:]] == ["default#Model"]
    assignment = world.core.events.assignment(world.started[-1], "/r")
    assert assignment.environment.variables["A"] == "old"
    assert assignment.route_prefix == "/", "where it is mounted"
    world.run_all()
    assert (world.routed("Ingress"), world.routed("Model")) == ([ingress], world.started[-1:])
    world.deploy(deployment())
    world.run_all()
    assert world.state == "RUNNING"
    assert all(replica.phase is Phase.STOPPING for replica in world.core.observed.replicas_of("default", "Model"))
    world.end(ingress)
    world.end(world.started[3])
    assert (world.state, len(world.started)) == ("RUNNING", 5), "nobody needs them any more"


def test_what_slept_wakes_as_it_was() -> None:
    """The update could only be found out when a call woke it."""
    world = World()
    world.deploy(scaled())
    calls(world, 1)
    world.step()
    world.run_all()
    calls(world, 0)
    world.step(2)
    world.step(2)
    world.end(world.started[0])
    after = scaled()
    after.import_path = "app:Bad"
    world.deploy(after)
    assert calls(world, 1)
    for _ in range(3):
        world.step(1)
        world.fail(world.started[-1], "ValueError: bad")
    world.step(1)
    assert world.state == "DEPLOY_FAILED"
    assert code_of(world, world.started[-1]) == "app:Echo"
    world.run_all()
    assert world.routed() == world.started[-1:]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def fail(controller: Controller) -> None:
    name = controller.started[-1]
    controller.core.events.lease_taken(name)
    controller.core.events.failed(name, "ValueError: bad", controller.now)
    controller.core.events.process_ended(name, "it ended", controller.now)
    controller.step()


@pytest.mark.parametrize("failed_before", [True, False])
def test_the_next_controller_goes_back_to_the_same(store: MemoryStore, failed_before: bool) -> None:
    first = ran(store, good(num_replicas=2))
    first.deploy(bad(num_replicas=2))
    if failed_before:
        fail(first)
    hellos = [hello for hello in first.hellos() if hello.running.address]
    second = Controller(store)
    assert second.adopt(hellos[0])
    second.step()
    if not failed_before:
        fail(second)
        second.step(1)
    progress = second.core.observed.progress["default", "Echo"]
    assert "ValueError: bad" in progress.failure
    new = second.core.events.assignment(second.started[-1], "/r").deployment
    assert new.import_path == "app:Good"
    second.make_ready()
    assert len(second.routed) == 2


def test_the_next_controller_keeps_what_an_update_removes(store: MemoryStore) -> None:
    first = ran(store, good(), deployment("Model"))
    first.deploy(bad())
    fail(first)
    second = Controller(store)
    for hello in first.hellos():
        if hello.running.deployment == "Echo":
            second.adopt(hello)
    second.step()
    assert [one.rpartition("#")[0] for one in second.started] == ["default#Model"]
    second.make_ready()
    assert len(second.routed) == 2


def test_what_ran_well_is_not_given_up_after_a_restart_of_everything(store: MemoryStore) -> None:
    """Nothing of it runs any more, and what it needs may take longer to come up."""
    ran(store, good(max_constructor_retry_count=1))
    second = Controller(store)
    second.step()
    for _ in range(3):
        fail(second)
        second.step(20)
    assert not second.core.observed.progress["default", "Echo"].failed
    second.make_ready()
    assert len(second.routed) == 1


def test_what_was_removed_for_good_is_forgotten(store: MemoryStore) -> None:
    first = ran(store, good(), deployment("Model"))
    first.deploy(good())
    first.step(1)
    for replica in list(first.core.observed.replicas_of("default", "Model")):
        first.core.events.process_ended(replica.replica_id, "it ended", first.now)
    first.step()
    assert list(first.core.standings["default"].proven) == ["Echo"]


def written_down(first: Controller, *deployments: control_pb2.DeploymentSpec) -> None:
    """A deploy by a controller that is killed before anything has followed from it."""
    first.persistence.deploying(first.core.desired.prepare([application(*deployments)], 1.0))


def test_a_controller_is_killed_as_soon_as_it_has_written_a_deploy_down(store: MemoryStore) -> None:
    first = ran(store, good(num_replicas=2), deployment("Model"))
    written_down(first, bad(num_replicas=2))
    second = Controller(store)
    for hello in first.hellos():
        assert second.adopt(hello)
    second.step()
    assert len(second.routed) == 3, "what an update removes serves on"
    fail(second)
    second.step(1)
    assert "ValueError: bad" in second.core.observed.progress["default", "Echo"].failure
    assert second.core.desired.applications["default"].deployments["Echo"].spec.import_path == "app:Good"
    assert len(second.routed) == 3


def test_the_same_after_a_deploy_that_has_failed(store: MemoryStore) -> None:
    first = ran(store, good())
    first.deploy(bad())
    fail(first)
    written_down(first, deployment(code="app:Better"))
    second = Controller(store)
    for hello in first.hellos():
        if hello.running.address:
            second.adopt(hello)
    second.step()
    assert not second.core.observed.progress["default", "Echo"].failed
    assert second.core.events.assignment(second.started[-1], "/r").deployment.import_path == "app:Better"


def busy(store: MemoryStore) -> Controller:
    """A controller with five replicas, as many as their calls ask for, and what is the version after them."""
    first = ran(store, good(autoscaling=UP_TO_FIVE))
    first.core.gateway_loads("gateway-0", FIVE_CALLS, first.now)
    first.step()
    first.step(100)
    first.make_ready()
    assert len(first.routed) == 5
    return first


def test_the_same_with_what_follows_the_calls(store: MemoryStore) -> None:
    first = busy(store)
    written_down(first, bad(autoscaling=UP_TO_FIVE))
    second = Controller(store)
    for hello in first.hellos():
        second.adopt(hello)
    second.core.gateway_loads("gateway-0", FIVE_CALLS, second.now)
    second.step()
    fail(second)
    assert "ValueError: bad" in second.core.observed.progress["default", "Echo"].failure
    second.step(1)
    assert len(second.routed) == 5


@pytest.mark.parametrize("after", [UP_TO_FIVE, None])
def test_what_an_update_fails_with_before_the_next_controller_decides_stops_no_replica(
    store: MemoryStore, after: control_pb2.AutoscalingSettings | None
) -> None:
    first = busy(store)
    first.deploy(bad(num_replicas=1, autoscaling=after))
    second = Controller(store)
    for hello in first.hellos():
        second.adopt(hello)
    second.core.events.process_ended(first.started[-1], "it ended", second.now)
    second.core.gateway_loads("gateway-0", FIVE_CALLS, second.now)
    second.step()
    assert second.core.observed.progress["default", "Echo"].failed
    assert len(second.routed) == 5
