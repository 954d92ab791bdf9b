"""Rolling updates, one decision at a time: a fleet of replicas that do as they are told."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import DeploymentGoal
from fairlead_gateway.control.observed import Phase, Progress, Replica
from fairlead_gateway.control.rollout import kind_of_change, plan
from tests.control.application_specs import deployment


class Fleet:
    """The replicas of one deployment. Stopped ones are gone at once; started ones wait to be made ready."""

    def __init__(self, **settings):
        self.replicas = []
        self.numbers = itertools.count()
        self.most = 0
        """The most replicas that there were at once."""
        self.fewest = 1000
        """The fewest that served at once since the last update began."""
        self.now = 0.0
        self.update("v1", **settings)
        self.settle()

    def update(self, version, **settings):
        self.goal = DeploymentGoal(application="app", spec=deployment(**settings), code_version=version)
        self.progress = Progress(generation=1, code_version=version)
        self.most, self.fewest = len(self.replicas), len(self.serving())

    def serving(self, version=None):
        return [one for one in self.replicas if one.phase is Phase.RUNNING and version in (None, one.code_version)]

    def starting(self):
        return [one for one in self.replicas if one.phase is Phase.STARTING]

    def step(self):
        step = plan(self.goal, self.progress, self.replicas, self.now)
        gone = {id(replica) for replica, _ in step.stop}
        self.replicas = [one for one in self.replicas if id(one) not in gone]
        for replica in step.reconfigure:
            replica.reconfiguring = True
            replica.settings = self.goal.spec.settings
        for _ in range(step.start):
            replica = Replica(
                replica_id=f"r{next(self.numbers)}",
                application="app",
                deployment="Echo",
                code_version=self.goal.code_version,
                settings=self.goal.spec.settings,
                started_at=self.now,
                leased=True,
            )
            self.replicas.append(replica)
        self.most = max(self.most, len(self.replicas))
        self.fewest = min(self.fewest, len(self.serving()))
        return step

    def make_ready(self, count=1000):
        for replica in self.starting()[:count]:
            replica.phase = Phase.RUNNING
            self.progress.started_once = True

    def settle(self, at_once=1000):
        """Steps, with replicas becoming ready so many at once, until nothing is to do."""
        for _ in range(1000):
            step = self.step()
            if not step.stop and not step.start and not self.starting():
                return
            self.make_ready(at_once)
        raise AssertionError("it never settles")


def versions(fleet):
    return sorted(replica.code_version for replica in fleet.serving())


def test_the_first_new_replica_starts_beside_the_old_ones():
    fleet = Fleet(num_replicas=10)
    fleet.update("v2", num_replicas=10)
    step = fleet.step()
    assert (step.start, step.stop) == (1, [])
    assert fleet.step().start == 0


def test_an_update_replaces_no_more_at_a_time_than_the_percentage_says():
    fleet = Fleet(num_replicas=10)
    fleet.update("v2", num_replicas=10, rolling_update_percentage=0.3)
    fleet.settle()
    assert versions(fleet) == ["v2"] * 10
    assert fleet.fewest == 8, "three are replaced at a time, one of them beside the old ones"
    assert fleet.most == 11


def test_surge_replaces_without_a_gap():
    fleet = Fleet(num_replicas=10)
    fleet.update("v2", num_replicas=10, rolling_update_percentage=0.2, max_surge_percent=20)
    fleet.settle()
    assert versions(fleet) == ["v2"] * 10
    assert (fleet.fewest, fleet.most) == (10, 12)


def test_a_full_surge_starts_all_of_them_beside_the_old_ones():
    fleet = Fleet(num_replicas=4)
    fleet.update("v2", num_replicas=4, max_surge_percent=100)
    assert fleet.step().start == 4
    fleet.make_ready(3)
    fleet.settle()
    assert (fleet.fewest, fleet.most) == (4, 8)


def test_one_replica_is_replaced_without_an_outage():
    fleet = Fleet(num_replicas=1)
    fleet.update("v2", num_replicas=1)
    fleet.settle()
    assert versions(fleet) == ["v2"]
    assert (fleet.fewest, fleet.most) == (1, 2)


def test_a_release_that_cannot_start_leaves_all_the_old_ones_serving():
    fleet = Fleet(num_replicas=5)
    fleet.update("bad", num_replicas=5, rolling_update_percentage=1.0)
    for _ in range(3):
        fleet.step()
        (failing,) = fleet.starting()
        fleet.replicas.remove(failing)
    fleet.progress.failed = True
    assert fleet.step().start == 0
    assert versions(fleet) == ["v1"] * 5


def test_an_update_that_begins_to_fail_goes_no_further():
    fleet = Fleet(num_replicas=10)
    fleet.update("v2", num_replicas=10)
    fleet.step()
    fleet.make_ready()
    for _ in range(20):
        fleet.step()
        for failing in fleet.starting():
            fleet.replicas.remove(failing)
    assert versions(fleet).count("v1") == 8
    assert len(fleet.serving()) == 9


def test_a_release_that_shrinks_keeps_the_old_ones_until_the_new_one_is_proven():
    fleet = Fleet(num_replicas=6)
    fleet.update("v2", num_replicas=2)
    assert fleet.step().stop == []
    fleet.settle()
    assert versions(fleet) == ["v2"] * 2


def test_a_return_to_the_old_code_needs_no_new_replicas():
    fleet = Fleet(num_replicas=3)
    fleet.update("v2", num_replicas=3)
    fleet.step()
    fleet.update("v1", num_replicas=3)
    step = fleet.step()
    assert step.start == 0
    assert [reason for _, reason in step.stop] == ["replaced by an update"]
    assert versions(fleet) == ["v1"] * 3


def test_nothing_of_the_old_code_stays_where_nothing_is_wanted():
    fleet = Fleet(num_replicas=2)
    fleet.update("v2", num_replicas=0)
    fleet.settle()
    assert fleet.replicas == []


def test_settings_are_tried_on_one_replica_first():
    fleet = Fleet(num_replicas=4)
    fleet.update("v1", num_replicas=4, max_ongoing_requests=9)
    (first,) = fleet.step().reconfigure
    assert fleet.step().reconfigure == []
    first.reconfiguring = False
    assert len(fleet.step().reconfigure) == 3
    assert fleet.step().reconfigure == []


def test_settings_that_only_the_controller_acts_on_are_sent_to_nobody():
    fleet = Fleet(num_replicas=2)
    fleet.update("v1", num_replicas=3, max_surge_percent=50, rolling_update_percentage=0.5, max_queued_requests=7)
    assert fleet.step().reconfigure == []


def test_those_without_calls_go_first_and_of_them_the_youngest():
    fleet = Fleet(num_replicas=4)
    oldest, old, young, youngest = fleet.replicas
    oldest.ongoing = young.ongoing = 1
    fleet.update("v1", num_replicas=3)
    assert [replica for replica, _ in fleet.step().stop] == [youngest]
    fleet.update("v1", num_replicas=1)
    assert [replica for replica, _ in fleet.step().stop] == [young, old]
    assert fleet.replicas == [oldest]


@given(
    before=st.integers(1, 20),
    after=st.integers(1, 20),
    percentage=st.floats(0.01, 1.0),
    surge=st.integers(0, 100),
    at_once=st.integers(1, 5),
)
def test_every_update_ends_and_keeps_within_its_bounds(before, after, percentage, surge, at_once):
    fleet = Fleet(num_replicas=before)
    fleet.update("v2", num_replicas=after, rolling_update_percentage=percentage, max_surge_percent=surge)
    fleet.settle(at_once)
    assert versions(fleet) == ["v2"] * after
    batch = max(1, int(after * percentage))
    beside = max(1, -(-after * surge // 100))
    assert fleet.fewest >= min(before, after - max(0, batch - beside))
    assert fleet.most <= max(before, after) + beside


@pytest.mark.parametrize(("before", "after", "kind"), [(1, 3, "UPSCALING"), (3, 1, "DOWNSCALING"), (2, 2, "UPDATING")])
def test_the_kind_of_a_change(before, after, kind):
    goals = [
        DeploymentGoal(application="app", spec=deployment(num_replicas=count), code_version="v1")
        for count in (before, after)
    ]
    assert control_pb2.DeploymentState.Name(kind_of_change(*goals)) == f"DEPLOYMENT_STATE_{kind}"
