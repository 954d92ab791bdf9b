"""Streams, the same through every door: order, errors, ends, credit, cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import PATIENCE_S, Stage
from tests.e2e.stream_doors import AsyncHandleDoor, Door, GrpcDoor, HandleDoor, HttpDoor, RelayDoor, Source
from tests.e2e.streams_app import KILOBYTE, Relay, Streams

DOORS = {
    "processes": ["handle", "async handle", "between deployments", "grpc", "http"],
    "one process": ["handle", "async handle", "between deployments"],
}
pytestmark = pytest.mark.parametrize(
    ("world", "door"),
    [(world, door) for world, doors in DOORS.items() for door in doors],
    indirect=True,
    scope="module",
)


@dataclass(frozen=True)
class World:
    """Where the deployments run."""

    streams: DeploymentHandle
    relay: DeploymentHandle

    def door(self, name: str) -> Door:
        if name == "handle":
            return HandleDoor(self.streams)
        if name == "async handle":
            return AsyncHandleDoor(self.streams)
        if name == "between deployments":
            return RelayDoor(self.relay)
        (gateway,) = api.instance_status().gateways
        if name == "grpc":
            return GrpcDoor(gateway.grpc_address, "streams")
        return HttpDoor(f"http://{gateway.http_address}", "/streams")


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, state_directory: Any, stage: Stage) -> Iterator[World]:
    local = request.param == "one process"
    if not local:
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    app = Streams.bind(stage)
    streams = serve.run(app, name="streams", route_prefix="/streams", _local_testing_mode=local)
    relay = serve.run(Relay.bind(Streams.bind(stage)), name="relay", route_prefix="/relay", _local_testing_mode=local)
    yield World(streams, relay)
    serve.shutdown()


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest, world: World) -> Iterator[Door]:
    made = world.door(request.param)
    yield made
    made.close()


@pytest.fixture
def uploading(door: Door) -> Door:
    if not door.uploads:
        pytest.skip("its calls have no streams of arguments")
    return door


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def rest(items: Any) -> list[Any]:
    found = []
    while True:
        try:
            found.append(next(items))
        except StopIteration:
            return found


# -- results


@pytest.mark.parametrize("method", ["count", "count_async", "count_later"])
def test_all_items_in_order(door: Door, method: str) -> None:
    assert rest(door.stream(method, 2_000)) == list(range(2_000))


def test_a_stream_of_nothing(door: Door) -> None:
    assert rest(door.stream("nothing")) == []


@pytest.mark.parametrize("method", ["fail_after", "fail_after_async"])
def test_an_error_comes_after_the_items_before_it(door: Door, method: str) -> None:
    items = door.stream(method, 100)
    assert [next(items) for _ in range(100)] == list(range(100))
    with pytest.raises(Exception, match=r"no more|cut off|IncompleteRead") as caught:
        next(items)
    assert not isinstance(caught.value, StopIteration)


@pytest.mark.parametrize("method", ["kilobytes", "kilobytes_async"])
def test_a_reader_that_stops_stops_the_generator_and_cancelling_closes_it(
    door: Door, world: World, stage: Stage, key: str, method: str
) -> None:
    items = door.stream(method, key)
    assert next(items) == KILOBYTE
    counter = world.relay if isinstance(door, RelayDoor) else world.streams
    last, same = -1, 0
    deadline = time.monotonic() + PATIENCE_S
    while same < 5:  # looks in a row that saw no progress
        assert time.monotonic() < deadline
        time.sleep(0.02)
        now = counter.how_many.remote(key).result(timeout_s=PATIENCE_S)
        same = same + 1 if now == last else 0
        last = now
    assert 0 < last < 20_000  # what sockets buffer is the system's
    items.cancel()
    stage.wait_for(f"closed {key}")


@pytest.mark.parametrize("method", ["kilobytes", "kilobytes_async"])
def test_one_that_never_ends_ends_when_its_reader_leaves(door: Door, stage: Stage, key: str, method: str) -> None:
    items = door.stream(method, key)
    for _ in range(1_000):
        assert next(items) == KILOBYTE
    items.cancel()
    stage.wait_for(f"closed {key}")


def test_one_that_never_yields_is_cancelled(door: Door, stage: Stage, key: str) -> None:
    items = door.stream("silence", key)
    stage.wait_for(f"entered {key}")
    items.cancel()
    stage.wait_for(f"closed {key}")


def test_one_that_never_yields_meets_its_deadline(door: Door, stage: Stage, key: str) -> None:
    def call(key: str, time_s: float) -> None:
        items = door.stream("silence", key, timeout_s=time_s)
        with pytest.raises(Exception, match=r"(?i)deadline|timed out|408"):
            next(items)

    key = stage.meet_deadline("entered {}", key, call)
    stage.wait_for(f"closed {key}")


def test_a_slow_reader_among_eight_holds_up_nobody(door: Door, stage: Stage, key: str) -> None:
    slow = door.stream("kilobytes_async", key)
    assert next(slow) == KILOBYTE
    others = [door.stream("count", 3_000) for _ in range(7)]
    assert [rest(items) for items in others] == [list(range(3_000))] * 7
    for _ in range(600):  # it goes on where it stopped
        assert next(slow) == KILOBYTE
    slow.cancel()
    stage.wait_for(f"closed {key}")


# -- arguments, and both


@pytest.mark.parametrize("method", ["total", "total_in_thread"])
def test_a_stream_of_arguments(uploading: Door, method: str) -> None:
    assert rest(uploading.converse(method, Source(*range(1_000), closed=True), 1)) == [sum(range(1_000)) + 1]


def test_no_arguments_at_all(uploading: Door) -> None:
    assert rest(uploading.converse("total", Source(closed=True))) == [0]


@pytest.mark.parametrize("method", ["running_total", "running_total_in_thread"])
def test_a_conversation_answers_item_by_item(uploading: Door, method: str) -> None:
    source = Source()
    items = uploading.converse(method, source, 100)
    total = 100
    for number in range(20):
        source.put(number)
        total += number
        assert next(items) == total  # before the next one is sent
    source.close()
    assert rest(items) == []


def test_a_reader_that_stops_stops_the_sender(uploading: Door, stage: Stage, key: str) -> None:
    source = Source(*[KILOBYTE * 8] * 3_000)
    items = uploading.converse("take_one", source, key)
    stage.wait_for(f"took one {key}")
    last, same = -1, 0
    deadline = time.monotonic() + PATIENCE_S
    while same < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        same = same + 1 if source.taken == last else 0
        last = source.taken
    assert last < 2_500
    stage.open(key)
    assert next(items) == KILOBYTE * 8
    source.close()


def test_cancelling_a_conversation_closes_both_sides(uploading: Door, stage: Stage, key: str) -> None:
    source = Source(1)
    items = uploading.converse("listen", source, key)
    stage.wait_for(f"heard {key}")
    items.cancel()
    stage.wait_for(f"closed {key}")
    source.close()
    with suppress(Exception):
        next(items)
