import random

import pytest

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.errors import DeployFailedError, FairleadError, InvalidCallError
from fairlead_gateway.control.actions import DrainReplica, KillReplica, ReconfigureReplica, StartReplica
from fairlead_gateway.control.core import LEASE_GRACE_S, Core
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.silence import LOOK_S
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
        generation = self.core.goals.deploy(application(*deployments, **changes), 1.0)
        self.step()
        return generation

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


@pytest.fixture
def world():
    return World()


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


def test_a_drain_waits_until_gateways_no_longer_route_to_the_replica(world):
    world.deploy(deployment(num_replicas=2))
    world.run_all()
    world.acknowledging = False
    world.deploy(deployment(num_replicas=1))
    assert world.routed() == world.started[:1]
    assert world.step() == []
    world.acknowledge()
    assert world.step() == [DrainReplica(replica_id=world.started[1], timeout_s=20.0)]
    assert world.step(19) == []
    assert [type(action) for action in world.step(1)] == [KillReplica]
    assert world.step(1) == []
    world.end(world.started[1])
    assert list(world.core.observed.replicas) == world.started[:1]


def test_a_gateway_that_never_acknowledges_holds_up_a_drain_for_a_while_only(world):
    world.deploy(deployment(num_replicas=2))
    world.run_all()
    world.acknowledging = False
    world.deploy(deployment(num_replicas=1))
    assert world.step(4) == []
    assert [type(action) for action in world.step(2)] == [DrainReplica]


def test_a_drained_replica_that_does_not_end_is_killed(world):
    world.deploy(deployment(num_replicas=2))
    world.run_all()
    world.deploy(deployment(num_replicas=1))
    world.core.events.drained(world.started[1], world.now)
    assert world.step(1) == []
    assert [type(action) for action in world.step(1)] == [KillReplica]


def test_scaling_restarts_nothing(world):
    world.deploy(deployment(num_replicas=1))
    world.run_all()
    world.deploy(deployment(num_replicas=3))
    assert world.deployment_state == "UPSCALING"
    assert len(world.started) == 3
    world.run_all()
    assert world.state == "RUNNING"
    world.deploy(deployment(num_replicas=1))
    assert world.routed() == world.started[:1]


def test_settings_change_without_a_restart(world):
    world.deploy(deployment(max_ongoing_requests=5))
    world.run_all()
    world.core.goals.deploy(application(deployment(max_ongoing_requests=9, user_config=b"{}")), 1.0)
    actions = world.step()
    assert [type(action) for action in actions] == [ReconfigureReplica]
    assert actions[0].settings.max_ongoing_requests == 9
    assert world.routes().max_ongoing_requests == 9
    assert world.state == "DEPLOYING"
    world.core.events.reconfigured(world.started[0], "")
    assert world.step() == []
    assert world.state == "RUNNING"
    assert len(world.started) == 1


def test_a_reconfiguration_lost_with_the_lease_is_sent_again(world):
    world.deploy()
    world.run_all()
    world.deploy(deployment(user_config=b"1"))
    world.core.events.lease_lost(world.started[0], world.now)
    assert world.step() == []
    assert world.state == "DEPLOYING"
    world.core.events.lease_taken(world.started[0])
    assert [type(action) for action in world.step()] == [ReconfigureReplica]


def test_queue_settings_concern_gateways_alone(world):
    world.deploy(deployment(max_queued_requests=-1))
    world.run_all()
    world.core.goals.deploy(application(deployment(max_queued_requests=7)), 1.0)
    assert world.step() == []
    assert world.routes().max_queued_requests == 7
    assert world.state == "RUNNING"


def test_a_reconfiguration_that_fails_fails_the_deploy_and_keeps_the_replica(world):
    world.deploy()
    world.run_all()
    world.deploy(deployment(user_config=b"1"))
    world.core.events.reconfigured(world.started[0], "Traceback: KeyError")
    world.step()
    assert world.state == "DEPLOY_FAILED"
    assert "KeyError" in world.status.message
    assert world.routed() == world.started
    assert world.routes().unavailable_message == ""


def test_new_code_starts_new_replicas_before_old_ones_go(world):
    world.deploy(deployment(code="app:V1", num_replicas=2))
    world.run_all()
    old = list(world.started)
    world.core.goals.deploy(application(deployment(code="app:V2", num_replicas=2)), 1.0)
    assert [type(action) for action in world.step()] == [StartReplica]
    assert world.routed() == old
    assert world.state == "DEPLOYING"
    world.make_ready(world.started[2])
    actions = world.step()
    assert [action.replica_id for action in actions if isinstance(action, DrainReplica)] == old[:1]
    assert world.routed() == [old[1], world.started[2]]
    actions = world.run_all()
    assert [action.replica_id for action in actions if isinstance(action, DrainReplica)] == old[1:]
    assert world.routed() == world.started[2:]
    assert world.state == "RUNNING"


def test_other_sources_under_the_same_import_path_are_new_code(world):
    spec = deployment()
    spec.source_digest = "before"
    world.deploy(spec)
    world.run_all()
    world.deploy(spec)
    world.run_all()
    assert len(world.started) == 1
    spec.source_digest = "after"
    world.deploy(spec)
    world.run_all()
    assert world.routed() == world.started[1:]


