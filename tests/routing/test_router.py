"""Where every call passes: trust, names, deadline, draining, request ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import cloudpickle
import pytest

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.router import MAX_NAME, Router
from tests.routing.fake_replica import Caller, FakeReplica, application, routes, snapshot
from tests.wire.calls import until

JSON = session_pb2.SERIALIZATION_JSON
CLOUDPICKLE = session_pb2.SERIALIZATION_CLOUDPICKLE
PICKLE = session_pb2.SERIALIZATION_PICKLE


@pytest.fixture
async def router(tidy: None) -> Router:
    made = Router(asyncio.get_running_loop())
    made.table.apply(snapshot(application(routes("app#Echo#a", slots=10))))
    return made


@pytest.fixture
async def replica(router: Router) -> AsyncIterator[FakeReplica]:
    deployment = router.table.find("app", "Echo")
    made = FakeReplica("app#Echo#a").join(deployment)
    yield made
    made.die()


def start(router: Router, payload: bytes = b"[[], {}]", trust: Trust = Trust.UNTRUSTED, **fields: Any) -> Caller:
    caller = Caller()
    options = {name: fields.pop(name) for name in ("more", "last") if name in fields}
    header = session_pb2.CallHeader(
        **({"request_serialization": JSON, "response_serialization": JSON} | fields),
    )
    caller.call = router.start(header, payload, caller, trust=trust, **options)
    return caller


class Canary:
    """Leaves a trace when it is unpickled."""

    unpickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (_sing, ())


def _sing() -> Canary:
    Canary.unpickled += 1
    return Canary()


async def test_a_call_is_answered_by_a_replica(router: Router, replica: FakeReplica):
    caller = start(router, b"hello", application="app", deployment="Echo", method="greet")
    call = await replica.called()
    assert (call.header.method, call.request) == ("greet", b"hello")
    call.answer(b"world")
    await caller.end()
    assert caller.payload == b"world"


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("serialization", [CLOUDPICKLE, PICKLE])
@pytest.mark.parametrize("field", ["request_serialization", "response_serialization"])
async def test_pickles_from_who_is_not_trusted_are_refused_before_anything(
    router: Router, replica: FakeReplica, field: str, serialization: int, broadcast: bool
):
    canary = cloudpickle.dumps(((Canary(),), {}))
    router.draining = True  # whatever else is wrong with the call, this is said
    for name in ("app", "unknown"):
        caller = start(router, canary, application=name, broadcast=broadcast, **{field: serialization})
        assert caller.reason == "UNTRUSTED_SERIALIZATION"
        assert caller.outcome is not None
        assert "use one of: msgpack, orjson" in caller.outcome.status.message
    assert not replica.calls
    assert Canary.unpickled == 0
    cloudpickle.loads(canary)
    assert Canary.unpickled == 1  # it would have sung
    Canary.unpickled = 0


@pytest.mark.parametrize("trust", [Trust.OWNER, Trust.AUTHENTICATED])
async def test_pickles_from_who_is_trusted_pass_untouched(router: Router, replica: FakeReplica, trust: Trust):
    canary = cloudpickle.dumps(((Canary(),), {}))
    start(router, canary, trust, request_serialization=CLOUDPICKLE, response_serialization=PICKLE)
    assert (await replica.called()).request == canary
    assert Canary.unpickled == 0


@pytest.mark.parametrize("serialization", [0, 99, session_pb2.SERIALIZATION_HTTP])
async def test_an_unknown_serialization_is_refused(router: Router, serialization: int):
    caller = start(router, request_serialization=serialization)
    assert caller.reason == "UNKNOWN_SERIALIZATION"
    assert caller.outcome is not None
    assert "available: cloudpickle, pickle, msgpack, orjson" in caller.outcome.status.message


@pytest.mark.parametrize("broadcast", [False, True])
async def test_an_unknown_name_is_refused(router: Router, broadcast: bool):
    assert start(router, application="nope", broadcast=broadcast).reason == "APPLICATION_NOT_FOUND"
    assert start(router, deployment="nope", broadcast=broadcast).reason == "DEPLOYMENT_NOT_FOUND"


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize(
    "field", ["application", "deployment", "method", "request_id", "multiplexed_model_id", "session_id"]
)
async def test_a_name_too_long_is_refused(router: Router, replica: FakeReplica, field: str, broadcast: bool):
    caller = start(router, broadcast=broadcast, **{field: "x" * (MAX_NAME + 1)})
    assert caller.reason == "INVALID_CALL"
    assert caller.outcome is not None
    assert "a name of 1025 characters; the limit is 1024" in caller.outcome.status.message


async def test_a_draining_router_starts_nothing_and_finishes_what_runs(router: Router, replica: FakeReplica):
    running = start(router)
    call = await replica.called()
    router.draining = True
    for broadcast in (False, True):
        refused = start(router, broadcast=broadcast)
        assert refused.reason == "GATEWAY_DRAINING"
    call.answer()
    await running.end()
    assert running.payload == b"answer"
    assert len(replica.calls) == 1


async def test_request_ids_are_kept_or_made(router: Router, replica: FakeReplica):
    start(router, request_id="mine")
    assert (await replica.called()).header.request_id == "mine"
    start(router)
    start(router)
    await replica.called(3)
    made = {call.header.request_id for call in replica.calls[1:]}
    assert len(made) == 2
    assert all(len(each) == 32 and int(each, 16) for each in made)


async def test_the_deadline_passes_while_a_call_waits(router: Router):
    caller = start(router, application="", deployment="", method="greet", timeout_us=20_000)
    assert not caller.ends
    await caller.end()
    assert caller.reason == "DEADLINE_EXCEEDED"
    assert caller.message == (
        "the deadline of the call to app#Echo.greet passed while it was waiting for a free replica, after 0.02 s"
    )
    assert router.table.find("app", "Echo").queued == 0


async def test_the_deadline_passes_while_a_call_runs(router: Router, replica: FakeReplica):
    caller = start(router, timeout_us=50_000)
    call = await replica.called()
    assert 0 < call.header.timeout_us <= 50_000
    await until(lambda: call.cancelled)
    assert caller.reason == "DEADLINE_EXCEEDED"
    assert caller.message == (
        "the deadline of the call to app#Echo.__call__ passed while it was running on app#Echo#a, "
        f"after {call.header.timeout_us * 1e-6:.3g} s"
    )


async def test_a_call_that_ends_in_time_leaves_no_timer(router: Router, replica: FakeReplica):
    caller = start(router, timeout_us=60_000_000)
    (await replica.called()).answer()
    await caller.end()
    assert caller.call.timer is None


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("timeout_us", [2**63, 2**64 - 1])
async def test_a_timeout_beyond_all_bounds_is_a_long_one(
    router: Router, replica: FakeReplica, timeout_us: int, broadcast: bool
):
    caller = start(router, timeout_us=timeout_us, broadcast=broadcast)
    (await replica.called()).answer()
    await caller.end()
    assert caller.outcome is None


async def test_a_broadcast_without_replicas_is_refused(router: Router):
    router.table.apply(snapshot(application(routes(unavailable_message="the constructor failed"))))
    caller = start(router, broadcast=True)
    assert caller.reason == "DEPLOYMENT_UNAVAILABLE"
    assert caller.outcome is not None
    assert caller.outcome.status.message == "the constructor failed"


async def test_a_broadcast_is_answered_by_all(router: Router, replica: FakeReplica):
    caller = start(router, broadcast=True)
    call = await replica.called()
    assert call.header.broadcast
    assert len(call.header.request_id) == 32
    call.head("whose", b"one of many")
    call.answer(b"1")
    await caller.end()
    assert not caller.heads
    answers = [serving_pb2.BroadcastResponse.FromString(message) for message, _ in caller.messages]
    assert list(answers[0].replicas.replica_ids) == ["app#Echo#a"]
    assert answers[1].result.payload.content_type == "application/json"
