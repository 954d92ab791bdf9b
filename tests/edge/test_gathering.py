"""Calls in groups: what is held, for how long, and what becomes of it."""

import asyncio

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.gathering import GROUP, MAX_TURNS, Gathering
from tests.edge.fake_router import FakeRouter, application

JSON = session_pb2.SERIALIZATION_JSON


@pytest.fixture
async def router():
    router = FakeRouter(lambda call: None)
    router.deploy(application())
    return router


@pytest.fixture
async def gathering(router):
    return Gathering(router, asyncio.get_running_loop())


def start(gathering, payload=b"[]"):
    answer = Answer(1000)
    header = session_pb2.CallHeader(request_serialization=JSON, response_serialization=JSON)
    gathering.start(header, payload, answer, Trust.OWNER)
    return answer


async def turns(count=MAX_TURNS + 1):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_call_that_is_alone_is_started_at_once(router, gathering):
    for _ in range(3):
        start(gathering)
        gathering.done()
    assert len(router.calls) == 3


async def test_others_are_started_together_and_in_order(router, gathering):
    for n in range(5):
        start(gathering, b"[%d]" % n)
    assert len(router.calls) == 1
    await turns()
    assert [call.payload for call in router.calls] == [b"[%d]" % n for n in range(5)]
    assert gathering.under_way == 5


async def test_patience_grows_while_waiting_pays_and_shrinks_while_it_does_not(router, gathering):
    start(gathering)
    for _ in range(10):
        start(gathering)
        start(gathering)
        await turns()
    assert f"patience={MAX_TURNS}>" in repr(gathering)
    start(gathering)
    await turns(3)
    assert "held=1" in repr(gathering)
    for _ in range(10):
        await turns()
        start(gathering)
    await turns(3)
    assert "held=0 patience=1>" in repr(gathering)


async def test_a_full_group_waits_no_longer(router, gathering):
    gathering._patience = MAX_TURNS
    for _ in range(GROUP + 1):
        start(gathering)
    await turns(2)
    assert len(router.calls) == GROUP + 1


async def test_a_call_given_up_while_held_is_not_started(router, gathering):
    start(gathering)
    start(gathering, b"[1]").close()
    start(gathering, b"[2]")
    await turns()
    assert [call.payload for call in router.calls] == [b"[]", b"[2]"]
