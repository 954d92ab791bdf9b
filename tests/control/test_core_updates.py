"""A deploy over what runs: what restarts, what drains, and what stays if it fails."""

from fairlead_gateway.control.actions import DrainReplica, KillReplica, ReconfigureReplica, StartReplica
from tests.control.application_specs import application, deployment


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
    world.accept(application(deployment(max_ongoing_requests=9, user_config=b"{}")))
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
    world.accept(application(deployment(max_queued_requests=7)))
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
    world.accept(application(deployment(code="app:V2", num_replicas=2)))
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


def test_an_update_moves_the_prefix_when_it_is_complete(world):
    world.deploy(route_prefix="/a")
    world.run_all()
    world.deploy(deployment(code="app:V2"), route_prefix="/b")
    assert world.core.snapshot.applications[0].route_prefix == "/a"
    world.run_all()
    assert world.core.snapshot.applications[0].route_prefix == "/b"
