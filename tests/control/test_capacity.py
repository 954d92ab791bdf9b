"""target_capacity: a part of the replicas."""

import pytest

from fairlead.wire.errors import InvalidCallError
from fairlead_gateway.control.actions import DrainReplica
from fairlead_gateway.control.capacity import FULL, at_capacity, part_of
from tests.control.application_specs import application, deployment
from tests.control.test_autoscaling import settings
from tests.control.world import World, calls, scaled


@pytest.mark.parametrize(
    ("replicas", "percent", "part"),
    [(10, 100, 10), (10, 50, 5), (10, 1, 1), (5, 50, 3), (3, 50, 2), (1, 10, 1), (0, 50, 0), (10, 0, 0), (7, 33.3, 2)],
)
def test_a_part_of_so_many(replicas, percent, part):
    assert part_of(replicas, percent) == part


def test_all_of_it_is_the_same():
    whole = deployment(num_replicas=4)
    assert at_capacity(whole, FULL) is whole


def test_bounds_are_scaled_alike():
    whole = deployment(num_replicas=4, autoscaling=settings(min_replicas=2, max_replicas=10))
    part = at_capacity(whole, 30).settings
    assert (part.num_replicas, part.autoscaling.min_replicas, part.autoscaling.max_replicas) == (1, 1, 3)
    assert whole.settings.autoscaling.max_replicas == 10


def at(world, percent, *deployments):
    spec = application(*deployments)
    if percent is not None:
        spec.target_capacity = percent
    world.accept(spec)
    return world.step()


def test_it_changes_without_a_restart():
    world = World()
    at(world, 50, deployment(num_replicas=4))
    world.run_all()
    assert (world.state, len(world.started)) == ("RUNNING", 2)
    assert world.status.target_capacity == 50
    at(world, None, deployment(num_replicas=4))
    world.run_all()
    assert (world.state, len(world.started), len(world.routed())) == ("RUNNING", 4, 4)
    assert not world.status.HasField("target_capacity")
    actions = at(world, 25, deployment(num_replicas=4))
    assert len([action for action in actions if isinstance(action, DrainReplica)]) == 3


def test_nothing_runs_at_zero_and_callers_are_told_why():
    world = World()
    at(world, 0, deployment(num_replicas=4))
    assert (world.state, world.started) == ("RUNNING", [])
    assert "target_capacity is 0" in world.routes().unavailable_message
    at(world, 100, deployment(num_replicas=4))
    world.run_all()
    assert (len(world.routed()), world.routes().unavailable_message) == (4, "")


def test_what_scales_by_itself_keeps_within_its_part():
    world = World()
    at(world, 50, scaled(max_replicas=4))
    assert calls(world, 50)
    world.step(10)
    assert len(world.started) == 2
    at(world, 0, scaled(max_replicas=4))
    world.step(10)
    assert world.routed() == []


def test_what_is_no_part_is_refused():
    for percent in (-1, 101, float("nan")):
        with pytest.raises(InvalidCallError, match="target_capacity must be between 0 and 100"):
            at(World(), percent, deployment())
