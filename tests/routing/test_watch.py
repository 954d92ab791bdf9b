"""Following a controller that comes and goes, over a Unix socket."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from fairlead.v1 import control_pb2, control_pb2_grpc, session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.link import Link
from fairlead_gateway.routing import watch
from fairlead_gateway.routing.table import RouteTable
from fairlead_gateway.routing.upstream import Upstreams
from fairlead_gateway.routing.watch import Watch
from tests.routing.fake_replica import FakeClock, FakeReplica, admit, application, routes, snapshot
from tests.wire.calls import PATIENCE, until


class FakeController(control_pb2_grpc.ControlServiceServicer):
    """Sends what the test puts, and keeps what the worker says."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[control_pb2.WatchRequest] = asyncio.Queue()
        self.beats = 0
        """How often the same was said again."""
        self.snapshots: asyncio.Queue[control_pb2.WatchResponse | None] = asyncio.Queue()
        self.server = grpc.aio.server()

    async def Watch(self, requests: Any, context: Any) -> AsyncIterator[control_pb2.WatchResponse]:
        async def listen() -> None:
            said = None
            async for request in requests:
                if request == said:
                    self.beats += 1
                else:
                    self.heard.put_nowait(request)
                said = request

        listening = asyncio.create_task(listen())
        try:
            while (response := await self.snapshots.get()) is not None:
                yield response
        finally:
            listening.cancel()

    async def start(self, address: str) -> FakeController:
        control_pb2_grpc.add_ControlServiceServicer_to_server(self, self.server)
        self.server.add_insecure_port(address)
        await self.server.start()
        return self

    async def hear(self) -> control_pb2.WatchRequest:
        return await asyncio.wait_for(self.heard.get(), PATIENCE)


class Stage:
    """A worker's half: table, upstreams with replicas in memory, and the watch, running."""

    def __init__(self, address: str, clock: FakeClock) -> None:
        self.address = address
        self.replicas: dict[str, FakeReplica] = {}
        self.held: asyncio.Event | None = None
        self.drained = asyncio.Event()
        self.controllers: list[FakeController] = []
        self.table = RouteTable(clock)
        self.upstreams = Upstreams(self.connect)
        about = control_pb2.WatchRequest(gateway_id="gateway-0", pid=7, trusted_address="unix:/trusted")
        self.doors = 0
        self.watch = Watch(address, self.table, self.upstreams, about, self.drained.set, open_doors=self.open_doors)
        self.running = asyncio.create_task(self.watch.run())

    async def open_doors(self) -> None:
        assert self.table.populated
        self.doors += 1

    async def connect(self, address: str, on_load: Callable[[session_pb2.Load], None]) -> Link:
        if self.held is not None:
            await self.held.wait()
        if address not in self.replicas:
            raise ConnectionLostError(f"cannot reach {address}")
        return self.replicas[address].connect(on_load)

    def up(self, name: str) -> FakeReplica:
        self.replicas[f"memory:{name}"] = replica = FakeReplica(name)
        return replica

    async def controller(self) -> FakeController:
        made = await FakeController().start(self.address)
        self.controllers.append(made)
        return made

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running], timeout=PATIENCE)
        await self.upstreams.close()
        for controller in self.controllers:
            await controller.server.stop(None)
        assert self.running.cancelled()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name: paths of Unix sockets are limited to 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def stage(directory: Path, clock: FakeClock, tidy: None) -> AsyncIterator[Stage]:
    made = Stage(f"unix:{directory}/c", clock)
    yield made
    await made.close()


async def test_a_worker_shows_that_it_is_not_frozen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT_S", 0.005)
    first = await stage.controller()
    await until(lambda: first.beats > 2)
    await first.server.stop(None)
    second = await stage.controller()
    await until(lambda: second.beats > 2)


async def test_the_doors_open_once_when_there_is_something_to_route(stage: Stage):
    controller = await stage.controller()
    assert (await controller.hear()).applied_version == 0
    assert stage.doors == 0
    for version in (1, 2):
        controller.snapshots.put_nowait(snapshot(application(routes()), version=version))
        assert (await controller.hear()).applied_version == version
        assert stage.doors == 1


async def within_patience(waiting: Awaitable[object]) -> None:
    await asyncio.wait_for(waiting, PATIENCE)


async def test_a_snapshot_is_acknowledged_when_its_replicas_are_connected(stage: Stage):
    controller = await stage.controller()
    first = await controller.hear()
    assert (first.gateway_id, first.pid, first.trusted_address) == ("gateway-0", 7, "unix:/trusted")
    assert first.applied_version == 0
    stage.held = asyncio.Event()
    replica = stage.up("a")
    controller.snapshots.put_nowait(snapshot(application(routes("a")), version=3))
    await until(lambda: stage.table.version == 3)
    assert controller.heard.empty()
    assert stage.table.find("app", "Echo").ready == []
    stage.held.set()
    assert (await controller.hear()).applied_version == 3
    caller = admit(stage.table.find("app", "Echo"))
    (await replica.called()).answer()
    await caller.end()


async def test_a_replica_that_cannot_be_reached_does_not_hold_up_the_acknowledgement(stage: Stage):
    controller = await stage.controller()
    await controller.hear()
    stage.up("a")
    controller.snapshots.put_nowait(snapshot(application(routes("a", "gone")), version=1))
    assert (await controller.hear()).applied_version == 1
    assert [replica.replica_id for replica in stage.table.find("app", "Echo").ready] == ["a"]


async def test_every_snapshot_is_acknowledged_in_order(stage: Stage):
    controller = await stage.controller()
    for version in range(1, 21):
        controller.snapshots.put_nowait(snapshot(application(routes()), version=version))
    heard = [(await controller.hear()).applied_version for _ in range(21)]
    assert heard == list(range(21))


@pytest.mark.parametrize("farewell", ["stopped", "ended"])
async def test_without_a_controller_calls_go_on_and_another_one_counts_anew(stage: Stage, farewell: str):
    replica = stage.up("a")
    controller = await stage.controller()
    await controller.hear()
    controller.snapshots.put_nowait(snapshot(application(routes("a")), version=9))
    assert (await controller.hear()).applied_version == 9

    if farewell == "ended":  # the stream ends in order, the process a little later
        controller.snapshots.put_nowait(None)
    await controller.server.stop(None)
    caller = admit(stage.table.find("app", "Echo"))
    (await replica.called()).answer()
    await caller.end()
    assert caller.outcome is None

    restarted = await stage.controller()
    assert (await restarted.hear()).applied_version == 0  # of its versions the worker knows none
    assert stage.table.version == 9
    restarted.snapshots.put_nowait(snapshot(application(routes("a"), routes(name="New")), version=1))
    assert (await restarted.hear()).applied_version == 1
    assert stage.table.version == 1
    stage.table.find("app", "New")
    caller = admit(stage.table.find("app", "Echo"))
    (await replica.called(2)).answer()
    await caller.end()
    assert len(replica.calls) == 2


async def test_a_worker_that_is_there_before_its_controller(stage: Stage):
    await asyncio.sleep(0)
    assert not stage.table.populated
    controller = await stage.controller()
    assert (await controller.hear()).gateway_id == "gateway-0"


async def test_draining_is_passed_on_and_acknowledged(stage: Stage):
    controller = await stage.controller()
    await controller.hear()
    controller.snapshots.put_nowait(snapshot(application(routes()), version=1))
    await controller.hear()
    assert not stage.drained.is_set()
    controller.snapshots.put_nowait(snapshot(application(routes()), version=2, drain=True))
    await within_patience(stage.drained.wait())
    assert (await controller.hear()).applied_version == 2
