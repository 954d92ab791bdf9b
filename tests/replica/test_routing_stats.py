"""The statistics that replicas collect for request routers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead_replica.callable import UserCallable
from fairlead_replica.hooks import Hooks
from fairlead_replica.routing_stats import MAX_BYTES, collect_forever
from fairlead_replica.runtime import Runtime
from tests.replica.calling import until


class Recording:
    """Returns, or raises, one thing after the other; the last one for ever."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls = 0

    def record_routing_stats(self) -> Any:
        self.calls += 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


async def collected(target: Any, *, enough: int = 6, timeout_s: float = 5) -> list[bytes]:
    hooks = Hooks(UserCallable(target))
    settings = control_pb2.DeploymentSettings()
    settings.request_router.stats_period_s = 0.001
    settings.request_router.stats_timeout_s = timeout_s
    reports: list[bytes] = []
    task = asyncio.create_task(collect_forever(hooks.record_routing_stats, settings, reports.append))
    await until(lambda: target.calls >= enough)
    task.cancel()
    return reports


async def test_changes_are_reported() -> None:
    assert await collected(Recording({"a": 1}, {"a": 1}, {"a": 2})) == [b'{"a":1}', b'{"a":2}']


async def test_what_is_wrong_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [ValueError("on purpose"), 5, {"lock": object()}, {"much": "x" * MAX_BYTES}]
    assert await collected(Recording({"a": 1}, *wrong, {"a": 2}), enough=7) == [b'{"a":1}', b'{"a":2}']
    for text in ("on purpose", "must return a dict", "not JSON serializable", "the limit is"):
        assert text in caplog.text


async def test_one_that_hangs_is_given_up() -> None:
    class Hanging:
        calls = 0

        async def record_routing_stats(self) -> dict[str, int]:
            self.calls += 1
            if self.calls == 1:
                await asyncio.Event().wait()
            return {"call": 2}

    assert (await collected(Hanging(), enough=3, timeout_s=0.01))[0] == b'{"call":2}'


async def test_every_gateway_hears_of_them_once_each() -> None:
    links: set[Link] = set()
    runtime = Runtime(UserCallable(Recording({})), max_ongoing_requests=1, links=links)
    loads: list[session_pb2.Load] = []

    def connect() -> Link:
        opener, acceptor = link_pair(runtime.accept)
        opener._on_load = loads.append
        links.add(acceptor)
        runtime.opened(acceptor)
        return opener

    def told() -> list[bytes]:
        return [load.routing_stats for load in loads if load.HasField("routing_stats")]

    openers = [connect()]
    runtime.report_stats(b'{"a":1}')
    await until(lambda: told() == [b'{"a":1}'])
    openers.append(connect())
    await until(lambda: len(told()) == 2)
    for link in links:
        link.report_load()
    await until(lambda: len(loads) >= 4)
    assert len(told()) == 2
    for opener in openers:
        await opener.close()