def test_another_interface_of_the_same_code_is_new_code_to_replicas(world):
    spec = deployment()
    spec.interface.typed_services.add(name="shop.v1.ShopService")
    spec.interface.descriptor_set = b"one"
    world.deploy(spec)
    world.run_all()
    world.deploy(spec)
    world.run_all()
    assert len(world.started) == 1
    spec.interface.descriptor_set = b"another"
    world.deploy(spec)
    world.run_all()
    assert world.routed() == world.started[1:]


def test_gateways_hear_of_another_interface_when_the_last_old_replica_takes_no_more_calls(world):
    def routed(path):
        spec = deployment(num_replicas=2)
        spec.interface.http_routes.add(path=path, http_methods=["GET"], method="m")
        return spec

    def offered():
        return [route.path for route in world.routes().interface.http_routes]

    world.deploy(routed("/old"))
    assert offered() == ["/old"]
    world.run_all()
    old = set(world.routed())
    world.deploy(routed("/new"))
    while old & set(world.routed()):
        assert offered() == ["/old"]
        for replica_id in [
            each for each in world.started if world.core.observed.replicas[each].phase.name == "STOPPING"
        ]:
            world.end(replica_id)
        world.run_all()
        world.step(1.0)
    assert offered() == ["/new"]


def test_an_update_that_fails_leaves_the_interface(world):
    before, after = deployment(), deployment(code="app:Other")
    before.interface.http_routes.add(path="/old", http_methods=["GET"], method="m")
    world.deploy(before)
    world.run_all()
    world.deploy(after)
    assert [route.path for route in world.routes().interface.http_routes] == ["/old"]
    world.deploy(before)
    assert [route.path for route in world.routes().interface.http_routes] == ["/old"]


def test_a_failing_update_keeps_the_old_replicas_serving(world):
    world.deploy(deployment(code="app:V1"))
    world.run_all()
    world.deploy(deployment(code="app:V2", max_constructor_retry_count=1))
    world.fail(world.started[1])
    assert world.state == "DEPLOY_FAILED"
    assert world.routed() == world.started[:1]
    assert world.routes().unavailable_message == ""
    world.deploy(deployment(code="app:V1"))
    assert world.state == "RUNNING"
    assert len(world.started) == 2


def test_a_failed_deploy_can_be_tried_again(world):
    world.deploy(deployment(max_constructor_retry_count=1))
    world.fail(world.started[0])
    assert world.state == "DEPLOY_FAILED"
    world.deploy(deployment(max_constructor_retry_count=1))
    world.run_all()
    assert world.state == "RUNNING"


def test_a_removed_deployment_drains_once_the_new_ones_run(world):
    world.deploy(deployment("Ingress", code="app:V1"), deployment("Model"))
    world.run_all()
    ingress, model = world.started
    world.deploy(deployment("Ingress", code="app:V2"))
    assert world.routed("Model") == [model]
    world.run_all()
    # The old ingress may still call it.
    assert world.state == "RUNNING"
    assert world.routed("Model") == [model]
    world.core.events.drained(ingress, world.now)
    actions = world.step()
    assert [action.replica_id for action in actions if isinstance(action, DrainReplica)] == [model]
    world.end(ingress)
    world.end(model)
    assert world.routes("Model") is None


def test_gateways_hear_that_the_whole_instance_ends(world):
    world.deploy(deployment())
    world.run_all()
    assert not world.core.snapshot.ending
    world.core.end()
    world.run_all()
    assert world.core.snapshot.ending
    assert not world.core.snapshot.drain  # that comes when the applications have gone


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


def test_a_prefix_belongs_to_one_application(world):
    world.deploy(name="a")
    with pytest.raises(DeployFailedError, match='Prefix / is being used by application "a"'):
        world.deploy(name="b")
    world.deploy(name="b", route_prefix="/b")
    world.deploy(name="c", route_prefix=None)
    world.deploy(name="d", route_prefix=None)


def test_an_update_moves_the_prefix_when_it_is_complete(world):
    world.deploy(route_prefix="/a")
    world.run_all()
    world.deploy(deployment(code="app:V2"), route_prefix="/b")
    assert world.core.snapshot.applications[0].route_prefix == "/a"
    world.run_all()
    assert world.core.snapshot.applications[0].route_prefix == "/b"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (application(name=""), "needs a name"),
        (application(deployment(), deployment()), "each its own"),
        (control_pb2.ApplicationSpec(name="a", ingress_deployment="X"), "no deployment 'X'"),
        (application(deployment(num_replicas=0)), "at least 1"),
        (application(deployment(code=None)), "no code"),
    ],
)
def test_nonsense_is_refused(world, spec, message):
    with pytest.raises(InvalidCallError, match=message):
        world.core.goals.deploy(spec, 1.0)
    assert not world.core.desired.applications


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


def test_a_constructor_that_takes_long_is_told(world):
    world.deploy()
    world.step(29.0)
    assert world.status.message == ""
    world.step(2.0)
    assert "starting for more than 30 s" in world.status.message
    assert world.started[0] in world.status.message
    world.run_all()
    assert (world.state, world.status.message) == ("RUNNING", "")


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
