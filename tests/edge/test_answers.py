"""The door's end of a call, without a door."""

import asyncio
import gc
import weakref

import pytest

from fairlead.wire.errors import InvalidCallError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import cost
from fairlead_gateway.edge.answers import Answer


class RecordedCall:
    """A call that notes what is done to it."""

    def __init__(self):
        self.credit = 0
        self.cancelled = 0

    def send(self, payload, *, more=False, last=False):
        return True

    def cancel(self):
        self.cancelled += 1

    def consumed(self, amount):
        self.credit += amount


@pytest.fixture
def answer():
    answer = Answer(1000)
    answer.attach(RecordedCall())
    return answer


async def test_credit_of_whole_messages_returns_when_they_have_left(answer):
    answer.on_message(b"abc", False)
    message, amount = await answer.next()
    assert (message, amount, answer._call.credit) == (b"abc", cost(b"abc"), 0)
    answer.consumed(amount)
    assert answer._call.credit == cost(b"abc")


async def test_credit_of_pieces_returns_at_once_but_for_the_last(answer):
    answer.on_message(b"ab", True)
    assert answer._call.credit == cost(b"ab")
    answer.on_message(b"c", False)
    assert answer._call.credit == cost(b"ab")
    assert await answer.next() == (b"abc", cost(b"c"))


async def test_what_comes_before_the_call_is_known_is_paid_later():
    answer = Answer(1000)
    answer.on_message(b"ab", True)
    call = RecordedCall()
    answer.attach(call)
    assert call.credit == cost(b"ab")


async def test_messages_then_the_outcome(answer):
    outcome = outcome_of(InvalidCallError("no"))
    answer.on_message(b"1", False)
    answer.on_end(outcome, None)
    assert not answer.drained
    assert (await answer.next())[0] == b"1"
    assert answer.drained
    assert await answer.next() is None
    assert answer.outcome == outcome


@pytest.mark.parametrize("attached", [True, False])
async def test_too_large_a_message_cancels_the_call(attached):
    answer, call = Answer(1000), RecordedCall()
    if attached:
        answer.attach(call)
    answer.on_message(bytes(600), True)
    answer.on_message(bytes(600), True)
    if not attached:
        answer.attach(call)
    assert await answer.next() is None
    assert "limit of 1000 bytes" in answer.outcome.status.message
    assert call.cancelled == 1


@pytest.mark.parametrize("ends", [True, False])
async def test_the_last_piece_counts(ends):
    answer = Answer(1000)
    answer.attach(RecordedCall())
    answer.on_message(bytes(600), True)
    if ends:
        answer.on_end(None, bytes(600))
    else:
        answer.on_message(bytes(600), False)
    assert await answer.next() is None
    assert "limit of 1000 bytes" in answer.outcome.status.message


async def test_closing_wakes_whoever_waits(answer):
    call = answer._call
    waiting = asyncio.gather(answer.next(), answer.writable())
    await asyncio.sleep(0)
    answer.close()
    answer.close()
    assert await asyncio.wait_for(waiting, 60) == [None, None]
    assert call.cancelled == 1


async def test_closing_an_answer_that_has_ended_cancels_nothing(answer):
    call = answer._call
    answer.on_end(None, b"x")
    answer.close()
    assert call.cancelled == 0
    assert await answer.single() == b"x"


@pytest.mark.parametrize("released", [False, True])
async def test_an_answer_that_is_over_does_not_wait_for_the_garbage_collector(released):
    answer, call = Answer(1000), RecordedCall()
    answer.attach(call)
    call.downstream = answer  # as calls have it
    gone = weakref.ref(call)
    gc.disable()
    try:
        if released:
            answer.release()
            answer.close()
        answer.on_end(None, b"result")
        if not released:
            answer.close()
        del answer, call
        assert gone() is None
    finally:
        gc.enable()
