"""A controller with a store and processes that were there before it."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest

from fairlead.lifetime import PROCESSES, write_processes
from fairlead.v1 import control_pb2, control_pb2_grpc, replica_pb2, replica_pb2_grpc
from fairlead_gateway.control.controller import Controller
from fairlead_gateway.control.detached_launcher import DetachedLauncher
from fairlead_gateway.control.gateways import Door, Doors
from fairlead_gateway.control.log_files import LogFiles
from fairlead_gateway.control.server import make_server
from fairlead_gateway.control.settings import ControllerSettings
from fairlead_gateway.control.sqlite_store import FILE, SqliteStore
from tests.control.application_specs import application, deployment

ROOT = Path(__file__).resolve().parents[2]
RUNNING = control_pb2.APPLICATION_STATE_RUNNING


@pytest.fixture
def settings(tmp_path):
    return ControllerSettings(
        directory=tmp_path,
        doors=Doors(http=Door(host="127.0.0.1", port=0), grpc=None),
        gateway_module="tests.control.fake_gateway",
        replica_module="tests.control.fake_replica",
        variables={"PYTHONPATH": str(ROOT)},
    )


@contextlib.asynccontextmanager
async def controlling(settings):
    """A controller of a standing instance, and a stub for it."""
    directory = settings.directory
    store = SqliteStore(directory / FILE)
    launcher = DetachedLauncher(LogFiles(directory / "logs"), directory / PROCESSES, settings.address)
    controller = Controller(settings, launcher, store)
    controller.processes.recover(launcher.found())
    server = make_server(controller, controller.shutdown)
    await server.start()
    loop = asyncio.create_task(controller.run())
    async with grpc.aio.insecure_channel(settings.address) as channel:
        yield controller, channel
    await controller.kill()
    await server.stop(None)
    loop.cancel()
    await asyncio.wait([loop])
    store.close()


async def until(stub, condition):
    async with asyncio.timeout(30):
        async for answer in stub.WatchStatus(control_pb2.WatchStatusRequest()):
            if condition(answer.status):
                return answer.status
    raise AssertionError("the watch ended")


@contextlib.contextmanager
def bystander(settings, name):
    """A process that is recorded, as one that an earlier controller has started, and says nothing."""
    command = [sys.executable, "-c", "import signal; signal.pause()", settings.address, name]
    with subprocess.Popen(command, start_new_session=True) as process:
        write_processes(settings.directory / PROCESSES, {process.pid: name})
        try:
            yield process
        finally:
            process.kill()


async def deployed(settings):
    async with controlling(settings) as (_, channel):
        stub = control_pb2_grpc.ControlServiceStub(channel)
        spec = application(deployment(code="fake:ready"))
        await stub.Deploy(control_pb2.DeployRequest(application=spec))
        await until(stub, lambda status: status.applications and status.applications[0].state == RUNNING)


async def test_what_was_deployed_runs_again(settings):
    await deployed(settings)
    async with controlling(settings) as (_, channel):
        stub = control_pb2_grpc.ControlServiceStub(channel)
        status = await until(stub, lambda status: status.applications[0].state == RUNNING)
        assert status.applications[0].generation == 1
        assert status.controller.standing
        await stub.Shutdown(control_pb2.ShutdownRequest())
    async with controlling(settings) as (_, channel):
        stub = control_pb2_grpc.ControlServiceStub(channel)
        assert not (await stub.GetStatus(control_pb2.GetStatusRequest())).status.applications


async def test_one_that_never_registers_is_ended_and_replaced(settings, monkeypatch):
    await deployed(settings)
    monkeypatch.setattr("fairlead_gateway.control.processes.LEASE_GRACE_S", 0.3)
    with bystander(settings, "default#Echo#frozen") as process:
        async with controlling(settings) as (controller, channel):
            assert not controller.recovered.is_set()
            stub = control_pb2_grpc.ControlServiceStub(channel)
            status = await until(stub, lambda status: status.applications[0].state == RUNNING)
            (replica,) = status.applications[0].deployments[0].replicas
            assert replica.replica_id != "default#Echo#frozen"
            assert await asyncio.to_thread(process.wait, 30) == -9


async def test_gateway_workers_hear_nothing_before_all_replicas_are_known(settings):
    await deployed(settings)
    with bystander(settings, "default#Echo#talker") as process:
        async with controlling(settings) as (controller, channel):
            control, replicas = (
                control_pb2_grpc.ControlServiceStub(channel),
                replica_pb2_grpc.ReplicaServiceStub(channel),
            )
            watch = control.Watch()
            await watch.write(control_pb2.WatchRequest(gateway_id="gateway-7", pid=1))
            snapshot = asyncio.ensure_future(watch.read())
            lease = replicas.Register()
            spec = controller.core.desired.applications["default"].deployments["Echo"]
            running = replica_pb2.ReplicaRunning(
                application="default",
                deployment="Echo",
                code_version=spec.code_version,
                settings=spec.spec.settings,
                address="wire:/talker",
            )
            assert not snapshot.done()
            hello = replica_pb2.ReplicaHello(replica_id="default#Echo#talker", pid=process.pid, running=running)
            await lease.write(replica_pb2.RegisterRequest(hello=hello))
            (routes,) = (await asyncio.wait_for(snapshot, 60)).applications
            assert [one.address for one in routes.deployments[0].replicas] == ["wire:/talker"]
            assert list(controller.core.observed.replicas) == ["default#Echo#talker"]
            watch.cancel()
            lease.cancel()


async def test_a_replica_that_cannot_be_of_this_instance_is_ended(settings):
    with bystander(settings, "other#Echo#strange") as process:
        write_processes(settings.directory / PROCESSES, {})
        async with controlling(settings) as (_, channel):
            lease = replica_pb2_grpc.ReplicaServiceStub(channel).Register()
            hello = replica_pb2.ReplicaHello(replica_id="other#Echo#strange", pid=process.pid)
            await lease.write(replica_pb2.RegisterRequest(hello=hello))
            with pytest.raises(grpc.aio.AioRpcError, match="is not wanted here"):
                await lease.read()
            assert await asyncio.to_thread(process.wait, 30) == -9
