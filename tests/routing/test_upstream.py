"""The sessions with replicas: made, made again, and ended in peace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.link import Link
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.table import Changes, RouteTable
from fairlead_gateway.routing.upstream import FIRST_RETRY, LAST_RETRY, Upstreams
from tests.routing.fake_replica import FakeClock, FakeReplica, admit, application, routes, settle, snapshot
from tests.wire.calls import PATIENCE, until


class Network:
    """Replicas by their address. Those that are not there refuse; time passes at once, and is written down."""

    def __init__(self) -> None:
        self.replicas: dict[str, FakeReplica] = {}
        self.links: list[Link] = []
        self.attempts = 0
        self.delays: list[float] = []
        self.held: asyncio.Event | None = None
        """While set and not yet true, connecting takes its time."""
        self.swallows = False
        """Whether connecting goes on when it is cancelled, as asyncio.wait_for may in Python 3.11."""
        self.defect: Exception | None = None
        self.said: session_pb2.Load | None = None
        """What replicas say of themselves before whoever connects hears that it has."""

    def up(self, *names: str) -> list[FakeReplica]:
        for name in names:
            self.replicas[f"memory:{name}"] = FakeReplica(name)
        return [self.replicas[f"memory:{name}"] for name in names]

    async def connect(self, address: str, on_load: Callable[[session_pb2.Load], None]) -> Link:
        self.attempts += 1
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                if not self.swallows:
                    raise
        if self.defect is not None:
            raise self.defect
        if address not in self.replicas:
            raise ConnectionLostError(f"cannot reach {address}")
        link = self.replicas[address].connect(on_load)
        self.links.append(link)
        if self.said is not None:
            on_load(self.said)
        return link

    async def sleep(self, delay: float) -> None:
        self.delays.append(delay)
        await asyncio.sleep(0)


class Stage:
    """A table and its upstreams, over a network in memory."""

    def __init__(self, clock: FakeClock) -> None:
        self.network = Network()
        self.table = RouteTable(clock)
        self.upstreams = Upstreams(self.network.connect, self.network.sleep)
        self.version = 0

    def describe(self, *replica_ids: str, slots: int = 10) -> Changes:
        self.version += 1
        return self.table.apply(snapshot(application(routes(*replica_ids, slots=slots)), version=self.version))

    async def apply(self, *replica_ids: str, slots: int = 10, patience_s: float = PATIENCE) -> None:
        await self.upstreams.apply(self.describe(*replica_ids, slots=slots), patience_s)

    @property
    def deployment(self) -> Deployment:
        return self.table.find("app", "Echo")

    @property
    def ready(self) -> list[str]:
        return [replica.replica_id for replica in self.deployment.ready]


@pytest.fixture
async def stage(clock: FakeClock, tidy: None) -> AsyncIterator[Stage]:
    made = Stage(clock)
    yield made
    await asyncio.wait_for(made.upstreams.close(), PATIENCE)
    assert all(link.closed for link in made.network.links)


async def test_replicas_are_connected_when_apply_returns(stage: Stage):
    one, other = stage.network.up("a", "b")
    await stage.apply("a", "b")
    assert sorted(stage.ready) == ["a", "b"]
    caller = admit(stage.deployment)
    await until(lambda: one.ongoing or other.ongoing)
    (one.ongoing or other.ongoing)[0].answer()
    await caller.end()


async def test_calls_that_wait_are_woken_by_a_connection(stage: Stage):
    stage.describe()
    caller = admit(stage.deployment)
    (replica,) = stage.network.up("a")
    await stage.apply("a")
    (await replica.called()).answer()
    await caller.end()


async def test_a_replica_that_is_not_there_yet_is_tried_again(stage: Stage):
    await stage.apply("a")
    assert stage.ready == []
    await until(lambda: len(stage.network.delays) == 8)
    assert stage.network.delays[0] == FIRST_RETRY
    assert stage.network.delays == sorted(stage.network.delays)
    assert stage.network.delays[-1] == LAST_RETRY
    stage.network.up("a")
    await until(lambda: stage.ready == ["a"])


async def test_an_unexpected_failure_to_connect_does_not_lose_the_replica(
    stage: Stage, caplog: pytest.LogCaptureFixture
):
    stage.network.defect = RuntimeError("a defect")
    await stage.apply("a")
    assert "replica a: connecting failed" in caplog.text
    stage.network.up("a")
    stage.network.defect = None
    await until(lambda: stage.ready == ["a"])


async def test_patience_ends(stage: Stage):
    stage.network.held = asyncio.Event()
    stage.network.up("a")
    await stage.apply("a", patience_s=0.0)
    assert stage.ready == []
    stage.network.held.set()
    await until(lambda: stage.ready == ["a"])


async def test_who_gives_up_waiting_leaves_the_connecting_to_go_on(stage: Stage):
    stage.network.held = asyncio.Event()
    stage.network.up("a")
    applying = asyncio.create_task(stage.apply("a"))
    await until(lambda: stage.network.attempts)
    applying.cancel()
    await asyncio.wait([applying])
    stage.network.held.set()
    await until(lambda: stage.ready == ["a"])


async def test_a_lost_connection_is_made_again(stage: Stage):
    (replica,) = stage.network.up("a")
    await stage.apply("a")
    caller = admit(stage.deployment)
    await replica.called()
    stage.network.links[0].lose(ConnectionLostError("broken pipe"))
    assert caller.reason == "REPLICA_LOST"
    queued = admit(stage.deployment)
    assert not queued.ends
    (await replica.called(2)).answer()
    await queued.end()
    assert stage.ready == ["a"]
    assert stage.deployment.replicas["a"].in_flight == 0
    assert len(stage.network.links) == 2


async def test_a_connection_that_never_lasts_is_made_ever_less_often(stage: Stage):
    (replica,) = stage.network.up("a")
    connect = replica.connect

    def connect_and_break(on_load: Callable[[session_pb2.Load], None] | None = None) -> Link:
        link = connect(on_load)
        link.lose(ConnectionLostError("at once"))
        return link

    replica.connect = connect_and_break  # type: ignore[method-assign]
    await stage.apply("a")
    await until(lambda: stage.network.attempts == 8)
    assert stage.network.delays[:7] == [FIRST_RETRY * 2**number for number in range(6)] + [LAST_RETRY]


async def test_a_replica_that_is_taken_off_the_list_finishes_its_calls(stage: Stage):
    one, other = stage.network.up("a", "b")
    await stage.apply("a")
    running = admit(stage.deployment)
    await one.called()
    await stage.apply("b")
    assert stage.ready == ["b"]
    assert not stage.network.links[0].closed
    later = admit(stage.deployment)
    (await other.called()).answer(b"b")
    await later.end()
    one.calls[0].answer(b"a")
    await running.end()
    assert (running.payload, later.payload) == (b"a", b"b")
    await until(lambda: stage.network.links[0].closed)
    await settle()
    assert stage.ready == ["b"]
    assert stage.network.attempts == 2


async def test_a_replica_that_says_goodbye_gets_no_further_calls(stage: Stage):
    one, other = stage.network.up("a", "b")
    await stage.apply("a")
    running = admit(stage.deployment)
    await one.called()
    one.link.goodbye()
    await until(lambda: stage.ready == [])
    waiting = admit(stage.deployment)
    await stage.apply("a", "b")
    assert stage.ready == ["b"]
    (await other.called()).answer()
    await waiting.end()
    one.calls[0].answer()
    await running.end()
    assert (running.outcome, waiting.outcome) == (None, None)


async def test_a_replica_that_had_said_goodbye_before_it_was_connected(stage: Stage):
    (replica,) = stage.network.up("a")
    connect = replica.connect

    def connect_late(on_load: Callable[[session_pb2.Load], None] | None = None) -> Link:
        link = connect(on_load)
        link.session.peer_refuses_above = 0
        return link

    replica.connect = connect_late  # type: ignore[method-assign]
    await stage.apply("a")
    assert stage.ready == []


async def test_a_replica_that_goes_while_it_is_being_connected(stage: Stage):
    stage.network.held = asyncio.Event()
    stage.network.up("a")
    await stage.apply("a", patience_s=0.0)
    await stage.apply()
    stage.network.held.set()
    await settle()
    assert (stage.ready, stage.network.links) == ([], [])


async def test_a_cancellation_that_connecting_swallows_brings_no_replica_back(stage: Stage):
    stage.network.held = asyncio.Event()
    stage.network.swallows = True
    stage.network.up("a")
    await stage.apply("a", patience_s=0.0)
    await stage.apply()
    await until(lambda: stage.network.links and stage.network.links[0].closed)
    assert stage.ready == []


async def test_a_replica_that_comes_back_under_its_id(stage: Stage):
    (replica,) = stage.network.up("a")
    await stage.apply("a")
    old = stage.deployment.replicas["a"]
    running = admit(stage.deployment)
    await replica.called()
    await stage.apply()
    await stage.apply("a")
    new = stage.deployment.replicas["a"]
    assert new is not old
    assert stage.deployment.ready == [new]
    second = admit(stage.deployment)
    await replica.called(2)
    assert (old.in_flight, new.in_flight) == (1, 1)
    for call in replica.calls:
        call.answer()
    await running.end()
    await second.end()
    assert (old.in_flight, new.in_flight) == (0, 0)


async def test_load_reports_reach_the_replica_and_wake(stage: Stage):
    (replica,) = stage.network.up("a")
    await stage.apply("a", slots=1)
    replica.slots = 0
    caller = admit(stage.deployment)
    await until(lambda: replica.refused)
    await settle()
    seen = stage.deployment.replicas["a"]
    assert (stage.deployment.queued, seen.in_flight, seen.load) == (1, 0, 1)
    replica.slots = 1
    replica.link.report_load()
    (await replica.called()).answer()
    await caller.end()
    assert seen.load == 0


async def test_reports_count_anew_with_each_connection(stage: Stage):
    stage.network.up("a")
    await stage.apply("a")
    seen = stage.deployment.replicas["a"]
    seen.report(session_pb2.Load(ongoing=5, sequence=1000))
    assert seen.load == 5
    stage.network.links[0].lose(ConnectionLostError("broken pipe"))
    await until(lambda: len(stage.network.links) == 2)
    assert (seen.sequence, seen.load) == (0, 0)


async def test_what_a_replica_says_while_it_is_being_connected_counts(stage: Stage):
    stage.network.up("a")
    stage.network.said = session_pb2.Load(ongoing=3, sequence=1)
    stage.network.said.models.model_ids.append("m")
    await stage.apply("a")
    (replica,) = stage.deployment.ready
    assert (replica.models, replica.load) == (frozenset("m"), 3)


async def test_closing_ends_everything(stage: Stage):
    one, other = stage.network.up("a", "b")
    await stage.apply("a", "b", "not there")
    calls = [admit(stage.deployment) for _ in range(4)]
    await until(lambda: len(one.calls) + len(other.calls) == 4)
    await stage.apply("b", "not there")  # a is seen off, with its calls
    await stage.upstreams.close()
    assert {caller.reason for caller in calls} <= {"REPLICA_LOST"}
    assert all(link.closed for link in stage.network.links)
