"""The controller with real processes: fake replicas and a fake gateway worker that speak the protocol."""

import asyncio
import logging
import os
import signal
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import control_pb2, control_pb2_grpc
from fairlead.wire.errors import DeployFailedError
from fairlead_gateway.control.controller import Controller
from fairlead_gateway.control.gateways import Door, Doors
from fairlead_gateway.control.local_launcher import LocalLauncher
from fairlead_gateway.control.server import make_server
from fairlead_gateway.control.settings import ControllerSettings
from fairlead_gateway.control.store import Store
from tests.control.application_specs import application, deployment
from tests.control.test_adoption import FullDisk

ROOT = Path(__file__).resolve().parents[2]
RUNNING = control_pb2.APPLICATION_STATE_RUNNING
DEPLOY_FAILED = control_pb2.APPLICATION_STATE_DEPLOY_FAILED
UNHEALTHY = control_pb2.APPLICATION_STATE_UNHEALTHY
DELETING = control_pb2.APPLICATION_STATE_DELETING


class World:
    """A controller and its processes, seen through its own service."""

    def __init__(self, directory: Path, store: Store | None = None, **variables: str):
        settings = ControllerSettings(
            directory=directory,
            doors=Doors(http=Door(host="127.0.0.1", port=0), grpc=None),
            gateway_module="tests.control.fake_gateway",
            replica_module="tests.control.fake_replica",
            variables={"PYTHONPATH": str(ROOT), **variables},
        )
        self.controller = Controller(settings, LocalLauncher(logging.getLogger("fairlead.output")), store)

    async def __aenter__(self):
        self.server = make_server(self.controller, self.controller.shutdown)
        await self.server.start()
        self.loop = asyncio.create_task(self.controller.run())
        self.channel = grpc.aio.insecure_channel(self.controller.settings.address)
        self.stub = control_pb2_grpc.ControlServiceStub(self.channel)
        return self

    async def __aexit__(self, *error):
        await self.channel.close()
        await self.controller.kill()
        await self.server.stop(None)
        self.loop.cancel()
        await asyncio.wait([self.loop])

    async def deploy(self, *deployments, **changes):
        request = control_pb2.DeployRequest(application=application(*deployments, **changes))
        return (await self.stub.Deploy(request)).generation

    async def until(self, condition):
        """The first status that the condition holds for."""
        async with asyncio.timeout(30):
            async for answer in self.stub.WatchStatus(control_pb2.WatchStatusRequest()):
                if condition(answer.status):
                    return answer.status
        raise AssertionError("the watch ended")

    async def until_state(self, state, generation=0):
        def reached(status):
            return any(one.state == state and one.generation >= generation for one in status.applications)

        return (await self.until(reached)).applications[0]


@pytest.fixture
async def world(tmp_path):
    async with World(tmp_path) as world:
        yield world


def pids(status):
    return [replica.pid for replica in status.deployments[0].replicas]


async def test_its_socket_is_the_owners(world, tmp_path):
    assert (tmp_path / "controller.sock").stat().st_mode & 0o777 == 0o600


async def test_an_application_comes_up(world):
    await world.deploy(deployment(code="fake:ready", num_replicas=2))
    status = await world.until_state(RUNNING)
    assert len(set(pids(status))) == 2
    gateway = (await world.stub.GetStatus(control_pb2.GetStatusRequest())).status.gateways[0]
    assert gateway.ready
    assert gateway.http_address == "127.0.0.1:8123"
    assert gateway.trusted_address == f"unix:{world.controller.settings.directory}/gateway-0.sock"


