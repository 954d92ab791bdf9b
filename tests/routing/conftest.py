"""Deployments for the routing's tests, with time that stands still."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import FakeClock, FakeReplica, routes
from tests.wire.calls import PATIENCE


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def tidy() -> AsyncIterator[None]:
    """Fails a test that leaves tasks behind."""
    yield
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        _, rest = await asyncio.wait(rest, timeout=PATIENCE)
    assert not rest


@pytest.fixture
async def deployment(clock: FakeClock, tidy: None) -> Deployment:
    """One with a slot per replica, and without replicas."""
    made = Deployment("app", "Echo", clock, random.Random(1).random)
    made.configure(routes(slots=1))
    return made


@pytest.fixture
async def join(deployment: Deployment) -> AsyncIterator[Callable[[str], FakeReplica]]:
    """Adds replicas to the deployment; their links end with the test."""
    made: list[FakeReplica] = []

    def add(name: str = "a", slots: int = 1_000_000) -> FakeReplica:
        replica = FakeReplica(f"app#Echo#{name}", slots).join(deployment)
        made.append(replica)
        return replica

    yield add
    for replica in made:
        replica.die()
