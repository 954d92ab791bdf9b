"""What a worker tells of its calls: exact, bounded in rate, and at once where somebody waits for a first replica."""

import asyncio

import pytest

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.routing import load_reports
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.load_reports import LoadReports
from fairlead_gateway.routing.table import RouteTable
from tests.routing.fake_replica import FakeClock, FakeReplica
from tests.wire.calls import PATIENCE


class Silent:
    """A caller who only waits."""

    def on_message(self, payload, more):
        pass

    def on_end(self, outcome, payload):
        pass

    def on_writable(self):
        pass


def snapshot(version=1, **changes):
    deployment = control_pb2.DeploymentRoutes(
        name="Echo", **{"max_ongoing_requests": 2, "max_queued_requests": -1, "autoscaled": True, **changes}
    )
    fixed = control_pb2.DeploymentRoutes(name="Fixed", max_ongoing_requests=2, max_queued_requests=-1)
    routes = control_pb2.ApplicationRoutes(name="app", ingress_deployment="Echo", deployments=[deployment, fixed])
    return control_pb2.WatchResponse(version=version, applications=[routes])


def call():
    return Call(session_pb2.CallHeader(), b"", Silent(), Trust.OWNER, False, True)


@pytest.fixture
def table():
    return RouteTable(FakeClock())


@pytest.fixture
async def told(table):
    """What a running reporter tells, in order."""
    reports, said = LoadReports(table), asyncio.Queue()
    task = asyncio.create_task(reports.run([], said.put))
    yield said
    task.cancel()


async def next_of(said):
    async with asyncio.timeout(PATIENCE):
        loads = await said.get()
    return [(load.application, load.deployment, load.ongoing, load.queued) for load in loads]


async def test_calls_that_run_and_wait_are_counted(table):
    reports = LoadReports(table)
    table.apply(snapshot(replicas=[control_pb2.ReplicaRoute(replica_id="r", address="wire:/r")]))
    deployment = table.find("app", "Echo")
    replica = FakeReplica("app#Echo#r").join(deployment)
    deployment.replicas = {"r": replica.replica}
    for _ in range(5):
        deployment.admit(call())
    (load,) = reports.loads()
    assert (load.ongoing, load.queued) == (2, 3)
    table.find("app", "Fixed").admit(call())
    assert len(reports.loads()) == 1, "only those that scale"
    replica.die()


async def test_a_first_call_without_replicas_is_told_at_once(table, told, monkeypatch):
    monkeypatch.setattr(load_reports, "PERIOD_S", 3600.0)
    table.apply(snapshot())
    await asyncio.sleep(0)
    table.find("app", "Echo").admit(call())
    assert await next_of(told) == [("app", "Echo", 0, 1)]


async def test_changes_are_told_once_per_period(table, told):
    table.apply(snapshot())
    deployment = table.find("app", "Echo")
    waiting = [call() for _ in range(3)]
    for one in waiting:
        deployment.admit(one)
    assert await next_of(told) == [("app", "Echo", 0, 3)]
    for one in waiting:
        one.cancel()
    assert await next_of(told) == []
    assert told.empty()


async def test_a_deployment_that_does_not_scale_any_more_is_not_told(table, told):
    table.apply(snapshot())
    table.find("app", "Echo").admit(call())
    assert await next_of(told) == [("app", "Echo", 0, 1)]
    table.apply(snapshot(version=2, autoscaled=False))
    assert await next_of(told) == []
