"""A controller takes over what another has left: pure, with a fake clock."""

import dataclasses
import random

import pytest

from fairlead.v1 import control_pb2, replica_pb2, store_pb2
from fairlead.wire.errors import DeployFailedError
from fairlead_gateway.control.actions import DrainReplica, StartReplica
from fairlead_gateway.control.adoption import VERSIONS_PER_START, Recovery
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.observed import GatewayView, Phase
from fairlead_gateway.control.persistence import APPLICATION, STANDING, Persistence
from fairlead_gateway.control.store import MemoryStore, StoreError
from tests.control.application_specs import application, deployment


class Controller:
    """A core and what it writes down, without processes."""

    def __init__(self, store):
        self.core = Core(randomness=random.Random(len(store.read("counter"))), gateways=1)
        self.persistence = Persistence(store)
        self.persistence.restore(self.core)
        self.now = 1000.0
        self.started = []

    def deploy(self, *deployments, **changes):
        spec = application(*deployments, **changes)
        goals = self.core.desired.prepare([spec], 1.0)
        self.persistence.deploying(goals)
        self.core.goals.accept(goals[0])
        return self.step()

    def step(self, seconds=0.0):
        self.now += seconds
        actions = []
        for _ in range(3):
            actions += self.core.reconcile(self.now)
            self.core.gateway_said(
                GatewayView(
                    gateway_id="gateway-0",
                    pid=1,
                    applied_version=self.core.snapshot.version,
                    trusted_address="",
                    grpc_address="",
                    http_address="",
                )
            )
        self.persistence.follow(self.core)
        self.started += [action.replica_id for action in actions if isinstance(action, StartReplica)]
        return actions

    def make_ready(self):
        for replica in list(self.core.observed.replicas.values()):
            if replica.phase is Phase.STARTING:
                self.core.events.assignment(replica.replica_id, "/r")
                self.core.events.lease_taken(replica.replica_id)
                self.core.events.ready(replica.replica_id, f"wire:/{replica.replica_id}", self.now)
        return self.step()

    def hellos(self):
        """What the replicas of this controller say to another one."""
        return [
            replica_pb2.ReplicaHello(
                replica_id=replica.replica_id,
                pid=7,
                running=replica_pb2.ReplicaRunning(
                    application=replica.application,
                    deployment=replica.deployment,
                    code_version=replica.code_version,
                    settings=replica.settings,
                    address=replica.address,
                    draining=replica.phase is Phase.STOPPING,
                ),
            )
            for replica in self.core.observed.replicas.values()
        ]

    def adopt(self, hello):
        taken = self.core.events.adopt(hello, self.now)
        if taken:
            self.core.events.lease_taken(hello.replica_id)
        return taken

    @property
    def offered(self):
        """The HTTP routes that gateways are told of."""
        (application,) = self.core.snapshot.applications
        return list(application.deployments[0].interface.http_routes)

    @property
    def routed(self):
        """The replicas that gateway workers are told of."""
        return sorted(
            replica.replica_id
            for one in self.core.snapshot.applications
            for part in one.deployments
            for replica in part.replicas
        )


@pytest.fixture
def store():
    return MemoryStore()


def ran(store, *deployments):
    """A controller that has run a while."""
    first = Controller(store)
    first.deploy(*(deployments or (deployment(num_replicas=2),)))
    first.make_ready()
    return first


def test_nothing_is_started_and_nothing_is_lost(store):
    first = ran(store)
    second = Controller(store)
    for hello in first.hellos():
        assert second.adopt(hello)
    second.step()
    assert second.started == []
    assert second.routed == first.routed
    assert second.core.desired.generation == first.core.desired.generation
    assert second.core.standings["default"].serving
    assert second.core.standings["default"].running


def test_versions_of_snapshots_go_on_above(store):
    first = ran(store)
    second = Controller(store)
    second.step()
    assert first.core.snapshot.version < 2 * VERSIONS_PER_START < second.core.snapshot.version


def test_what_ended_meanwhile_is_replaced(store):
    first = ran(store)
    second = Controller(store)
    second.adopt(first.hellos()[0])
    second.step()
    assert len(second.started) == 1
    assert second.routed == [first.hellos()[0].replica_id]


def test_an_update_that_was_under_way_goes_on(store):
    first = ran(store)
    after = deployment(code="app:New", num_replicas=2)
    after.interface.http_routes.add(path="/new", http_methods=["GET"], method="m")
    first.deploy(after)
    second = Controller(store)
    for hello in first.hellos():
        second.adopt(hello)
    second.step()
    assert set(first.routed) <= set(second.routed), "the old ones serve"
    assert not second.offered, "what the old ones do not offer"
    for _ in range(20):
        second.make_ready()
        for replica in list(second.core.observed.replicas.values()):
            if replica.phase is Phase.STOPPING:
                second.core.events.lease_lost(replica.replica_id, second.now)
                second.core.events.process_ended(replica.replica_id, "it ended", second.now)
        second.step(1.0)
    replicas = second.core.observed.replicas.values()
    goal = second.core.desired.applications["default"].deployments["Echo"]
    assert [replica.code_version for replica in replicas] == [goal.code_version] * 2
    assert [route.path for route in second.offered] == ["/new"]


def test_a_replica_that_was_not_told_yet_becomes_what_the_goal_says(store):
    first = Controller(store)
    first.deploy(deployment())
    (name,) = first.started
    second = Controller(store)
    assert second.adopt(replica_pb2.ReplicaHello(replica_id=name, pid=7))
    second.step()
    assert second.started == []
    second.make_ready()
    assert second.routed == [name]