async def test_what_replicas_write_is_in_the_log(world, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    spec = application(deployment(code="fake:crash", max_constructor_retry_count=1))
    spec.environment.working_directory = str(tmp_path)
    spec.environment.variables["FLAVOUR"] = "vanilla"
    await world.stub.Deploy(control_pb2.DeployRequest(application=spec))
    status = await world.until_state(DEPLOY_FAILED)
    lines = [record.getMessage() for record in caplog.records if record.name == "fairlead.output"]
    assert any(
        line.startswith("(default#Echo#") and line.endswith(f"I am to be crash with vanilla in {tmp_path}")
        for line in lines
    )
    assert any(line.endswith("dying") for line in lines)
    assert "exit status 7" in status.message
    assert "dying" in status.message


async def test_a_working_directory_that_is_not_there_fails_the_deploy(world):
    spec = application(deployment(code="fake:ready", max_constructor_retry_count=1))
    spec.environment.working_directory = "/not/there"
    await world.stub.Deploy(control_pb2.DeployRequest(application=spec))
    status = await world.until_state(DEPLOY_FAILED)
    assert "before it was ready: it could not be started: " in status.message
    assert "/not/there" in status.message


async def test_a_constructor_that_fails_ends_the_deploy_with_its_traceback(world):
    await world.deploy(deployment(code="fake:fail", max_constructor_retry_count=2))
    status = await world.until_state(DEPLOY_FAILED)
    assert "ValueError: no" in status.message
    assert "2 times in a row" in status.message


async def test_the_log_has_a_traceback_once(world, caplog):
    await world.deploy(deployment(code="fake:fail", max_constructor_retry_count=3))
    await world.until_state(DEPLOY_FAILED)
    said = [record.getMessage() for record in caplog.records if "could not start" in record.getMessage()]
    assert ["Traceback" in each for each in said] == [True, False, False]
    assert said[2].endswith("could not start, as before, 3 times in a row: no")
    caplog.clear()
    await world.deploy(deployment(code="fake:fail", max_constructor_retry_count=1, num_replicas=2))
    await world.until_state(DEPLOY_FAILED, generation=2)
    assert caplog.text.count("Traceback") == 1, "another deploy tells it anew"


async def test_a_killed_replica_is_replaced(world):
    await world.deploy(deployment(code="fake:ready"))
    before = await world.until_state(RUNNING)
    os.kill(pids(before)[0], signal.SIGKILL)
    status = await world.until_state(UNHEALTHY)
    assert "SIGKILL" in status.message
    after = await world.until_state(RUNNING)
    assert pids(after) != pids(before)


async def test_a_sick_replica_is_replaced(world):
    await world.deploy(deployment(code="fake:sick"))
    status = await world.until(lambda status: "cough" in status.applications[0].message)
    assert "failed 3 health checks" in status.applications[0].message


async def test_a_killed_gateway_worker_comes_back_with_its_port(world):
    status = await world.until(lambda status: status.gateways[0].ready)
    pid = status.gateways[0].pid
    os.kill(pid, signal.SIGKILL)
    status = await world.until(lambda status: status.gateways[0].ready and status.gateways[0].pid != pid)
    assert world.controller.gateways.arguments("gateway-0")[-1] == "8123"


async def test_an_update_replaces_replicas_and_settings_do_not(world, caplog):
    caplog.set_level(logging.INFO)
    await world.deploy(deployment(code="fake:ready"))
    first = await world.until_state(RUNNING)
    generation = await world.deploy(deployment(code="fake:ready", user_config=b'"mild"'))
    second = await world.until_state(RUNNING, generation)
    assert pids(second) == pids(first)
    spec = application(deployment(code="fake:ready"))
    spec.environment.variables["FLAVOUR"] = "new"
    await world.stub.Deploy(control_pb2.DeployRequest(application=spec))
    await world.until(
        lambda status: pids(status.applications[0]) not in ([], pids(first)) and len(pids(status.applications[0])) == 1
    )
    await world.until_state(RUNNING)
    assert any('reconfigured to "mild"' in record.getMessage() for record in caplog.records)


async def test_deleting_waits_until_it_is_gone(world):
    await world.deploy(deployment(code="fake:ready"))
    status = await world.until_state(RUNNING)
    await world.stub.Delete(control_pb2.DeleteRequest(application="default"))
    assert not (await world.stub.GetStatus(control_pb2.GetStatusRequest())).status.applications
    with pytest.raises(ProcessLookupError):
        os.kill(pids(status)[0], 0)
    await world.stub.Delete(control_pb2.DeleteRequest(application="default"))


async def test_what_does_not_drain_is_killed(world):
    await world.deploy(deployment(code="fake:stubborn", graceful_shutdown_timeout_s=0.2))
    (stubborn,) = pids(await world.until_state(RUNNING))
    await world.stub.Delete(control_pb2.DeleteRequest(application="default"), timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(stubborn, 0)


async def test_shutdown_answers_when_everything_has_ended(world):
    await world.deploy(deployment(code="fake:ready", num_replicas=2))
    status = await world.until(lambda status: any(one.state == RUNNING for one in status.applications))
    everybody = [*pids(status.applications[0]), status.gateways[0].pid]
    await world.stub.Shutdown(control_pb2.ShutdownRequest())
    for pid in everybody:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
        await world.deploy()


async def test_nothing_is_started_in_the_place_of_what_is_killed(tmp_path):
    async with World(tmp_path) as world:
        await world.deploy(deployment(code="fake:ready", num_replicas=2))
        await world.controller.kill()
        await asyncio.wait_for(world.loop, 60)
        assert world.controller.core.observed.replicas == {}


async def test_a_port_that_is_taken_is_fatal(tmp_path):
    async with World(tmp_path, FAKE_BIND_FAILURE="1") as world:
        message = await asyncio.wait_for(world.controller.processes.fatal, 60)
    assert message == "cannot bind 127.0.0.1:80: Permission denied"


async def test_a_refused_deploy_says_why(world):
    with pytest.raises(grpc.aio.AioRpcError, match="needs a name") as caught:
        await world.deploy(name="")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.reason == "INVALID_CALL"


async def test_scaling_changes_the_number_of_replicas_and_nothing_else(world):
    await world.deploy(deployment(code="fake:ready"))
    first = await world.until_state(RUNNING)
    request = control_pb2.ScaleRequest(application="default", deployment="Echo", num_replicas=3)
    generation = (await world.stub.Scale(request)).generation
    after = await world.until_state(RUNNING, generation)
    assert len(pids(after)) == 3
    assert pids(first)[0] in pids(after)
    for bad, said in (
        (control_pb2.ScaleRequest(application="default", deployment="Ecko", num_replicas=3), "no deployment 'Ecko'"),
        (control_pb2.ScaleRequest(application="other", deployment="Echo", num_replicas=3), "application 'other'"),
        (control_pb2.ScaleRequest(application="default", deployment="Echo"), "must be at least 1"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=said):
            await world.stub.Scale(bad)


async def test_what_scales_by_itself_is_not_scaled(world):
    scaling = control_pb2.AutoscalingSettings(min_replicas=1, max_replicas=5, target_ongoing_requests=2)
    await world.deploy(deployment(code="fake:ready", autoscaling=scaling))
    with pytest.raises(grpc.aio.AioRpcError, match="scales by itself"):
        await world.stub.Scale(control_pb2.ScaleRequest(application="default", deployment="Echo", num_replicas=3))


async def test_the_configuration_that_was_deployed_is_told(world):
    spec = application(deployment(code="fake:ready"))
    spec.config = b'{"name": "default"}'
    await world.stub.Deploy(control_pb2.DeployRequest(application=spec))
    (found,) = (await world.stub.GetConfig(control_pb2.GetConfigRequest())).applications
    assert (found.application, found.config) == ("default", b'{"name": "default"}')


async def test_what_was_changed_since_it_was_read_is_not_overwritten(world):
    async def generation():
        found = (await world.stub.GetConfig(control_pb2.GetConfigRequest())).applications
        return found[0].generation if found else 0

    def deploy(expected):
        spec = application(deployment(code="fake:ready"))
        return world.stub.Deploy(control_pb2.DeployRequest(application=spec, expected_generation=expected))

    def delete(expected):
        request = control_pb2.DeleteRequest(application="default", no_wait=True, expected_generation=expected)
        return world.stub.Delete(request)

    assert await generation() == 0
    first = (await deploy(0)).generation
    assert await generation() == first
    second = (await deploy(first)).generation
    for refused in (deploy(0), deploy(first), delete(first), delete(0)):
        with pytest.raises(grpc.aio.AioRpcError, match="deployed or deleted meanwhile") as raised:
            await refused
        assert raised.value.code() is grpc.StatusCode.ABORTED
    assert await generation() == second
    await delete(second)
    assert await generation() == 0
    with pytest.raises(grpc.aio.AioRpcError, match="deployed or deleted meanwhile"):
        await deploy(second)
    assert (await deploy(0)).generation == second + 1


async def test_traffic_is_deployed_along_with_an_application(world):
    def request(*shares):
        backends = [control_pb2.TrafficShare(deployment="Echo", share=share) for share in shares]
        return control_pb2.DeployRequest(
            application=application(deployment(code="fake:ready")),
            traffic=[control_pb2.TrafficPolicy(name="e", backends=backends)],
        )

    with pytest.raises(grpc.aio.AioRpcError, match="sum up to 1"):
        await world.stub.Deploy(request(0.5))
    assert not (await world.stub.GetConfig(control_pb2.GetConfigRequest())).applications
    await world.stub.Deploy(request(1.0))
    (policy,) = (await world.until_state(RUNNING)).traffic
    assert (policy.name, policy.backends[0].application, policy.backends[0].share) == ("e", "default", 1.0)
    await world.stub.Deploy(request())
    await world.until(lambda status: not status.applications[0].traffic)


async def test_several_applications_are_accepted_or_none(world):
    async def deploy(*specs, deleted=()):
        first, *others = specs
        request = control_pb2.DeployRequest(application=first, others=others, deleted=deleted)
        answer = await world.stub.Deploy(request)
        return [answer.generation, *answer.other_generations]

    async def mounted():
        status = (await world.stub.GetStatus(control_pb2.GetStatusRequest())).status
        return {one.name: one.route_prefix for one in status.applications if one.state != DELETING}

    def named(name, prefix):
        return application(deployment(code="fake:ready"), name=name, route_prefix=prefix)

    assert await deploy(named("a", "/a"), named("b", "/b")) == [1, 2]
    for others, said in (
        ([named("c", "/c"), named("d", "/b")], 'Prefix /b is being used by application "b"'),
        ([named("c", "/c"), named("d", "/c")], 'Prefix /c is being used by application "c"'),
        ([named("c", "/c"), named("c", "/d")], "several applications with the name 'c'"),
        ([named("c", "/c"), named("", "/d")], "needs a name"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=said):
            await deploy(*others)
        assert await mounted() == {"a": "/a", "b": "/b"}
    assert await deploy(named("a", "/b"), named("c", "/a"), deleted=["b", "nobody"]) == [3, 4]
    await world.until(lambda status: len([one for one in status.applications if one.state == RUNNING]) == 2)
    await world.stub.Delete(control_pb2.DeleteRequest(application="b"))
    assert await mounted() == {"a": "/b", "c": "/a"}
    assert await deploy(named("a", "/a"), named("c", "/b")) == [5, 6], "they take each other's place"
    await world.until(lambda status: all(one.generation >= 5 and one.state == RUNNING for one in status.applications))
    assert await mounted() == {"a": "/a", "c": "/b"}


async def test_what_cannot_be_written_down_is_refused_and_nothing_has_changed(tmp_path):
    store = FullDisk()
    half = [control_pb2.TrafficShare(deployment=name, share=0.5) for name in ("Echo", "New")]
    spreading = control_pb2.SetTrafficRequest(
        application="default", policy=control_pb2.TrafficPolicy(name="Echo", backends=half)
    )
    async with World(tmp_path, store) as world:
        await world.deploy(deployment(code="fake:ready"), deployment("New", code="fake:ready"))
        before = await world.until_state(RUNNING)
        store.full = True
        for refused in (
            world.stub.SetTraffic(spreading),
            world.stub.Scale(control_pb2.ScaleRequest(application="default", deployment="Echo", num_replicas=3)),
            world.stub.Delete(control_pb2.DeleteRequest(application="default")),
            world.stub.Deploy(control_pb2.DeployRequest(application=application(name="other", route_prefix="/o"))),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=r"Nothing was changed: .* disk is full; free some space"):
                await refused
        with pytest.raises(DeployFailedError, match="Nothing was changed"):
            world.controller.forget()
        assert await world.until_state(RUNNING) == before
        assert not world.controller.core.snapshot.applications[0].traffic
        store.full = False
        await world.stub.SetTraffic(spreading)
        (policy,) = (await world.until_state(RUNNING)).traffic
        assert [one.share for one in policy.backends] == [0.5, 0.5]
