"""How a run of the controller ends."""

import asyncio
import logging
import signal
from pathlib import Path

import grpc.aio
import pytest

from fairlead.v1 import control_pb2, control_pb2_grpc
from fairlead_gateway.control.gateways import Door, Doors
from fairlead_gateway.control.local_launcher import LocalLauncher
from fairlead_gateway.control.program import ControllerProgram, Report, Surroundings
from fairlead_gateway.control.settings import ControllerSettings
from tests.control.application_specs import application, deployment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(tmp_path):
    settings = ControllerSettings(
        directory=tmp_path,
        doors=Doors(http=Door(host="127.0.0.1", port=0), grpc=None),
        gateway_module="tests.control.fake_gateway",
        replica_module="tests.control.fake_replica",
        variables={"PYTHONPATH": str(ROOT)},
    )
    launcher = LocalLauncher(logging.getLogger("fairlead.output"))
    before = signal.getsignal(signal.SIGINT)
    # Made by a function, because it needs the loop.
    yield lambda: ControllerProgram(Surroundings(settings=settings, launcher=launcher), Report(None))
    signal.signal(signal.SIGINT, before)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("told", ["by a signal", "by a call"])
async def test_what_is_told_to_stop_while_it_ends_starts_nothing_more(program, tmp_path, told):
    """A driver whose instance cannot run tells it to stop, which it does already."""
    others = asyncio.all_tasks()
    one = program()
    running = asyncio.create_task(one.run())
    await until((tmp_path / "controller.sock").exists)
    one._end(3)
    await asyncio.sleep(0)
    if told == "by a signal":
        one._on_signal()
    else:
        await asyncio.wait_for(one._stop(), 60)
    assert await running == 3
    await until(lambda: not asyncio.all_tasks() - others)


async def test_a_signal_ends_it(program, tmp_path):
    one = program()
    running = asyncio.create_task(one.run())
    await until((tmp_path / "controller.sock").exists)
    one._on_signal()
    assert await running == 0


async def test_replicas_that_it_kills_are_no_surprise(program, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    one = program()
    running = asyncio.create_task(one.run())
    await until((tmp_path / "controller.sock").exists)
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'controller.sock'}") as channel:
        spec = application(deployment(code="fake:ready"))
        stub = control_pb2_grpc.ControlServiceStub(channel)
        await stub.Deploy(control_pb2.DeployRequest(application=spec))
        async for answer in stub.WatchStatus(control_pb2.WatchStatusRequest()):
            if answer.status.applications[0].state == control_pb2.APPLICATION_STATE_RUNNING:
                break
        one._end(3)
        assert await running == 3
    ended = [record for record in caplog.records if "ended with signal 9" in record.getMessage()]
    assert len(ended) == 2  # the gateway worker and the replica
    assert {record.levelno for record in ended} == {logging.INFO}
