"""Calls with a model id: which replica gets them. How that fares is in test_placement.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import session_pb2
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.pick import worth_waiting
from fairlead_gateway.routing.placement import Placement
from fairlead_gateway.routing.replica import Replica
from tests.routing.fake_replica import FakeClock, FakeReplica, admit, routes
from tests.wire.calls import until

Join = Callable[[str], FakeReplica]


def replica(name: str, *models: str, load: int = 0) -> Replica:
    made = Replica(name, "")
    report(made, *models)
    made.in_flight = made.load = load
    return made


def report(replica: Replica, *models: str, load_time_s: float = 0.0, stuck: tuple[str, ...] = ()) -> None:
    loaded = session_pb2.LoadedModels(
        model_ids=models, load_time_us=int(load_time_s * 1e6), unavailable_model_ids=stuck
    )
    replica.report(session_pb2.Load(ongoing=replica.load, sequence=replica.sequence + 1, models=loaded))


# -- picking


def test_the_least_loaded_holder_with_a_free_slot() -> None:
    some = [replica("a", "m", load=3), replica("b", "m", load=2), replica("c", load=0)]
    assert Placement().pick(some, 4, "m") == (some[1], True)
    assert Placement().pick(some, 3, "m") == (some[1], True)
    assert Placement().pick(some, 2, "m") == (some[2], False)
    assert Placement().pick(some, 4, "m", avoid=some[1]) == (some[0], True)
    assert Placement().pick([some[1]], 4, "m", avoid=some[1]) == (some[1], True)


def test_without_a_holder_the_fewest_models_then_the_least_load() -> None:
    some = [replica("a", "x", "y"), replica("b", "z", load=2), replica("c", "w", load=1)]
    assert Placement().pick(some, 4, "m") == (some[2], False)
    some[2].send_model("new")
    some[2].send_model("w")  # it has that one: no further model
    assert some[2].model_count == 2
    assert Placement().pick(some, 4, "m") == (some[1], False)


def test_a_replica_where_a_model_is_stuck_is_taken_only_if_no_other_is_free() -> None:
    some = [replica("a"), replica("b", "x", "y", load=1), replica("c", "z", load=2)]
    assert Placement().pick(some, 4, "m") == (some[0], False)
    some[0].send_model("m")
    report(some[0], stuck=("m",))
    assert not some[0].holds("m")
    assert Placement().pick(some, 4, "m") == (some[2], False)
    assert Placement().pick(some, 2, "m") == (some[1], False)
    assert Placement().pick(some, 1, "m") == (some[0], False)
    assert Placement().pick(some, 4, "other") == (some[0], False)
    report(some[0])
    assert Placement().pick(some, 4, "m") == (some[0], True)


def test_equal_replicas_share_the_models_and_keep_them() -> None:
    some = [replica(name) for name in "abcd"]
    homes = {str(n): Placement().pick(some, 4, str(n))[0] for n in range(400)}
    assert min(Counter(homes.values()).values()) > 60
    assert homes == {str(n): Placement().pick(some, 4, str(n))[0] for n in range(400)}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_a_full_replica_is_never_picked_and_a_free_one_always_found(
    states: list[tuple[int, bool]], slots: int, avoid: int | None
) -> None:
    some = [replica(str(n), *(["m"] if holds else []), load=load) for n, (load, holds) in enumerate(states)]
    avoided = some[avoid] if avoid is not None and avoid < len(some) else None
    picked, held = Placement().pick(some, slots, "m", avoided)
    if all(each.load >= slots for each in some):
        assert picked is None
    else:
        assert picked is not None
        assert picked.load < slots
        assert held == picked.holds("m")


def test_waiting_is_worth_it_while_it_is_sooner_than_a_load() -> None:
    some = [replica("a", "m", load=2), replica("b")]
    assert worth_waiting(some, 2, "m", 1.0, 0.5, 0)
    assert worth_waiting(some, 2, "m", 1.0, 0.5, 2)
    assert not worth_waiting(some, 2, "m", 1.0, 0.5, 3)
    assert not worth_waiting(some, 2, "other", 1.0, 0.5, 0)
    assert not worth_waiting(some, 2, "m", 0.0, 0.5, 0)
    assert not worth_waiting(some, 2, "m", 1.0, 0.0, 0)
    assert not worth_waiting(some, 3, "m", 1.0, 0.5, 0)  # it is free, and was not picked


def test_reports_of_models() -> None:
    some = replica("a", "m")
    some.report(session_pb2.Load(sequence=9))
    assert some.holds("m")  # a report without models says nothing of them
    some.send_model("n")
    some.send_model("n")
    some.end_model("n")
    assert some.holds("n")
    some.end_model("n")
    assert not some.holds("n")
    report(some)
    assert not some.holds("m")
    assert some.models == frozenset()


# -- a deployment


async def test_a_model_that_is_stuck_at_one_replica_is_loaded_at_another(deployment: Deployment, join: Join) -> None:
    deployment.configure(routes(slots=10))
    replicas = [join(name) for name in "ab"]
    for each in replicas:
        report(each.replica)
    failed = admit(deployment, multiplexed_model_id="m")
    (first,) = [each for each in replicas if each.replica.in_flight]
    (await first.called()).fail(TimeoutError("loading model 'm' took more than 1 s"))
    await failed.end()
    report(first.replica, stuck=("m",))
    admit(deployment, multiplexed_model_id="m")
    assert [each.replica.in_flight for each in replicas if each is not first] == [1]


async def test_followers_go_where_the_first_one_went(deployment: Deployment, join: Join) -> None:
    deployment.configure(routes(slots=10))
    replicas = [join(name) for name in "abc"]
    for each in replicas:
        report(each.replica)
    callers = [admit(deployment, multiplexed_model_id=f"m{n % 3}") for n in range(15)]
    assert [each.replica.in_flight for each in replicas] == [5, 5, 5]
    assert [each.replica.model_count for each in replicas] == [1, 1, 1]
    for each in replicas:
        await each.called(5)
        for call in each.calls:
            call.answer()
    for caller in callers:
        await caller.end()
    assert [each.replica.models_sent for each in replicas] == [{}, {}, {}]


async def test_a_call_waits_for_its_model_but_not_for_long(
    deployment: Deployment, join: Join, clock: FakeClock
) -> None:
    one, other = join("a"), join("b")
    report(one.replica, "m", load_time_s=2.0)
    report(other.replica)
    await measure(deployment, one, clock)
    running = admit(deployment, multiplexed_model_id="m")
    waiting = [admit(deployment, multiplexed_model_id="m") for _ in range(2)]
    assert (one.replica.in_flight, other.replica.in_flight, len(deployment.parked)) == (1, 1, 1)
    assert admit(deployment, b"plain").ends == 0  # queued: both are full
    (await other.called()).answer()
    await until(lambda: len(other.calls) == 2)  # the plain call overtakes the one that waits for its model
    assert other.calls[-1].payload == b"plain"
    other.calls[-1].answer()
    (await one.called(2)).answer()
    await running.end()
    (await one.called(3)).answer()
    for caller in waiting:
        await caller.end()
    assert (deployment.queued, len(deployment.parked)) == (0, 0)


async def test_patience_ends(deployment: Deployment, join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    report(one.replica, "m", load_time_s=2.0)
    report(other.replica)
    await measure(deployment, one, clock)
    admit(deployment, multiplexed_model_id="m")
    admit(deployment, multiplexed_model_id="m")
    gone = admit(deployment, multiplexed_model_id="m")
    assert (len(deployment.parked), other.replica.in_flight) == (1, 1)
    (await other.called()).answer()
    await until(lambda: not other.ongoing)
    await until(lambda: other.replica.in_flight == 0)
    assert len(deployment.parked) == 1
    clock.now += 2.5
    deployment.wake()
    assert (deployment.queued, len(deployment.parked), other.replica.in_flight) == (0, 0, 1)
    gone.call.cancel()


async def test_one_that_waits_for_its_model_can_give_up(deployment: Deployment, join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    report(one.replica, "m", load_time_s=2.0)
    report(other.replica)
    await measure(deployment, one, clock)
    admit(deployment, multiplexed_model_id="m")
    waiting = admit(deployment, multiplexed_model_id="m")
    assert len(deployment.parked) == 1
    waiting.call.cancel()
    assert (deployment.queued, deployment.queued_bytes, len(deployment.parked)) == (0, 0, 0)
    admit(deployment, multiplexed_model_id="m")
    deployment.delete()
    assert (deployment.queued, deployment.queued_bytes, len(deployment.parked)) == (0, 0, 0)


async def measure(deployment: Deployment, replica: FakeReplica, clock: FakeClock) -> None:
    """Has a call for "m" take 1.5 seconds."""
    caller = admit(deployment, multiplexed_model_id="m")
    call = await replica.called()
    clock.now += 1.5
    call.answer()
    await caller.end()
