"""How the user's class ends: the time that its calls have, and what is said of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from fairlead.serve.context import ReplicaContext, ReplicaName
from fairlead.serve.multiplexing.registry import Registry
from fairlead.v1 import control_pb2
from fairlead_replica.hosting import Hosted, host
from tests.wire.calls import PATIENCE


class Tidy:
    ended = 0

    def __call__(self) -> None: ...

    def __del__(self) -> None:
        type(self).ended += 1


async def hosted() -> Hosted:
    return await host(
        Tidy,
        (),
        {},
        settings=control_pb2.DeploymentSettings(max_ongoing_requests=1),
        context=ReplicaContext(app_name="app", deployment="Tidy", replica_id=ReplicaName("app#Tidy#abc")),
        set_context=lambda context: None,
        registry=Registry(),
        links=set(),
    )


@pytest.mark.parametrize(("timeout_s", "for_calls_s"), [(0, 0), (1, 0.5), (2, 1), (20, 19)])
async def test_calls_have_at_least_half_of_the_time(
    timeout_s: float, for_calls_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait_for = asyncio.wait_for

    async def noted(awaitable: Awaitable[Any], timeout: float | None) -> Any:
        waits.append(timeout)
        return await wait_for(awaitable, timeout)

    ending = await hosted()
    monkeypatch.setattr(asyncio, "wait_for", noted)
    await ending.end(timeout_s)
    assert waits[0] == for_calls_s


@pytest.mark.parametrize("timeout_s", [0, 0.5, 20])
async def test_nothing_is_said_of_calls_where_none_ran(timeout_s: float, caplog: pytest.LogCaptureFixture) -> None:
    before = Tidy.ended
    await (await hosted()).end(timeout_s)
    assert Tidy.ended == before + 1
    assert caplog.messages == []


async def test_it_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    await (await hosted()).end(20)
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, PATIENCE)
        assert not thread.is_alive()
