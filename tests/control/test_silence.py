import pytest

from fairlead_gateway.control.observed import Phase, Replica
from fairlead_gateway.control.silence import LOOK_S, Listener, heard
from tests.control.application_specs import settings


class World:
    """A listener, a replica that reports or not, and how much processor time it uses."""

    def __init__(self, **changes):
        self.now = 100.0
        self.used = 7.0
        self.listener = Listener(lambda pid: self.used)
        self.replica = Replica(
            replica_id="r",
            application="app",
            deployment="Echo",
            code_version="v",
            settings=settings(health_check_timeout_s=8.0, **changes),
            started_at=0.0,
            phase=Phase.RUNNING,
            leased=True,
        )

    def run(self, seconds, *, reports=False, uses=0.0):
        """Lets time pass; what was said to be replaced."""
        lost = []
        for _ in range(int(seconds / LOOK_S)):
            self.now += LOOK_S
            if self.used is not None:
                self.used += uses * LOOK_S
            if reports:
                heard(self.replica, self.now)
            lost += self.listener.look([self.replica], self.now)
        return lost


@pytest.fixture
def world():
    return World()


def test_who_reports_is_well(world):
    assert world.run(60, reports=True) == []
    assert not world.replica.silent


def test_a_frozen_replica_leaves_the_rotation_within_three_seconds(world):
    world.run(10, reports=True)
    world.run(1.5)
    assert not world.replica.silent
    world.run(1)
    assert world.replica.silent


def test_it_returns_with_its_next_report(world):
    world.run(1, reports=True)
    world.run(5)
    assert world.replica.silent
    assert heard(world.replica, world.now)
    assert not world.replica.silent
    assert world.run(1.5) == []


def test_it_is_replaced_when_that_lasts(world):
    world.run(1, reports=True)
    assert world.run(7) == []
    assert world.run(2)[0] is world.replica


def test_a_replica_that_works_without_reporting_is_left_alone(world):
    """A method holds the interpreter's lock."""
    world.run(1, reports=True)
    assert world.run(60, uses=0.9) == []
    assert not world.replica.silent


def test_one_that_comes_back_by_working_is_not_frozen(world):
    world.run(1, reports=True)
    world.run(5)
    world.run(1, uses=0.5)
    assert not world.replica.silent


def test_reports_alone_count_where_the_processor_time_is_not_to_be_found_out(world):
    world.used = None
    world.run(1, reports=True)
    world.run(3)
    assert world.replica.silent


def test_a_controller_that_was_frozen_itself_blames_nobody(world):
    world.run(1, reports=True)
    world.now += 3600
    assert world.run(1) == []
    assert not world.replica.silent


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STOPPING])
def test_constructors_may_be_silent_and_so_may_those_that_end(world, phase):
    world.replica.phase = phase
    assert world.run(60) == []
    assert not world.replica.silent


def test_a_lost_lease_is_another_matter(world):
    world.replica.leased = False
    assert world.run(60) == []
