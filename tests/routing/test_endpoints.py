"""Calls to names that stand for several deployments, through the router."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.routing import shadowing
from fairlead_gateway.routing.endpoints import Endpoints
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import Caller, FakeReplica, application, routes, snapshot
from tests.wire.calls import until

NAMES = ("Echo", "New", "Shadow")


class World:
    """A router, three deployments that answer with their names, and policies that come and go."""

    def __init__(self):
        self.router = Router(asyncio.get_running_loop())
        self.router.endpoints = Endpoints(self.router.table, random.Random(1).random)
        self.version = 0
        self.spread()
        self.replicas = {}
        for name in NAMES:
            replica = FakeReplica(f"app#{name}#a")
            replica.replica = self.router.table.find("app", name).replicas[replica.replica_id]
            replica.join(self.router.table.find("app", name))
            replica.serve = lambda call, name=name: call.answer(name.encode())
            self.replicas[name] = replica

    def spread(self, *policies, without=(), unavailable=()):
        self.version += 1
        deployments = [
            routes(
                *([] if name in unavailable else [f"app#{name}#a"]),
                name=name,
                slots=5,
                unavailable_message="It is being deleted." if name in unavailable else "",
            )
            for name in NAMES
            if name not in without
        ]
        described = snapshot(application(*deployments), version=self.version)
        described.applications[0].traffic.extend(policies)
        self.router.table.apply(described)

    def start(self, name="Echo", payload=b"x", more=False, last=True, **fields):
        caller = Caller()
        header = session_pb2.CallHeader(
            application="app",
            deployment=name,
            request_serialization=session_pb2.SERIALIZATION_JSON,
            response_serialization=session_pb2.SERIALIZATION_JSON,
            **fields,
        )
        caller.call = self.router.start(header, payload, caller, trust=Trust.OWNER, more=more, last=last)
        return caller

    async def ask(self, name="Echo", **fields):
        caller = await self.start(name, **fields).end()
        return (caller.payload or caller.reason.encode()).decode()

    def seen(self, name):
        return len(self.replicas[name].calls)


def policy(name="Echo", shadows=None, **shares):
    def parts(given):
        return [
            control_pb2.TrafficShare(application="app", deployment=each, share=share) for each, share in given.items()
        ]

    return control_pb2.TrafficPolicy(name=name, backends=parts(shares), shadows=parts(shadows or {}))


@pytest.fixture
async def world(tidy):
    made = World()
    yield made
    for replica in made.replicas.values():
        replica.die()


async def test_calls_are_spread_by_shares(world):
    world.spread(policy(Echo=0.9, New=0.1))
    answers = Counter([await world.ask() for _ in range(1000)])
    assert set(answers) == {"Echo", "New"}
    assert abs(answers["New"] - 100) < 3 * 90**0.5
    assert Counter([await world.ask("New") for _ in range(5)]) == {"New": 5}, "that name is not spread"


async def test_an_endpoint_may_have_a_name_of_its_own(world):
    assert await world.ask("model") == "DEPLOYMENT_NOT_FOUND"
    world.spread(policy("model", New=1.0))
    assert await world.ask("model") == "New"
    assert world.replicas["New"].calls[-1].header.deployment == "New"
    world.spread()
    assert await world.ask("model") == "DEPLOYMENT_NOT_FOUND"


async def test_the_ingress_is_spread_for_those_who_name_nothing(world):
    world.spread(policy("Echo", New=1.0))
    assert await world.ask("") == "New"


async def test_shares_change_while_calls_run(world):
    world.replicas["Echo"].serve = lambda call: None
    under_way = world.start()
    call = await world.replicas["Echo"].called()
    world.spread(policy(New=1.0))
    assert await world.ask() == "New"
    call.answer(b"late")
    await under_way.end()
    assert under_way.payload == b"late"


@pytest.mark.parametrize("field", ["shard_key", "session_id"])
async def test_calls_with_one_key_have_one_backend(world, field):
    world.spread(policy(Echo=0.5, New=0.5))
    for key in ("user-1", "user-2", "user-3"):
        assert len({await world.ask(**{field: key}) for _ in range(10)}) == 1
    assert len({await world.ask(**{field: f"user-{index}"}) for index in range(50)}) == 2


async def test_the_shard_key_counts_before_the_session(world):
    world.spread(policy(Echo=0.5, New=0.5))
    assert await world.ask(shard_key="user-1") == "Echo"
    assert await world.ask(session_id="user-2") == "New"
    assert await world.ask(shard_key="user-1", session_id="user-2") == "Echo"


async def test_a_backend_that_is_gone_gets_nothing(world):
    world.spread(policy(Echo=0.5, New=0.5), without=["New"])
    assert {await world.ask() for _ in range(20)} == {"Echo"}
    world.spread(policy("model", New=1.0), without=["New"])
    assert await world.ask("model") == "DEPLOYMENT_NOT_FOUND"


async def test_a_backend_that_is_being_deleted_gets_nothing_while_there_is_another(world):
    world.spread(policy(Echo=0.5, New=0.5), unavailable=["New"])
    assert {await world.ask() for _ in range(20)} == {"Echo"}
    world.spread(policy(New=1.0), unavailable=["New"])
    world.router.table.find("app", "New").leave_rotation(world.replicas["New"].replica)
    assert await world.ask() == "DEPLOYMENT_UNAVAILABLE"


async def test_what_waits_at_a_backend_that_goes_away_goes_to_another(world):
    world.replicas["New"].serve = lambda call: None
    world.spread(policy(Echo=0.5, New=0.5))
    running = [world.start(shard_key="user-2") for _ in range(5)]
    await world.replicas["New"].called(5)
    waiting = [world.start(shard_key="user-2") for _ in range(3)]
    piecemeal = world.start(shard_key="user-2", payload=b"a", last=False)
    piecemeal.call.send(b"b", last=True)
    gone = world.router.table.find("app", "New")
    assert (gone.queued, gone.kept_bytes > 0) == (4, True)
    world.spread(policy(Echo=0.5, New=0.5), unavailable=["New"])
    for caller in [*waiting, piecemeal]:
        assert (await caller.end()).payload == b"Echo"
    assert (gone.queued, gone.queued_bytes, gone.kept_bytes) == (0, 0, 0)
    assert world.router.table.find("app", "Echo").kept_bytes == 0
    for call in world.replicas["New"].ongoing:
        call.answer(b"New")
    assert {(await caller.end()).payload for caller in running} == {b"New"}


async def test_what_waits_where_no_backend_is_left_fails(world):
    world.replicas["New"].serve = lambda call: None
    world.spread(policy(New=1.0))
    running = [world.start() for _ in range(5)]
    await world.replicas["New"].called(5)
    waiting = world.start()
    world.spread(policy(New=1.0), unavailable=["New"])
    assert (await waiting.end()).reason == "DEPLOYMENT_UNAVAILABLE"
    for call in world.replicas["New"].ongoing:
        call.answer(b"New")
    for caller in running:
        await caller.end()


async def test_a_reservation_is_used_where_it_was_made(world):
    world.spread(policy(Echo=0.5, New=0.5))
    for _ in range(10):
        holder = world.start(reserve=True, stream=True, payload=b"")
        (selected,) = [session_pb2.ReplicaSelection.FromString(message) for message, _ in holder.messages]
        answer = await world.ask(reservation_id=selected.reservation_id)
        assert selected.replica_id == f"app#{answer}#a"


async def test_shadows_get_copies_and_nobody_hears_of_them(world):
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0, "New": 0.5}))

    def fail(call):
        call.head("who", b"a shadow")
        call.fail(ValueError("in the shadow"))

    world.replicas["Shadow"].serve = fail
    for _ in range(100):
        assert await world.ask() == "Echo"
    await until(lambda: world.seen("Shadow") == 100)
    assert 25 < world.seen("New") < 75
    copy = world.replicas["Shadow"].calls[0]
    assert (copy.header.deployment, copy.request) == ("Shadow", b"x")
    assert copy.header.request_id


async def test_a_shadow_that_hangs_delays_nobody(world):
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    world.replicas["Shadow"].serve = lambda call: None
    for _ in range(50):
        assert await world.ask() == "Echo"
    await until(lambda: world.seen("Shadow") == 5)
    deployment = world.router.table.find("app", "Shadow")
    await until(lambda: deployment.queued == 45)
    world.replicas["Shadow"].serve = lambda call: call.answer()
    for call in world.replicas["Shadow"].ongoing:
        call.answer()
    await until(lambda: world.seen("Shadow") == 50)


async def test_copies_do_not_pile_up(world, monkeypatch):
    monkeypatch.setattr(shadowing, "MAX_WAITING", 3)
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    world.replicas["Shadow"].serve = lambda call: None
    for _ in range(50):
        assert await world.ask() == "Echo"
    assert world.router.table.find("app", "Shadow").queued == 3


async def test_a_copy_ends_when_it_takes_too_long(world, monkeypatch):
    monkeypatch.setattr(shadowing, "LONGEST_S", 0.01)
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    world.replicas["Shadow"].serve = lambda call: None
    assert await world.ask() == "Echo"
    call = await world.replicas["Shadow"].called()
    await until(lambda: call.cancelled)


async def test_requests_in_pieces_reach_shadows_whole(world):
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    for replica in world.replicas.values():
        replica.serve = lambda call: None
    caller = world.start(payload=b"a", more=True, last=False)
    caller.call.send(b"b", more=True)
    caller.call.send(b"c", last=True)
    copy = await world.replicas["Shadow"].called()
    await until(lambda: copy.complete)
    assert copy.request == b"abc"
    (await world.replicas["Echo"].called()).answer(b"done")
    assert (await caller.end()).payload == b"done"
    copy.answer()


async def test_a_request_that_is_given_up_half_way_is_given_up_at_shadows(world):
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    for replica in world.replicas.values():
        replica.serve = lambda call: None
    caller = world.start(payload=b"a", last=False)
    copy = await world.replicas["Shadow"].called()
    caller.call.cancel()
    await until(lambda: copy.cancelled)
    copy.answer()


async def test_a_complete_request_that_its_caller_gives_up_goes_on_at_shadows(world):
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    for replica in world.replicas.values():
        replica.serve = lambda call: None
    caller = world.start()
    copy = await world.replicas["Shadow"].called()
    caller.call.cancel()
    assert (await caller.end()).reason == "CANCELLED"
    assert not copy.cancelled
    copy.answer()


async def test_a_shadow_that_cannot_keep_up_with_a_request_is_left_out(world, monkeypatch):
    monkeypatch.setattr(shadowing, "MAX_BEHIND", 1000)
    world.spread(policy(Echo=1.0, shadows={"Shadow": 1.0}))
    world.replicas["Echo"].serve = lambda call: None
    world.replicas["Shadow"].serve = lambda call: setattr(call, "reading", False)
    caller = world.start(payload=b"a", last=False)
    copy = await world.replicas["Shadow"].called()
    for _ in range(200):
        caller.call.send(b"b" * 4000)
        await asyncio.sleep(0)
    caller.call.send(b"c", last=True)
    await until(lambda: copy.cancelled)
    await until(lambda: world.replicas["Echo"].calls[0].complete)
    world.replicas["Echo"].calls[0].answer(b"done")
    assert (await caller.end()).payload == b"done"
