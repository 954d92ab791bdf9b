"""A deployment under random arrivals, answers, losses and changes: what must hold after every step."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.broadcast import Broadcast
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import Caller, FakeClock, FakeReplica, ReplicaCall, call_of, routes, settle

MAX_QUEUED = 6


class Arrival:
    """A call, and what becomes of it."""

    def __init__(self, number: int, call: Any, caller: Caller) -> None:
        self.number = number
        self.call = call
        self.caller = caller


class DeploymentMachine(RuleBasedStateMachine):
    """Random replicas of a deployment with a queue of six, and everything that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.deployment = Deployment("app", "Echo", self.clock, random.Random(7).random)
        self.slots = 2
        self.deployment.configure(routes(slots=2, max_queued=MAX_QUEUED))
        self.replicas: list[FakeReplica] = []
        self.gone: list[FakeReplica] = []
        self.arrivals: list[Arrival] = []
        self.broadcasts: list[tuple[Caller, int]] = []
        self.names = 0

    def run(self, action: Any) -> Any:
        """Does something on the loop, and lets what follows from it arrive."""

        async def act() -> Any:
            result = action()
            await settle()
            return result

        return self.runner.run(act())

    def teardown(self) -> None:
        def end() -> None:
            self.deployment.delete()
            for replica in (*self.replicas, *self.gone):
                replica.die()

        self.run(end)
        assert self.deployment.queued == self.deployment.queued_bytes == self.deployment.kept_bytes == 0
        assert all(replica.replica.in_flight == 0 for replica in (*self.replicas, *self.gone))
        assert all(arrival.caller.ends == 1 for arrival in self.arrivals), self.arrivals
        assert all(caller.ends == 1 for caller, _ in self.broadcasts)
        self.runner.close()

    def ongoing(self) -> list[ReplicaCall]:
        return [call for replica in (*self.replicas, *self.gone) for call in replica.ongoing]

    # -- what happens

    @initialize(count=st.integers(1, 3))
    def start_with_replicas(self, count: int) -> None:
        for _ in range(count):
            self.replica_comes(100, False)

    @rule(
        count=st.integers(1, 4),
        idempotent=st.booleans(),
        session=st.sampled_from(["", "", "x", "y"]),
        pieces=st.integers(0, 2),
        timeout=st.sampled_from([0.0, 0.0, 5.0]),
    )
    def arrive(self, count: int, **options: Any) -> None:
        for _ in range(count):
            self.arrive_one(**options)

    def arrive_one(self, idempotent: bool, session: str, pieces: int, timeout: float) -> None:
        number = len(self.arrivals)
        call, caller = call_of(
            number.to_bytes(4), last=not pieces, idempotent=idempotent, session_id=session, request_id=str(number)
        )
        if timeout:
            call.deadline = self.clock.now + timeout
        self.arrivals.append(Arrival(number, call, caller))

        def admit() -> None:
            self.deployment.admit(call)
            for piece in range(pieces):
                call.send(bytes([piece]), last=piece == pieces - 1)

        self.run(admit)

    @precondition(lambda self: self.ongoing())
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, fails: bool) -> None:
        call = data.draw(st.sampled_from(self.ongoing()))
        self.run(lambda: call.fail(ValueError("bad")) if fails else call.answer(call.payload))

    @precondition(lambda self: self.ongoing())
    @rule(data=st.data())
    def stream_an_item(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.ongoing()))
        self.run(lambda: call.send(b"item", more=call.header.broadcast))

    @precondition(lambda self: any(call.stream.sent_last is None for call in self.ongoing()))
    @rule(data=st.data())
    def send_a_head(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([each for each in self.ongoing() if each.stream.sent_last is None]))
        self.run(lambda: call.head("k", b"v"))

    @precondition(lambda self: any(not arrival.caller.ends for arrival in self.arrivals))
    @rule(data=st.data(), expire=st.booleans())
    def give_up(self, data: st.DataObject, expire: bool) -> None:
        arrival = data.draw(st.sampled_from([each for each in self.arrivals if not each.caller.ends]))
        self.run(arrival.call.expire if expire else arrival.call.cancel)

    @rule(seconds=st.integers(1, 6))
    def time_passes(self, seconds: int) -> None:
        """The timers are late: what has expired is found when its turn comes."""
        self.clock.now += seconds

    @precondition(lambda self: len(self.replicas) < 4)
    @rule(limit=st.sampled_from([100, 100, 100, 2, 1, 0]), dead=st.sampled_from([False, False, False, True]))
    def replica_comes(self, limit: int, dead: bool) -> None:
        """Its own limit may be another than what the gateway goes by; its link may be dead already."""
        self.names += 1
        replica = FakeReplica(f"app#Echo#{self.names}", limit)
        self.replicas.append(replica)

        def join() -> None:
            replica.join(self.deployment)
            if dead:
                replica.die()

        self.run(join)

    def alive(self) -> list[FakeReplica]:
        return [replica for replica in self.replicas if not replica.link.closed]

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def replica_grows(self, data: st.DataObject) -> None:
        """It has room again, and reports its load."""
        replica = data.draw(st.sampled_from(self.alive()))

        def report() -> None:
            replica.slots = 1_000_000
            replica.replica.report(replica.load())
            self.deployment.wake()

        self.run(report)

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), ongoing=st.integers(0, 5))
    def replica_reports(self, data: st.DataObject, ongoing: int) -> None:
        """Other workers have calls on it too."""
        replica = data.draw(st.sampled_from(self.alive()))

        def report() -> None:
            sequence = replica.load().sequence
            replica.replica.report(session_pb2.Load(ongoing=ongoing, sequence=sequence))
            self.deployment.wake()

        self.run(report)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), goodbye=st.booleans())
    def replica_drains(self, data: st.DataObject, goodbye: bool) -> None:
        replica = data.draw(st.sampled_from(self.replicas))

        def drain() -> None:
            replica.draining = True
            if goodbye:
                replica.link.goodbye()
                self.deployment.leave_rotation(replica.replica)

        self.run(drain)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), noticed=st.booleans(), crossing=st.integers(0, 2))
    def replica_dies(self, data: st.DataObject, noticed: bool, crossing: int) -> None:
        """With calls that were admitted in the same moment, and so were never written."""
        replica = data.draw(st.sampled_from(self.replicas))
        self.replicas.remove(replica)
        self.gone.append(replica)

        def die() -> None:
            for _ in range(crossing):
                number = len(self.arrivals)
                call, caller = call_of(number.to_bytes(4), request_id=str(number))
                self.arrivals.append(Arrival(number, call, caller))
                self.deployment.admit(call)
            self.deployment.replicas.pop(replica.replica_id)
            if noticed:
                self.deployment.leave_rotation(replica.replica)
            replica.die()
            self.deployment.leave_rotation(replica.replica)

        self.run(die)

    @rule(slots=st.integers(1, 4))
    def slots_change(self, slots: int) -> None:
        self.slots = slots
        self.run(lambda: self.deployment.configure(routes(slots=slots, max_queued=MAX_QUEUED)))

    @rule()
    def deployment_fails_and_recovers(self) -> None:
        def fail() -> None:
            failed = routes(slots=self.slots, max_queued=MAX_QUEUED, unavailable_message="it does not start")
            self.deployment.configure(failed)
            assert self.deployment.queued == 0
            self.deployment.configure(routes(slots=self.slots, max_queued=MAX_QUEUED))

        self.run(fail)

    @precondition(lambda self: self.deployment.replicas)
    @rule()
    def broadcast(self) -> None:
        caller = Caller()
        count = len(self.deployment.replicas)

        def start() -> None:
            header = session_pb2.CallHeader(broadcast=True)
            caller.call = Broadcast(header, caller, Trust.OWNER, "application/json", self.deployment)
            caller.call.send(b"broadcast")

        self.broadcasts.append((caller, count))
        self.run(start)

    # -- what must hold

    @invariant()
    def counts_are_exact(self) -> None:
        deployment = self.deployment
        waiting = [call for call in (*deployment.again, *deployment.queue) if not call.done]
        assert deployment.queued == len(waiting)
        assert deployment.queued_bytes == sum(len(call.payload) for call in waiting)
        held = [arrival.call for arrival in self.arrivals if arrival.call.pieces is not None]
        assert deployment.kept_bytes == sum(call.kept_bytes for call in held)
        for replica in (*self.replicas, *self.gone):
            seen = replica.replica
            assert seen.in_flight == (len(seen.link.session.streams) if seen.link is not None else 0)
            assert seen.load == seen.in_flight + seen.elsewhere

    @invariant()
    def what_the_replica_has_is_what_we_count(self) -> None:
        for replica in (*self.replicas, *self.gone):
            assert len(replica.ongoing) == replica.replica.in_flight, replica.replica

    @invariant()
    def every_call_is_in_one_place_and_ends_once(self) -> None:
        waiting = {id(call) for call in (*self.deployment.again, *self.deployment.queue) if not call.done}
        for arrival in self.arrivals:
            call, caller = arrival.call, arrival.caller
            assert caller.ends == call.done
            begun = caller.heads or caller.messages
            assert not (begun and id(call) in waiting), "waits again after part of its answer"
            assert (id(call) in waiting) + call.done + (call.stream is not None and not call.done) == 1, call

    @invariant()
    def no_call_waits_while_a_slot_is_free(self) -> None:
        if self.deployment.queued:
            assert all(replica.load >= self.slots for replica in self.deployment.ready)

    @invariant()
    def the_queue_is_bounded_and_in_order(self) -> None:
        deployment = self.deployment
        fresh = [int(call.header.request_id) for call in deployment.queue if not call.done]
        assert fresh == sorted(fresh)
        assert len(fresh) <= MAX_QUEUED
        again = [int(call.header.request_id) for call in deployment.again if not call.done]
        assert not (again and fresh) or min(again) < max(fresh)

    @invariant()
    def dead_replicas_are_out_of_rotation(self) -> None:
        if self.deployment.queued:
            assert not any(replica.link is None or replica.link.closed for replica in self.deployment.ready)

    @invariant()
    def a_call_is_started_once_unless_it_is_idempotent(self) -> None:
        starts: dict[str, int] = {}
        for replica in (*self.replicas, *self.gone):
            for call in replica.calls:
                if not call.header.broadcast and not call.header.idempotent:
                    starts[call.header.request_id] = starts.get(call.header.request_id, 0) + 1
        assert max(starts.values(), default=0) <= 1

    @invariant()
    def broadcasts_report_each_replica_once(self) -> None:
        for caller, count in self.broadcasts:
            answers = [serving_pb2.BroadcastResponse.FromString(message) for message, _ in caller.messages]
            ids = [answer.result.replica_id for answer in answers[1:]]
            assert len(set(ids)) == len(ids) <= count == len(answers[0].replicas.replica_ids)
            assert bool(caller.ends) == (len(ids) == count)


TestDeployment = DeploymentMachine.TestCase
TestDeployment.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
