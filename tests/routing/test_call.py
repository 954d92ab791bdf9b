"""A call between its door and its replica: pieces, credit, giving up."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.wire.errors import InternalError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import INITIAL_CREDIT, cost
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import FakeReplica, admit, call_of, routes, settle
from tests.wire.calls import until

Join = Callable[..., FakeReplica]


async def test_pieces_that_come_while_a_call_waits_are_delivered_in_order(deployment: Deployment, join: Join):
    caller = admit(deployment, b"0", more=True, last=False)
    assert caller.call.send(b"1", more=True) is False
    assert caller.call.send(b"2") is False
    assert caller.call.send(b"3", last=True) is False
    call = await join().called()
    await until(lambda: call.complete)
    assert call.pieces == [(b"0", True, False), (b"1", True, False), (b"2", False, False), (b"3", False, True)]
    assert caller.writable == 1
    call.answer(b"done")
    await caller.end()
    assert caller.payload == b"done"
    assert deployment.kept_bytes == 0


async def test_early_pieces_beyond_the_credit_keep_the_door_waiting(deployment: Deployment, join: Join):
    caller = admit(deployment, b"", last=False)
    for _ in range(4):
        caller.call.send(bytes(MAX_PIECE))
    replica = join()
    replica.serve = lambda call: setattr(call, "reading", False)
    call = await replica.called()
    await settle()
    assert caller.writable == 0
    assert len(call.request) <= INITIAL_CREDIT + MAX_PIECE
    assert caller.call.send(b"end", last=True) is False
    call.reading = True
    call.take()
    await until(lambda: call.complete)
    assert caller.writable == 1
    assert len(call.request) == 4 * MAX_PIECE + 3


async def test_a_door_that_sends_more_from_within_on_writable(deployment: Deployment, join: Join):
    caller = admit(deployment, b"", last=False)
    caller.call.send(b"1")
    sent: list[bool] = []

    def on_writable() -> None:
        if not sent:
            sent.append(caller.call.send(b"2", last=True))

    caller.on_writable = on_writable  # type: ignore[method-assign]
    call = await join().called()
    await until(lambda: call.complete)
    assert sent == [True]
    assert call.request == b"12"


async def test_a_door_that_gives_up_from_within_on_writable(deployment: Deployment, join: Join):
    caller = admit(deployment, b"", last=False)
    caller.call.send(b"1")
    caller.on_writable = caller.call.cancel  # type: ignore[method-assign]
    replica = join()
    assert caller.reason == "CANCELLED"
    assert replica.replica.in_flight == 1
    (await replica.called()).answer()
    await until(lambda: not replica.replica.in_flight)


async def test_messages_and_the_end_are_passed_on(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    call = await replica.called()
    for number in range(3):
        call.send(bytes([number]), more=number == 0)
    call.answer(None)
    await caller.end()
    assert caller.messages == [(b"\0", True), (b"\1", False), (b"\2", False)]
    assert (caller.outcome, caller.payload) == (None, None)


async def test_a_head_is_passed_on_at_once_and_frees_what_was_kept(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, b"1", last=False, stream=True)
    assert caller.call.send(b"2") is True
    assert deployment.kept_bytes == cost(b"2")
    call = await replica.called()
    call.head("k", b"v")
    await until(lambda: caller.heads)
    assert not caller.messages
    assert deployment.kept_bytes == 0
    call.answer(b"done")
    await caller.end()
    assert caller.heads == [[("k", b"v")]]
    assert caller.payload == b"done"


async def test_a_head_after_the_caller_gave_up_is_swallowed(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    call = await replica.called()
    call.head("k", b"v")  # crosses the cancellation
    caller.call.cancel()
    call.answer(None)
    await until(lambda: not replica.replica.in_flight)
    assert caller.heads == []
    assert replica.replica.link.session.streams == {}


async def test_a_reader_that_does_not_read_stops_the_replica(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    caller.reading = False
    call = await replica.called()
    size = 16 * 1024
    while call.send(bytes(size)):
        await settle(2)
    await settle()
    assert sum(len(payload) for payload, _ in caller.messages) <= INITIAL_CREDIT + size
    assert call.writable == 0
    caller.take()
    await until(lambda: call.writable)
    call.answer(None)
    await caller.end()


async def test_credit_after_the_end_goes_nowhere(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    caller.reading = False
    call = await replica.called()
    call.send(bytes(MAX_PIECE))
    call.answer(None)
    await caller.end()
    caller.take()
    caller.call.consumed(10 * INITIAL_CREDIT)
    assert caller.call.send(b"late") is True
    assert caller.call.stream is None
    await settle()
    assert not replica.link.closed


async def test_a_large_credit_for_a_call_that_waits_again_goes_nowhere(deployment: Deployment):
    caller = admit(deployment)
    caller.call.consumed(INITIAL_CREDIT)
    caller.call.cancel()


async def test_a_replicas_answer_after_the_caller_gave_up_is_swallowed(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    call = await replica.called()
    call.send(b"on its way")
    caller.call.cancel()
    assert caller.reason == "CANCELLED"
    await until(lambda: call.cancelled)
    call.send(bytes(MAX_PIECE))
    call.answer(None)
    await until(lambda: not replica.replica.in_flight)
    assert caller.messages == []
    assert caller.call.send(b"x") is True
    assert replica.replica.link.session.streams == {}


async def test_who_gives_up_from_within_a_message_hears_nothing_more(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, stream=True)
    call = await replica.called()
    caller.take = caller.call.cancel  # type: ignore[method-assign]
    call.send(b"1")
    call.send(b"2")
    call.answer(None)
    await until(lambda: not replica.replica.in_flight)
    assert caller.messages == [(b"1", False)]
    assert caller.reason == "CANCELLED"


async def test_expiry_while_it_runs_cancels_it_at_the_replica(deployment: Deployment, join: Join):
    replica = join()
    caller = admit(deployment, method="greet")
    call = await replica.called()
    caller.call.expire()
    assert caller.reason == "DEADLINE_EXCEEDED"
    assert caller.message == "the deadline of the call to app#Echo.greet passed while it was running on app#Echo#a"
    await until(lambda: call.cancelled)
    call.fail(InternalError("cancelled"))
    await until(lambda: not replica.replica.in_flight)


async def test_who_is_not_trusted_sees_no_exception_and_no_traceback(deployment: Deployment, join: Join):
    deployment.configure(routes(slots=2))
    replica = join()
    outcome = outcome_of(ValueError("bad"), traceback="Traceback: secret.py")
    assert outcome.exception
    for trust in Trust:
        caller = admit(deployment, trust=trust)
        call = await replica.called(len(replica.calls) + 1)
        call.stream.link.end(call.stream, outcome)
        await caller.end()
        assert caller.outcome is not None
        assert caller.outcome.status == outcome.status
        assert bool(caller.outcome.exception) == bool(caller.outcome.traceback) == trust.may_run_code


def test_its_text_shows_its_state():
    call, _ = call_of(request_id="id", method="m")
    assert repr(call) == "<Call id Echo.m waiting>"
    call.done = True
    assert repr(call) == "<Call id Echo.m done>"
    assert cost(b"") == 256
