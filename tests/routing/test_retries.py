"""Calls that a replica did not take, or was lost with: which are sent again, and what is said of the others."""

from __future__ import annotations

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
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import cost
from fairlead_gateway.routing import call as call_module
from fairlead_gateway.routing import deployment as deployment_module
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import (
    FakeReplica,
    admit,
    result,
    routes,
    settle,
    waiting,
)
from tests.wire.calls import until

Join = Callable[..., FakeReplica]


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
