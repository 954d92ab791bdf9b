"""Broadcasts: rows A24 to A30 of the classic page, section 3 of the modern one, and what goes beyond."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fairlead.serve.exceptions import (
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from fairlead.serve.handle import DeploymentBroadcastResponse
from fairlead.wire.errors import ReplicaDrainingError, UntrustedSerializationError
from fairlead.wire.trust import Trust

TIMEOUT_S = 60


async def never(*args, **kwargs):
    await asyncio.Event().wait()


def lost(*args):
    raise KeyError  # the fake gateway says nothing of that replica


@pytest.fixture
def three(gateway):
    gateway.replicas = {name: lambda *args, name=name, **kwargs: [name, *args, kwargs] for name in "abc"}
    return gateway


def test_results(three, handle):
    response = handle.broadcast("add", 1, b=2)
    assert type(response) is DeploymentBroadcastResponse
    expected = [[name, 1, {"b": 2}] for name in "abc"]
    assert response.results() == expected
    assert response.results(timeout_s=TIMEOUT_S, return_exceptions=True) == expected
    header = three.calls[0].header
    assert (header.method, header.broadcast, header.stream) == ("add", True, False)


async def test_results_async(three, handle):
    response = handle.broadcast("m")
    assert await response.results_async(timeout_s=TIMEOUT_S) == await response
    with pytest.raises(RuntimeError, match="Sync methods"):
        response.results()
    assert set(await response.results_by_replica_async()) == {"a", "b", "c"}


def test_it_is_sent_at_once(three, handle):
    seen = threading.Barrier(4)
    three.replicas = {name: lambda: asyncio.to_thread(seen.wait, TIMEOUT_S) for name in "abc"}
    response = handle.broadcast("reset_cache")
    seen.wait(TIMEOUT_S)
    assert len(response.results()) == 3


def test_the_handles_method_and_stream_do_not_count(three, handle):
    response = handle.options(stream=True, method_name="other", response_serialization="msgpack").broadcast("m")
    assert len(response.results()) == 3
    assert three.calls[0].header.method == "m"


def test_by_replica(three, handle):
    three.replicas["b"] = lambda: 1 / 0
    response = handle.broadcast("m")
    found = response.results_by_replica()
    assert found["a"] == ["a", {}]
    assert isinstance(found["b"], ZeroDivisionError)
    assert "there" in str(found["b"].__cause__)
    assert response.replica_ids == ["a", "b", "c"]
    assert response.skipped == []


async def test_the_first_failure_in_order_is_raised(three, handle):
    def second():
        raise ValueError("second")

    three.replicas |= {"b": second, "c": never}
    response = handle.broadcast("m")
    with pytest.raises(ValueError, match="second"):
        await response
    with pytest.raises(ValueError, match="second"):
        await asyncio.to_thread(response.results)
    response.cancel()


@pytest.mark.parametrize("blocking", [True, False])
async def test_timeouts_are_the_same_in_both_forms(three, handle, blocking):
    three.replicas["b"] = never
    response = handle.broadcast("m")

    async def results(**kwargs):
        if blocking:
            return await asyncio.to_thread(response.results, **kwargs)
        return await response.results_async(**kwargs)

    with pytest.raises(TimeoutError):
        await results(timeout_s=0.05)
    a, b, c = await results(timeout_s=0.05, return_exceptions=True)
    while TimeoutError in (type(a), type(c)):  # they had not answered yet, on a busy machine
        a, b, c = await results(timeout_s=0.05, return_exceptions=True)
    assert (a, c) == (["a", {}], ["c", {}])
    assert isinstance(b, TimeoutError)
    with pytest.raises(ValueError, match="timeout_s"):
        await results(timeout_s=-1)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await results(timeout_s=TIMEOUT_S)


def test_dead_and_draining_replicas_are_reported(three, handle):
    def draining():
        raise ReplicaDrainingError("on its way out")

    three.replicas |= {"a": lost, "b": draining}
    response = handle.broadcast("m")
    found = response.results_by_replica()
    assert isinstance(found["a"], ReplicaUnavailableError)
    assert isinstance(found["b"], ReplicaDrainingError)
    assert response.skipped == ["b"]
    with pytest.raises(ReplicaUnavailableError):
        response.results()


def test_an_exception_may_be_a_result(three, handle):
    three.replicas = {"a": lambda: ValueError("returned")}
    assert str(handle.broadcast("m").results()[0]) == "returned"


def test_no_replicas(gateway, handle):
    async def unavailable(*args):
        raise DeploymentUnavailableError("there are no replicas")

    gateway.replicas = {}

    class NoReplicas(dict):
        def __iter__(self):
            raise DeploymentUnavailableError("there are no replicas")

    gateway.replicas = NoReplicas()
    for return_exceptions in (True, False):
        with pytest.raises(DeploymentUnavailableError):
            handle.broadcast("m").results(return_exceptions=return_exceptions)


def test_arguments_are_resolved_once(three, handle):
    response = handle.broadcast("m", handle.remote(5))
    assert [result[1] for result in response.results()] == [5, 5, 5]
    with pytest.raises(RayServeException, match="not serializable"):
        handle.broadcast("m", [handle.remote(5)]).results()


def test_large_results(three, handle):
    three.replicas = {"a": lambda: bytes(500_000), "b": lambda: 1}
    assert handle.broadcast("m").results() == [bytes(500_000), 1]


def test_on_an_untrusted_connection(three, handle):
    with three.connected(Trust.UNTRUSTED):
        with pytest.raises(UntrustedSerializationError):
            handle.broadcast("m").results(timeout_s=TIMEOUT_S)
        safe = handle.options(request_serialization="orjson", response_serialization="orjson")
        assert len(safe.broadcast("m").results(timeout_s=TIMEOUT_S)) == 3