def test_one_that_cannot_be_of_this_instance_is_refused(store):
    second = Controller(store)
    assert not second.adopt(replica_pb2.ReplicaHello(replica_id="other#Echo#abcdef", pid=7))
    assert not second.adopt(replica_pb2.ReplicaHello(replica_id="nonsense", pid=7))


def test_one_whose_application_is_gone_is_drained(store):
    first = ran(store, deployment())
    empty = Controller(MemoryStore())
    (hello,) = first.hellos()
    assert empty.adopt(hello)
    assert any(isinstance(action, DrainReplica) for action in empty.step())
    assert empty.routed == []


def test_one_that_drains_is_let_go(store):
    first = ran(store)
    first.deploy(deployment(num_replicas=1))
    hellos = first.hellos()
    assert [hello.running.draining for hello in hellos].count(True) == 1
    second = Controller(store)
    for hello in hellos:
        second.adopt(hello)
    assert second.step() != []
    assert second.started == []
    assert len(second.routed) == 1


def test_a_deploy_that_was_given_up_stays_given_up(store):
    first = Controller(store)
    first.deploy(deployment(max_constructor_retry_count=1))
    (name,) = first.started
    first.core.events.lease_taken(name)
    first.core.events.failed(name, "ValueError: no", first.now)
    first.core.events.process_ended(name, "it ended", first.now)
    first.step()
    second = Controller(store)
    second.step(100.0)
    assert second.started == []
    assert "ValueError: no" in second.core.observed.progress["default", "Echo"].failure


def test_traffic_and_the_size_that_autoscaling_has_chosen_stay(store):
    scaling = control_pb2.AutoscalingSettings(min_replicas=1, max_replicas=5, target_ongoing_requests=2)
    first = ran(store, deployment(autoscaling=scaling), deployment(name="Canary"))
    shares = [
        control_pb2.TrafficShare(deployment="Echo", share=0.5),
        control_pb2.TrafficShare(deployment="Canary", share=0.5),
    ]
    policy = control_pb2.TrafficPolicy(name="Echo", backends=shares)
    first.core.goals.spread("default", first.core.goals.with_traffic("default", policy))
    goal = first.core.desired.applications["default"]
    goal.deployments["Echo"] = dataclasses.replace(goal.deployments["Echo"], scaled=4)
    first.persistence.follow(first.core)
    second = Controller(store)
    assert second.core.desired.applications["default"].deployments["Echo"].target == 4
    assert dict(second.core.standings["default"].traffic) == {"Echo": first.core.standings["default"].traffic["Echo"]}


def test_traffic_is_written_down_with_the_application_that_it_is_deployed_with(store):
    first = Controller(store)
    goals = first.core.desired.prepare([application(deployment())], 1.0)
    policy = control_pb2.TrafficPolicy(name="e", backends=[control_pb2.TrafficShare(deployment="Echo", share=1.0)])
    traffic = first.core.goals.with_traffic("default", policy, goals=goals)
    first.persistence.deploying(goals, traffic={"default": traffic})
    assert Controller(store).core.standings["default"].traffic == traffic


def test_an_application_that_was_being_deleted_goes_on_going(store):
    first = ran(store, deployment())
    first.persistence.deploying([], [first.core.desired.applications["default"]])
    second = Controller(store)
    second.adopt(first.hellos()[0])
    second.step()
    assert second.routed == []
    second.core.events.process_ended(first.hellos()[0].replica_id, "it ended", second.now)
    second.step()
    assert second.core.desired.applications == {}
    assert store.read(APPLICATION) == store.read(STANDING) == {}


class FullDisk(MemoryStore):
    """A store that refuses everything from some time on."""

    full = False

    def write(self, *entries):
        if self.full:
            raise StoreError("the state in /s cannot be written: database or disk is full; free some space")
        super().write(*entries)


def test_what_cannot_be_written_down_is_refused():
    store = FullDisk()
    controller = ran(store)
    store.full = True
    before = dict(controller.core.desired.applications)
    with pytest.raises(DeployFailedError, match=r"Nothing was changed: .* disk is full; free some space"):
        controller.deploy(deployment(num_replicas=5))
    with pytest.raises(DeployFailedError, match="Nothing was changed"):
        controller.persistence.deploying([], [before["default"]])
    assert controller.core.desired.applications == before


def test_what_became_of_it_is_written_when_there_is_room_again(caplog):
    store = FullDisk()
    controller = Controller(store)
    controller.deploy(deployment())
    store.full = True
    controller.make_ready()
    controller.step()
    assert len([record for record in caplog.records if "disk is full" in record.getMessage()]) == 1
    assert not store_pb2.StandingRecord.FromString(store.read(STANDING)["default"]).serving
    store.full = False
    controller.step()
    assert store_pb2.StandingRecord.FromString(store.read(STANDING)["default"]).serving


def test_an_instance_that_is_stopped_keeps_what_was_deployed(store):
    controller = ran(store, deployment())
    controller.persistence.freeze()
    controller.core.desired.delete_all()
    controller.step()
    controller.core.events.process_ended(controller.started[0], "it ended", controller.now)
    controller.step()
    assert controller.core.desired.applications == {}
    assert Controller(store).core.desired.applications["default"].deleting is False


def test_recovery_ends_when_all_were_heard_of_or_the_time_is_up():
    recovery = Recovery(["a", "b"], deadline=10.0)
    assert not recovery.is_over(5.0)
    recovery.heard("a")
    recovery.heard("nobody")
    assert not recovery.is_over(9.9)
    assert recovery.is_over(10.0)
    recovery.heard("b")
    assert recovery.is_over(5.0)
    assert Recovery().is_over(0.0)
