"""Slots that callers hold: they queue and count as calls do, and are used once, by a call for the same deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import DeploymentUnavailableError, ReplicaBusyError, ReplicaDrainingError
from fairlead.wire.memory import link_pair
from fairlead.wire.stream import Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.session_door import _SessionCall
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import Caller, FakeReplica, application, routes, settle, snapshot
from tests.wire.calls import until

JSON = session_pb2.SERIALIZATION_JSON
SLOTS = 2


def describe(router: Router, *replica_ids: str, **fields: Any) -> None:
    echo = routes(*replica_ids, **({"slots": SLOTS, "max_queued": 2} | fields))
    router.table.apply(snapshot(application(echo, routes(name="Other"))))


@pytest.fixture
async def router(tidy: None) -> Router:
    made = Router(asyncio.get_running_loop())
    describe(made, "app#Echo#a")
    return made


@pytest.fixture
async def deployment(router: Router) -> Deployment:
    return router.table.find("app", "Echo")


@pytest.fixture
async def replica(deployment: Deployment) -> AsyncIterator[FakeReplica]:
    made = FakeReplica("app#Echo#a")
    made.replica = deployment.replicas["app#Echo#a"]
    made.join(deployment)
    yield made
    made.die()


def start(router: Router, payload: bytes = b"request", trust: Trust = Trust.OWNER, **fields: Any) -> Caller:
    caller = Caller()
    options = {name: fields.pop(name) for name in ("more", "last") if name in fields}
    named = {"application": "app", "deployment": "Echo", "request_serialization": JSON, "response_serialization": JSON}
    caller.call = router.start(session_pb2.CallHeader(**named | fields), payload, caller, trust=trust, **options)
    return caller


def reserve(router: Router, **fields: Any) -> Caller:
    return start(router, b"", reserve=True, stream=True, **fields)


def selection(caller: Caller) -> session_pb2.ReplicaSelection:
    """What a caller that holds a slot was told."""
    assert not caller.ends, caller.reason
    ((message, more),) = caller.messages
    assert not more
    return session_pb2.ReplicaSelection.FromString(message)


def use(router: Router, holder: Caller, payload: bytes = b"request", **fields: Any) -> Caller:
    return start(router, payload, reservation_id=selection(holder).reservation_id, **fields)


def counts(replica: FakeReplica) -> tuple[int, int, int]:
    return replica.replica.in_flight, replica.replica.load, replica.replica.reserved


# -- taking a slot


async def test_a_reservation_takes_a_slot_and_sends_nothing(router: Router, replica: FakeReplica):
    one, other = reserve(router), reserve(router)
    assert (selection(one).replica_id, selection(one).address) == ("app#Echo#a", "memory:app#Echo#a")
    assert len(selection(one).reservation_id) >= 22
    assert selection(one).reservation_id != selection(other).reservation_id
    assert counts(replica) == (2, 2, 2)
    assert repr(router.reservations) == "<Reservations held=2 waiting=0>"
    assert "holds app#Echo#a" in repr(one.call)
    waits = start(router)
    await settle()
    assert not replica.calls
    assert "waiting" in repr(waits.call)


async def test_who_is_not_trusted_does_not_see_addresses(router: Router, replica: FakeReplica):
    holder = reserve(router, trust=Trust.UNTRUSTED)
    assert (selection(holder).address, selection(holder).replica_id) == ("", "app#Echo#a")
    assert use(router, holder, trust=Trust.UNTRUSTED).ends == 0


async def test_a_reservation_waits_in_the_queue_of_calls(router: Router, replica: FakeReplica):
    first, second, third, fourth = start(router), start(router), reserve(router), start(router)
    refused = reserve(router)
    assert refused.reason == "QUEUE_FULL"
    assert repr(router.reservations) == "<Reservations held=0 waiting=1>"
    await replica.called(2)
    replica.calls[0].answer()
    await first.end()
    assert selection(third).replica_id == "app#Echo#a"
    assert not fourth.ends
    assert len(replica.calls) == 2
    replica.calls[1].answer()
    await second.end()
    await replica.called(3)


async def test_cancelling_gives_the_slot_to_who_waits_longest(router: Router, replica: FakeReplica):
    one, other = reserve(router), reserve(router)
    waits = start(router, b"next")
    one.call.cancel()
    assert one.reason == "CANCELLED"
    assert (await replica.called()).request == b"next"
    assert counts(replica) == (2, 2, 1)
    one.call.cancel()
    other.call.cancel()
    replica.calls[0].answer()
    await waits.end()
    assert counts(replica) == (0, 0, 0)


async def test_cancelling_while_it_waits_leaves_the_queue(router: Router, deployment: Deployment, replica: FakeReplica):
    held = [reserve(router) for _ in range(SLOTS)]
    waits = reserve(router)
    assert deployment.queued == 1
    waits.call.cancel()
    assert (waits.reason, waits.messages, deployment.queued) == ("CANCELLED", [], 0)
    for holder in held:
        holder.call.cancel()
    assert counts(replica) == (0, 0, 0)
    assert repr(router.reservations) == "<Reservations held=0 waiting=0>"


async def test_the_deadline_is_for_waiting(router: Router, replica: FakeReplica):
    held = [reserve(router, timeout_us=20_000) for _ in range(SLOTS)]
    late = reserve(router, timeout_us=20_000)
    await late.end()
    assert late.reason == "DEADLINE_EXCEEDED"
    assert late.message.endswith("passed while it was waiting for a free replica, after 0.02 s")
    after = reserve(router, timeout_us=1)
    await after.end()
    assert [holder.ends for holder in held] == [0, 0]
    assert counts(replica) == (2, 2, 2)


async def test_a_reservation_has_no_arguments(router: Router, deployment: Deployment, replica: FakeReplica):
    holder = start(router, b"arguments", reserve=True, more=True, last=False)
    assert holder.call.send(bytes(1000)) is True
    assert selection(holder).replica_id
    assert (deployment.queued_bytes, deployment.kept_bytes) == (0, 0)


async def test_affinity_holds_for_reservations(router: Router, deployment: Deployment):
    describe(router, *"abcd", slots=10)
    replicas = []
    for name in "abcd":
        replica = FakeReplica(name)
        replica.replica = deployment.replicas[name]
        replicas.append(replica.join(deployment))
    chosen = set()
    for _ in range(10):
        holder = reserve(router, session_id="s")
        chosen.add(selection(holder).replica_id)
        holder.call.cancel()
    assert len(chosen) == 1
    for replica in replicas:
        replica.die()


async def test_reports_of_a_replica_do_not_count_reservations(router: Router, replica: FakeReplica):
    reserve(router)
    replica.replica.report(session_pb2.Load(ongoing=1, sequence=1))  # one call, of another gateway
    assert (replica.replica.elsewhere, replica.replica.load) == (1, 2)


async def test_a_replica_that_takes_no_calls_has_no_slots(router: Router, replica: FakeReplica):
    assert replica.replica.link is not None
    replica.replica.link.session.peer_refuses_above = 0  # said, but not yet heard of
    holder = reserve(router)
    assert not holder.messages
    assert counts(replica) == (0, 0, 0)


async def test_a_deployment_that_cannot_serve_says_so(router: Router):
    describe(router, unavailable_message="it broke")
    assert reserve(router).reason == "DEPLOYMENT_UNAVAILABLE"
    assert DeploymentUnavailableError.never_started


# -- using it


async def test_a_call_runs_in_its_slot_past_those_that_wait(router: Router, replica: FakeReplica):
    holder, other = reserve(router), reserve(router)
    waits = start(router, b"waits")
    caller = use(router, holder, b"mine", method="greet")
    assert (holder.ends, holder.outcome, holder.payload) == (1, None, None)
    assert counts(replica) == (2, 2, 1)
    call = await replica.called()
    assert (call.header.method, call.request) == ("greet", b"mine")
    call.answer(b"done")
    await caller.end()
    assert (caller.outcome, caller.payload) == (None, b"done")
    assert (await replica.called(2)).request == b"waits"
    assert not other.ends
    assert not waits.ends


async def test_streams_both_ways_use_a_slot_too(router: Router, deployment: Deployment, replica: FakeReplica):
    caller = use(router, reserve(router), b"1", stream=True, last=False)
    call = await replica.called()
    assert caller.call.send(b"2")
    caller.call.send(b"3", last=True)
    await until(lambda: call.complete)
    assert call.request == b"123"
    assert deployment.kept_bytes == 0  # it is never sent again
    call.send(b"item")
    call.answer(None)
    await caller.end()
    assert caller.messages == [(b"item", False)]


@pytest.mark.parametrize("reservation_id", ["", "unknown", "x" * 100_000])
async def test_unknown_reservations(router: Router, replica: FakeReplica, reservation_id: str):
    caller = start(router, reservation_id=reservation_id)
    assert caller.reason == "RESERVATION_NOT_FOUND"
    assert not replica.calls


async def test_a_reservation_is_used_once(router: Router, replica: FakeReplica):
    holder = reserve(router)
    reservation_id = selection(holder).reservation_id
    use(router, holder)
    assert start(router, reservation_id=reservation_id).reason == "RESERVATION_NOT_FOUND"
    assert counts(replica) == (1, 1, 0)
    holder.call.cancel()  # it crossed the end
    assert counts(replica) == (1, 1, 0)


async def test_a_reservation_that_was_given_up_cannot_be_used(router: Router, replica: FakeReplica):
    holder = reserve(router)
    reservation_id = selection(holder).reservation_id
    holder.call.cancel()
    assert start(router, reservation_id=reservation_id).reason == "RESERVATION_NOT_FOUND"


async def test_a_reservation_is_its_deployments(router: Router, replica: FakeReplica):
    holder = reserve(router)
    assert use(router, holder, deployment="Other").reason == "RESERVATION_NOT_FOUND"
    assert not use(router, holder).ends


async def test_a_broadcast_has_no_reservation(router: Router, replica: FakeReplica):
    holder = reserve(router)
    assert reserve(router, broadcast=True).reason == "INVALID_CALL"
    assert use(router, holder, broadcast=True).reason == "INVALID_CALL"
    assert not use(router, holder).ends


async def test_a_deadline_of_the_call_holds(router: Router, replica: FakeReplica):
    caller = use(router, reserve(router), timeout_us=20_000)
    await caller.end()
    assert caller.reason == "DEADLINE_EXCEEDED"
    await until(lambda: replica.calls[0].cancelled)
    replica.calls[0].answer()
    await until(lambda: counts(replica) == (0, 0, 0))


# -- failures


async def test_a_replica_that_was_lost_cannot_be_used(router: Router, deployment: Deployment, replica: FakeReplica):
    holder = reserve(router)
    replica.die()
    caller = use(router, holder)
    assert caller.reason == "REPLICA_LOST"
    assert (holder.ends, holder.outcome) == (1, None)
    assert counts(replica) == (0, 0, 0)


async def test_a_replica_that_is_not_listed_any_more_cannot_be_used(router: Router, replica: FakeReplica):
    holder, gives_up = reserve(router), reserve(router)
    describe(router)
    caller = use(router, holder, idempotent=True)
    assert caller.reason == "REPLICA_LOST"
    gives_up.call.cancel()
    assert counts(replica) == (0, 0, 0)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_call_whose_replica_dies_is_not_sent_elsewhere(
    router: Router, deployment: Deployment, replica: FakeReplica, idempotent: bool
):
    other = FakeReplica("app#Echo#b").join(deployment)
    holder = reserve(router)
    chosen = replica if selection(holder).replica_id == "app#Echo#a" else other
    caller = use(router, holder, idempotent=idempotent)
    await chosen.called()
    chosen.die()
    await caller.end()
    assert caller.reason == "REPLICA_LOST"
    assert counts(chosen) == (0, 0, 0)
    assert len([*other.calls, *replica.calls]) == 1
    other.die()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReplicaDrainingError("draining"), "REPLICA_LOST"),
        (ReplicaBusyError("busy"), "REPLICA_BUSY"),
        (ValueError("the user's"), "USER_EXCEPTION"),
    ],
)
async def test_a_call_that_fails_is_not_sent_again(router: Router, replica: FakeReplica, error: Exception, reason: str):
    caller = use(router, reserve(router), idempotent=True)
    (await replica.called()).fail(error)
    await caller.end()
    assert caller.reason == reason
    assert counts(replica) == (0, 0, 0)
    assert len(replica.calls) == 1


async def test_a_gateway_that_drains_ends_reservations_and_waits_for_calls(router: Router, replica: FakeReplica):
    calls = [start(router), use(router, reserve(router))]
    waits = reserve(router)
    router.reservations.end()
    assert waits.reason == "GATEWAY_DRAINING"
    assert [caller.ends for caller in calls] == [0, 0]
    calls[0].call.cancel()
    calls[1].call.cancel()
    await until(lambda: len(replica.calls) == 2 and all(call.cancelled for call in replica.calls))


async def test_a_session_that_is_lost_gives_its_slots_back(router: Router, replica: FakeReplica):
    def accept(stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        _SessionCall(stream, router, header, payload, Trust.UNTRUSTED, more, last)

    opener, _ = link_pair(accept)
    told: list[bytes] = []

    class Holder:
        def on_message(self, stream: Any, payload: bytes, more: bool, last: bool) -> None:
            told.append(payload)

        def on_end(self, stream: Any, outcome: Any, payload: Any) -> None: ...

        def on_cancel(self, stream: Any) -> None: ...

        def on_writable(self, stream: Any) -> None: ...

    header = session_pb2.CallHeader(application="app", deployment="Echo", reserve=True, stream=True)
    opener.open(header, b"", Holder())
    await until(lambda: told)
    assert counts(replica) == (1, 1, 1)
    await opener.close()
    await until(lambda: counts(replica) == (0, 0, 0))
    reservation_id = session_pb2.ReplicaSelection.FromString(told[0]).reservation_id
    assert start(router, reservation_id=reservation_id).reason == "RESERVATION_NOT_FOUND"
