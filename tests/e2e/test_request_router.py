"""A request router of the user's against real processes, and in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.config import RequestRouterConfig
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.request_router_app import ThroughputAware, Workers

LIMIT_S = 60


@pytest.fixture(params=["processes", "local testing mode"])
def workers(request: pytest.FixtureRequest, state_directory: Any) -> Iterator[DeploymentHandle]:
    if request.param == "processes":
        serve.start(proxy_location="Disabled")
    yield serve.run(Workers.bind(), _local_testing_mode=request.param != "processes")
    serve.shutdown()


def until_all_go_to(handle: DeploymentHandle, work: float) -> None:
    """Statistics take their time to the gateway."""
    deadline = time.monotonic() + LIMIT_S
    while {handle.remote().result(timeout_s=LIMIT_S) for _ in range(10)} != {work}:
        assert time.monotonic() < deadline


def test_calls_follow_what_replicas_report(workers: DeploymentHandle) -> None:
    figures = workers.broadcast("__call__").results(timeout_s=LIMIT_S)
    until_all_go_to(workers, min(figures))
    workers.set.remote(2.0).result(timeout_s=LIMIT_S)  # the one that was preferred
    until_all_go_to(workers, sorted(figures)[1])


def test_where_the_router_fails_calls_go_by_power_of_two_choices(workers: DeploymentHandle) -> None:
    failing = workers.options(session_id="fail")
    answers = {failing.remote().result(timeout_s=LIMIT_S) for _ in range(100)}
    assert len(answers) == 3


def test_a_router_by_value(workers: DeploymentHandle) -> None:
    class Most(ThroughputAware):
        async def choose_replicas(self, candidate_replicas: Any, pending_request: Any = None) -> Any:
            return [[max(candidate_replicas, key=lambda each: each.routing_stats.get(self.statistic, 0))]]

    config = RequestRouterConfig(
        request_router_class=Most,
        request_router_kwargs={"statistic": "work"},
        request_routing_stats_period_s=0.02,
    )
    local = "LocalInstance" in repr(serve.api.existing_instance())
    handle = serve.run(Workers.options(request_router_config=config).bind(), _local_testing_mode=local)
    until_all_go_to(handle, max(handle.broadcast("__call__").results(timeout_s=LIMIT_S)))
