"""A deployment's queue: who waits, who goes first, what is refused, what is sent again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import (
    BackPressureError,
    ConnectionLostError,
    ReplicaBusyError,
    ReplicaDrainingError,
    TooManyCallsError,
)
from fairlead.wire.frames import MAX_FRAME_PAYLOAD
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import cost
from fairlead_gateway.routing import call as call_module
from fairlead_gateway.routing import deployment as deployment_module
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import (
    Caller,
    FakeClock,
    FakeReplica,
    admit,
    call_of,
    routes,
    settle,
)
from tests.wire.calls import until

Join = Callable[..., FakeReplica]


def waiting(deployment: Deployment) -> int:
    """How many calls wait, counted anew; what the deployment counted must agree."""
    calls = [call for call in (*deployment.again, *deployment.queue) if not call.done]
    assert deployment.queued == len(calls)
    assert deployment.queued_bytes == sum(len(call.payload) for call in calls)
    return len(calls)


async def result(caller: Caller) -> bytes | None:
    await caller.end()
    assert caller.outcome is None, caller.reason
    return caller.payload


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


# -- calls that did not start


async def test_a_call_that_a_draining_replica_refused_goes_elsewhere(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment)
    other = join("b")
    (await one.called()).fail(ReplicaDrainingError("draining"))
    (await other.called()).answer(b"from b")
    assert await result(caller) == b"from b"
    assert deployment.ready == [other.replica]
    assert (one.replica.in_flight, other.replica.in_flight) == (0, 0)


async def test_calls_that_cross_a_goodbye_go_elsewhere_in_order(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=10))
    one = join("a")
    taken = admit(deployment, b"taken")
    await one.called()
    callers = [admit(deployment, str(number).encode()) for number in range(9)]
    one.link.goodbye()
    await until(lambda: one.replica.in_flight == 1)
    assert waiting(deployment) == 9
    assert deployment.ready == []
    later = admit(deployment, b"later")
    other = join("b")
    await other.called(10)
    assert [call.request for call in other.calls] == [*(str(number).encode() for number in range(9)), b"later"]
    for call in (*one.calls, *other.calls):
        call.answer()
    for caller in (taken, *callers, later):
        assert await result(caller) == b"answer"


async def test_calls_of_a_lost_replica_that_were_never_written_go_elsewhere(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=10))
    one = join("a")
    callers = [admit(deployment, bytes([number])) for number in range(3)]
    one.die()
    assert (waiting(deployment), one.replica.in_flight) == (3, 0)
    other = join("b")
    await other.called(3)
    assert [call.request for call in other.calls] == [bytes([number]) for number in range(3)]
    other.die()
    assert [caller.ends for caller in callers] == [1, 1, 1]


async def test_a_replica_that_breaks_the_protocol_loses_only_what_it_may_have_started(
    deployment: Deployment, join: Join
):
    deployment.configure(routes(slots=10))
    one = join("a")
    started = admit(deployment, b"started")
    await one.called()
    unwritten = admit(deployment, b"unwritten")
    one.replica.link.receive(b"\xff\xff no packet")
    assert started.reason == "PROTOCOL_VIOLATION"
    (await join("b").called()).answer()
    assert await result(unwritten) == b"answer"


async def test_a_busy_replica_is_not_asked_again_before_one_of_its_calls_has_ended(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=2))
    replica = join("a", slots=1)
    first, second = admit(deployment, b"1"), admit(deployment, b"2")
    await until(lambda: replica.refused)
    await settle()
    assert (replica.refused, replica.replica.in_flight, waiting(deployment)) == (1, 1, 1)
    assert replica.replica.load == 2
    assert deployment.ready == [replica.replica]
    replica.calls[0].answer(b"1")
    (await replica.called(2)).answer(b"2")
    assert [await result(first), await result(second)] == [b"1", b"2"]


async def test_a_load_report_brings_a_busy_replica_back(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=1))
    replica = join("a", slots=0)
    caller = admit(deployment)
    await until(lambda: replica.refused)
    await settle()
    assert (replica.refused, replica.replica.in_flight, waiting(deployment)) == (1, 0, 1)
    replica.slots = 1
    replica.replica.report(session_pb2.Load(ongoing=0, sequence=1))
    deployment.wake()
    (await replica.called()).answer()
    assert await result(caller) == b"answer"


async def test_a_busy_replicas_call_goes_to_another_one_first(deployment: Deployment, join: Join):
    one = join("a", slots=0)
    caller = admit(deployment)
    other = join("b")
    (await other.called()).answer(b"b")
    assert await result(caller) == b"b"
    assert one.refused == 1


async def test_a_link_that_is_full_sends_calls_elsewhere_and_stays(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=10))
    one = join("a")
    one.replica.link.session.max_calls = 1
    for _ in range(2):
        admit(deployment)
    assert (one.replica.in_flight, waiting(deployment)) == (1, 1)
    assert deployment.ready == [one.replica]
    other = join("b")
    assert (one.replica.in_flight, other.replica.in_flight, waiting(deployment)) == (1, 1, 0)


async def test_a_replica_that_says_too_many_calls_is_taken_at_its_word(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=2))
    one = join("a")
    caller, second = admit(deployment, b"1"), admit(deployment, b"2")
    await one.called(2)
    one.calls[0].fail(TooManyCallsError("too many"))
    await until(lambda: waiting(deployment) == 1)
    assert deployment.ready == [one.replica]
    one.calls[1].answer()
    (await one.called(3)).answer()
    assert await result(caller) == await result(second) == b"answer"


# -- calls that may have started


async def test_a_call_on_a_lost_replica_is_not_sent_again_and_told_why(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment)
    other = join("b")
    await one.called()
    one.die()
    assert caller.reason == "REPLICA_LOST"
    assert caller.outcome is not None
    assert caller.outcome.status.message == (
        "replica app#Echo#a was lost while it had the call; not sent again, "
        "because it may have started, and it is not declared idempotent"
    )
    error = error_of(caller.outcome)
    assert error.metadata == {"replica_id": "app#Echo#a"}
    await settle()
    assert not other.calls
    assert deployment.ready == [other.replica]


async def test_an_idempotent_call_is_sent_again(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment, idempotent=True)
    await one.called()
    other = join("b")
    one.die()
    (await other.called()).answer(b"b")
    assert await result(caller) == b"b"
    assert (one.replica.in_flight, other.replica.in_flight) == (0, 0)


async def test_an_idempotent_call_is_not_sent_again_after_part_of_its_answer(deployment: Deployment, join: Join):
    one, other = join("a"), join("b")
    deployment.leave_rotation(other.replica)
    caller = admit(deployment, idempotent=True, stream=True)
    (await one.called()).send(b"item")
    await until(lambda: caller.messages)
    deployment.enter_rotation(other.replica)
    one.die()
    assert caller.reason == "REPLICA_LOST"
    assert caller.outcome is not None
    assert "because part of the answer had been sent" in caller.outcome.status.message
    assert not other.calls


async def test_an_idempotent_call_is_not_sent_again_after_its_head(deployment: Deployment, join: Join):
    one, other = join("a"), join("b")
    deployment.leave_rotation(other.replica)
    caller = admit(deployment, idempotent=True)
    (await one.called()).head("replica", b"a")
    await until(lambda: caller.heads)
    deployment.enter_rotation(other.replica)
    one.die()
    assert caller.reason == "REPLICA_LOST"
    await settle()
    assert not other.calls


async def test_a_call_that_was_sent_again_has_the_head_of_its_last_replica(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment, idempotent=True)
    lost = await one.called()
    other = join("b")
    one.die()
    lost.head("replica", b"a")  # nobody hears it any more
    call = await other.called()
    call.head("replica", b"b")
    call.answer(b"b")
    assert await result(caller) == b"b"
    assert caller.heads == [[("replica", b"b")]]


async def test_retries_end_with_their_budget(deployment: Deployment, join: Join):
    caller = admit(deployment, idempotent=True)
    for number in range(11):
        replica = join(str(number))
        await replica.called()
        assert not caller.ends
        replica.die()
    assert caller.reason == "REPLICA_LOST"
    assert caller.outcome is not None
    assert "because the retry budget is used up" in caller.outcome.status.message


async def test_a_retry_does_not_go_to_the_same_replica_first(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=10))
    one, other = join("a"), join("b")
    for _ in range(20):
        caller = admit(deployment, session_id="" if random.random() < 0.5 else "key")
        await until(lambda: one.ongoing or other.ongoing)
        first, second = (one, other) if one.ongoing else (other, one)
        first.ongoing[0].fail(ReplicaBusyError("busy"))
        await until(lambda second=second: second.ongoing)
        second.ongoing[0].answer()
        await result(caller)
        first.replica.elsewhere = 0
        first.replica.load = 0


async def test_what_the_users_code_raises_is_not_retried(deployment: Deployment, join: Join):
    """An error about a connection or a queue of the method's own calls says nothing about this call."""
    one = join("a")
    other = join("b")
    for error in (ConnectionLostError("of a call it made"), BackPressureError(1, 1), ValueError("bad")):
        caller = admit(deployment, idempotent=True)
        await until(lambda: one.ongoing or other.ongoing)
        (one.ongoing or other.ongoing)[0].fail(error)
        await caller.end()
        assert caller.outcome is not None
        assert len(one.ongoing) + len(other.ongoing) == 0
    assert len(deployment.ready) == 2


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


