"""A deployment's queue: who waits, who goes first, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fairlead.wire.errors import (
    BackPressureError,
    ConnectionLostError,
    ReplicaDrainingError,
)
from fairlead.wire.frames import MAX_FRAME_PAYLOAD
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import cost
from fairlead_gateway.routing import deployment as deployment_module
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import (
    Caller,
    FakeClock,
    FakeReplica,
    admit,
    call_of,
    result,
    routes,
    settle,
    waiting,
)
from tests.wire.calls import until

Join = Callable[..., FakeReplica]


# -- admission


async def test_a_call_goes_to_a_free_replica_at_once(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, b"hello", method="greet")
    assert replica.replica.in_flight == 1
    call = await replica.called()
    assert (call.header.method, call.request) == ("greet", b"hello")
    call.answer(b"world")
    assert await result(caller) == b"world"
    assert (replica.replica.in_flight, replica.replica.load, waiting(deployment)) == (0, 0, 0)


async def test_calls_that_wait_go_first_in_first_out_as_slots_are_freed(deployment: Deployment, join: Join):
    replica = join()
    callers = [admit(deployment, str(number).encode()) for number in range(50)]
    assert waiting(deployment) == 49
    for number in range(50):
        call = await replica.called(number + 1)
        assert len(replica.ongoing) == replica.replica.in_flight == 1
        assert call.request == str(number).encode()
        call.answer(call.request)
        assert await result(callers[number]) == str(number).encode()
    assert (replica.replica.in_flight, waiting(deployment)) == (0, 0)


async def test_a_newcomer_does_not_overtake_those_that_wait(deployment: Deployment, join: Join):
    first, second = admit(deployment, b"1"), admit(deployment, b"2")
    replica = join()
    third = admit(deployment, b"3")
    for caller, request in ((first, b"1"), (second, b"2"), (third, b"3")):
        await until(lambda: replica.ongoing)
        assert replica.calls[-1].request == request
        replica.calls[-1].answer()
        await result(caller)


async def test_a_full_queue_refuses_with_its_numbers(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=1, max_queued=2, backpressure_status_code=429, backpressure_retry_after_s=1.5))
    join()
    admit(deployment), admit(deployment), admit(deployment)
    caller = admit(deployment)
    assert caller.ends == 1
    assert caller.outcome is not None
    error = error_of(caller.outcome)
    assert isinstance(error, BackPressureError)
    assert str(error) == "Request dropped due to backpressure (num_queued_requests=2, max_queued_requests=2)."
    assert (error.num_queued_requests, error.max_queued_requests) == (2, 2)
    assert (error.status_code, error.retry_after_s) == (429, 1.5)
    assert waiting(deployment) == 2


async def test_a_queue_of_no_length_refuses_whatever_finds_no_slot(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=1, max_queued=0))
    join()
    assert not admit(deployment).ends
    assert admit(deployment).reason == "QUEUE_FULL"


async def test_without_a_limit_the_queue_is_bounded_all_the_same(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deployment_module, "QUEUE_LIMIT", 3)
    for limit in (-1, 5):
        deployment.configure(routes(max_queued=limit))
        callers = [admit(deployment) for _ in range(4)]
        assert [caller.reason for caller in callers] == ["", "", "", "QUEUE_FULL"]
        for caller in callers:
            caller.call.cancel()


async def test_the_bytes_that_wait_are_bounded(deployment: Deployment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deployment_module, "QUEUE_BYTES", 1000)
    first = admit(deployment, bytes(600))
    assert admit(deployment, bytes(401)).reason == "QUEUE_FULL"
    assert not admit(deployment, bytes(400)).ends
    first.call.cancel()
    assert not admit(deployment, bytes(600)).ends
    assert waiting(deployment) == 2


async def test_the_bytes_that_come_while_a_call_waits_are_bounded_too(
    deployment: Deployment, join: Join, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deployment_module, "QUEUE_BYTES", 2000)
    first, second = admit(deployment, b"", last=False), admit(deployment, b"", last=False)
    assert first.call.send(bytes(900)) is False
    assert second.call.send(bytes(900)) is True  # there is no room, and nothing to wait for
    assert second.reason == "QUEUE_FULL"
    assert (waiting(deployment), deployment.kept_bytes) == (1, cost(bytes(900)))
    assert admit(deployment, bytes(1000)).reason == "QUEUE_FULL"
    replica = join()
    call = await replica.called()
    call.answer()
    assert await result(first) == b"answer"
    assert deployment.kept_bytes == 0


# -- leaving the queue


async def test_a_cancelled_call_leaves_the_queue_at_once(deployment: Deployment, join: Join):
    replica = join()
    callers = [admit(deployment, bytes([number])) for number in range(4)]
    for number in (2, 1):
        callers[number].call.cancel()
        assert callers[number].reason == "CANCELLED"
    assert waiting(deployment) == 1
    callers[1].call.cancel()  # a second time: no effect
    assert waiting(deployment) == 1
    (await replica.called()).answer()
    assert (await replica.called(2)).request == bytes([3])
    assert waiting(deployment) == 0


async def test_what_gave_up_is_not_kept(deployment: Deployment):
    rest = admit(deployment, b"rest", last=False)
    for _ in range(10):
        gone = [admit(deployment, bytes(1000), last=False) for _ in range(100)]
        for caller in gone:
            caller.call.send(bytes(500))
            caller.call.cancel()
    assert (waiting(deployment), deployment.kept_bytes) == (1, 0)
    assert len(deployment.queue) <= 2 * 1 + 65
    assert all(not call.payload and call.pieces is None for call in deployment.queue if call.done)
    rest.call.cancel()
    assert not deployment.queue


async def test_an_expired_call_leaves_the_queue_at_once(deployment: Deployment):
    call, caller = call_of()
    deployment.admit(call)
    call.expire()
    assert caller.reason == "DEADLINE_EXCEEDED"
    assert waiting(deployment) == 0
    call.expire()


async def test_a_call_whose_deadline_has_passed_is_not_sent(deployment: Deployment, join: Join, clock: FakeClock):
    """A busy loop may get to a slot before it gets to the timer."""
    late, late_caller = call_of(b"late", timeout_us=1_000_000)
    late.deadline = clock.now + 1
    in_time, _ = call_of(b"in time")
    in_time.deadline = clock.now + 10
    deployment.admit(late)
    deployment.admit(in_time)
    clock.now += 1
    replica = join()
    assert late_caller.reason == "DEADLINE_EXCEEDED"
    assert late_caller.message.endswith("passed while it was waiting for a free replica, after 1 s")
    call = await replica.called()
    assert call.request == b"in time"
    assert call.header.timeout_us == 9_000_000
    assert replica.replica.in_flight == 1


async def test_a_running_call_that_is_cancelled_holds_its_slot_until_the_replica_ends_it(
    deployment: Deployment, join: Join
):
    replica = join()
    first, second = admit(deployment, b"1"), admit(deployment, b"2")
    call = await replica.called()
    first.call.cancel()
    assert first.reason == "CANCELLED"
    await until(lambda: call.cancelled)
    assert (replica.replica.in_flight, waiting(deployment)) == (1, 1)
    call.answer(b"too late")
    assert (await replica.called(2)).request == b"2"
    assert not second.ends


# -- settings and replicas


async def test_more_slots_wake_those_that_wait(deployment: Deployment, join: Join):
    replica = join()
    for _ in range(5):
        admit(deployment)
    assert (replica.replica.in_flight, waiting(deployment)) == (1, 4)
    deployment.configure(routes(slots=4))
    assert (replica.replica.in_flight, waiting(deployment)) == (4, 1)
    deployment.configure(routes(slots=1))
    await replica.called(4)
    for call in replica.calls[:4]:
        call.answer()
    await settle()
    assert (replica.replica.in_flight, waiting(deployment)) == (1, 0)


async def test_a_deployment_that_failed_fails_what_waits_and_what_comes(deployment: Deployment, join: Join):
    caller = admit(deployment)
    deployment.configure(routes(unavailable_message="the constructor raised ValueError"))
    for each in (caller, admit(deployment)):
        assert each.reason == "DEPLOYMENT_UNAVAILABLE"
        assert each.outcome is not None
        assert each.outcome.status.message == "the constructor raised ValueError"
    assert waiting(deployment) == 0
    deployment.configure(routes())
    caller = admit(deployment)
    replica = join()
    (await replica.called()).answer()
    assert await result(caller) == b"answer"


async def test_a_deployment_that_failed_serves_as_long_as_it_has_slots(deployment: Deployment, join: Join):
    replica = join()
    running = admit(deployment)
    deployment.configure(routes(unavailable_message="the new version does not start"))
    assert admit(deployment).reason == "DEPLOYMENT_UNAVAILABLE"
    (await replica.called()).answer()
    await result(running)
    assert not admit(deployment).ends
    assert replica.replica.in_flight == 1


async def test_a_call_that_another_ones_end_makes_give_up_is_counted_once(deployment: Deployment):
    callers = [admit(deployment) for _ in range(3)]
    callers[0].then = callers[1].call.cancel
    deployment.delete()
    assert [caller.reason for caller in callers] == ["DEPLOYMENT_UNAVAILABLE", "CANCELLED", "DEPLOYMENT_UNAVAILABLE"]
    assert waiting(deployment) == 0


async def test_a_call_made_from_within_the_end_of_another_is_taken(deployment: Deployment, join: Join):
    replica = join()
    followers: list[Caller] = []
    first = admit(deployment)
    first.then = lambda: followers.append(admit(deployment, b"follower"))
    (await replica.called()).answer()
    await first.end()
    call = await replica.called(2)
    assert call.request == b"follower"
    assert replica.replica.in_flight == 1
    call.answer()
    await result(followers[0])
    assert replica.replica.in_flight == 0


async def test_replicas_out_of_rotation_get_no_calls(deployment: Deployment, join: Join):
    one, other = join("a"), join("b")
    deployment.leave_rotation(one.replica)
    deployment.leave_rotation(one.replica)
    admit(deployment), admit(deployment)
    assert (one.replica.in_flight, other.replica.in_flight, waiting(deployment)) == (0, 1, 1)
    deployment.enter_rotation(one.replica)
    deployment.enter_rotation(one.replica)
    assert len(deployment.ready) == 2
    assert (one.replica.in_flight, other.replica.in_flight, waiting(deployment)) == (1, 1, 0)


async def test_keys_stick_to_replicas(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=100))
    replicas = [join(name) for name in "abcd"]
    for field in ("session_id", "multiplexed_model_id"):
        for number in range(20):
            admit(deployment, f"{field} {number % 4}".encode(), **{field: f"key {number % 4}"})
    await until(lambda: sum(len(replica.calls) for replica in replicas) == 40)
    homes: dict[bytes, set[str]] = {}
    for replica in replicas:
        for call in replica.calls:
            homes.setdefault(call.request, set()).add(replica.replica_id)
    assert all(len(ids) <= 2 for ids in homes.values())  # a second one when the first had more than its share


async def test_many_calls_that_cannot_be_sent_do_not_pile_up_on_the_stack(
    deployment: Deployment, join: Join, clock: FakeClock
):
    running = admit(deployment)
    callers = [admit(deployment) for _ in range(3000)]
    for caller in callers:
        caller.call.deadline = clock.now
    last = admit(deployment, b"last")
    replica = join()
    (await replica.called()).answer()
    await result(running)
    assert {caller.reason for caller in callers} == {"DEADLINE_EXCEEDED"}
    (await replica.called(2)).answer()
    assert await result(last) == b"answer"
    assert deployment.ready == [replica.replica]
    assert (replica.replica.in_flight, waiting(deployment)) == (0, 0)


async def test_a_call_that_no_replica_could_take_fails_alone(deployment: Deployment, join: Join):
    """A header that no frame carries is the call's fault, not the replica's."""
    replica = join()
    assert admit(deployment, route="x" * (MAX_FRAME_PAYLOAD + 1)).reason == "INVALID_CALL"
    assert deployment.ready == [replica.replica]
    assert not admit(deployment).ends


async def test_hundreds_of_replicas_that_are_gone_do_not_pile_up_on_the_stack(deployment: Deployment, join: Join):
    for number in range(600):
        replica = join(str(number))
        replica.replica.link.lose(ConnectionLostError("gone"))  # the rotation does not know yet
    caller = admit(deployment)
    assert not deployment.ready
    assert (caller.ends, waiting(deployment)) == (0, 1)
    (await join("new").called()).answer()
    assert await result(caller) == b"answer"


async def test_a_deleted_deployment_keeps_nobody_waiting(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=1))
    one = join("a")
    running, queued = admit(deployment, idempotent=True), admit(deployment)
    await one.called()
    deployment.delete()
    deployment.leave_rotation(one.replica)
    assert queued.reason == "DEPLOYMENT_UNAVAILABLE"
    assert not running.ends
    one.calls[0].fail(ReplicaDrainingError("draining"))
    await running.end()
    assert running.reason == "DEPLOYMENT_UNAVAILABLE"
    assert running.outcome is not None
    assert running.outcome.status.message == "deployment app#Echo was deleted"
    assert waiting(deployment) == 0


async def test_losing_the_last_replica_of_a_failed_deployment_keeps_nobody_waiting(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment, idempotent=True)
    await one.called()
    deployment.configure(routes(unavailable_message="it does not start"))
    one.die()
    assert caller.reason == "DEPLOYMENT_UNAVAILABLE"


async def test_its_text_shows_its_state(deployment: Deployment, join: Join):
    join("a")
    admit(deployment), admit(deployment)
    assert repr(deployment) == (
        "<Deployment app#Echo ready=[<Replica app#Echo#a connected in_flight=1 elsewhere=0>] queued=1>"
    )
    await asyncio.sleep(0)