# -- requests of several pieces


async def test_a_request_of_several_pieces_is_sent_again_whole(deployment: Deployment, join: Join):
    one = join("a")
    caller = admit(deployment, b"1", more=True, last=False)
    await one.called()
    caller.call.send(b"2", more=True)
    caller.call.send(b"3")
    await until(lambda: len(one.calls[0].pieces) == 3)
    one.calls[0].fail(ReplicaDrainingError("draining"))
    await until(lambda: deployment.queued)
    assert caller.call.send(b"4", last=True) is False
    call = await join("b").called()
    await until(lambda: call.complete)
    assert call.pieces == [(b"1", True, False), (b"2", True, False), (b"3", False, False), (b"4", False, True)]
    assert caller.writable == 1
    call.answer()
    await result(caller)
    assert deployment.kept_bytes == 0


async def test_a_request_too_long_to_keep_is_not_sent_again(
    deployment: Deployment, join: Join, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(call_module, "MAX_KEPT", 2000)
    one, other = join("a"), join("b")
    deployment.leave_rotation(other.replica)
    caller = admit(deployment, b"1", last=False, idempotent=True)
    caller.call.send(bytes(1500))
    assert deployment.kept_bytes == cost(bytes(1500))
    caller.call.send(bytes(500))
    assert deployment.kept_bytes == 0
    await one.called()
    deployment.enter_rotation(other.replica)
    one.die()
    assert caller.reason == "REPLICA_LOST"
    assert caller.outcome is not None
    assert "because more of its arguments had been sent than is kept" in caller.outcome.status.message


async def test_what_running_calls_keep_is_bounded_in_all(
    deployment: Deployment, join: Join, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deployment_module, "KEPT_BYTES", 2000)
    deployment.configure(routes(slots=10))
    replica = join("a")
    callers = [admit(deployment, b"", last=False) for _ in range(3)]
    for caller in callers:
        assert caller.call.send(bytes(700)) is True
    assert deployment.kept_bytes == 2 * cost(bytes(700))
    await replica.called(3)
    replica.calls[0].send(b"part of an answer")
    await until(lambda: callers[0].messages)
    assert deployment.kept_bytes == cost(bytes(700))
    callers[1].call.cancel()
    assert deployment.kept_bytes == 0
    assert callers[2].call.send(b"last", last=True) is True
    await until(lambda: replica.calls[2].complete)
    assert replica.calls[2].request == bytes(700) + b"last"


async def test_its_text_shows_its_state(deployment: Deployment, join: Join):
    join("a")
    admit(deployment), admit(deployment)
    assert repr(deployment) == (
        "<Deployment app#Echo ready=[<Replica app#Echo#a connected in_flight=1 elsewhere=0>] queued=1>"
    )
    await asyncio.sleep(0)
