"""Calls with a model id: which replica gets them, and how that fares with models of unequal popularity."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import session_pb2
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.pick import pick, pick_by_model, worth_waiting
from fairlead_gateway.routing.replica import Replica
from tests.routing.fake_replica import FakeClock, FakeReplica, admit, routes
from tests.wire.calls import until

Join = Callable[[str], FakeReplica]


def replica(name: str, *models: str, load: int = 0) -> Replica:
    made = Replica(name, "")
    report(made, *models)
    made.in_flight = made.load = load
    return made


def report(replica: Replica, *models: str, load_time_s: float = 0.0) -> None:
    loaded = session_pb2.LoadedModels(model_ids=models, load_time_us=int(load_time_s * 1e6))
    replica.report(session_pb2.Load(ongoing=replica.load, sequence=replica.sequence + 1, models=loaded))


# -- picking


def test_the_least_loaded_holder_with_a_free_slot() -> None:
    some = [replica("a", "m", load=3), replica("b", "m", load=2), replica("c", load=0)]
    assert pick_by_model(some, 4, "m") == (some[1], True)
    assert pick_by_model(some, 3, "m") == (some[1], True)
    assert pick_by_model(some, 2, "m") == (some[2], False)
    assert pick_by_model(some, 4, "m", avoid=some[1]) == (some[0], True)
    assert pick_by_model([some[1]], 4, "m", avoid=some[1]) == (some[1], True)


def test_without_a_holder_the_fewest_models_then_the_least_load() -> None:
    some = [replica("a", "x", "y"), replica("b", "z", load=2), replica("c", "w", load=1)]
    assert pick_by_model(some, 4, "m") == (some[2], False)
    some[2].send_model("new")
    some[2].send_model("w")  # it has that one: no further model
    assert some[2].model_count == 2
    assert pick_by_model(some, 4, "m") == (some[1], False)


def test_equal_replicas_share_the_models_and_keep_them() -> None:
    some = [replica(name) for name in "abcd"]
    homes = {str(n): pick_by_model(some, 4, str(n))[0] for n in range(400)}
    assert min(Counter(homes.values()).values()) > 60
    assert homes == {str(n): pick_by_model(some, 4, str(n))[0] for n in range(400)}


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
    picked, held = pick_by_model(some, slots, "m", avoided)
    if all(each.load >= slots for each in some):
        assert picked is None
    else:
        assert picked is not None
        assert picked.load < slots
        assert held == picked.holds("m")


def test_waiting_is_worth_it_while_it_is_sooner_than_a_load() -> None:
    some = [replica("a", "m"), replica("b")]
    assert worth_waiting(some, 2, "m", 1.0, 0.5, 0)
    assert worth_waiting(some, 2, "m", 1.0, 0.5, 2)
    assert not worth_waiting(some, 2, "m", 1.0, 0.5, 3)
    assert not worth_waiting(some, 2, "other", 1.0, 0.5, 0)
    assert not worth_waiting(some, 2, "m", 0.0, 0.5, 0)
    assert not worth_waiting(some, 2, "m", 1.0, 0.0, 0)


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


# -- a simulation: 64 models of Zipf popularity, 4 replicas, 4 models each

MODELS, REPLICAS, PLACES, SLOTS = 64, 4, 4, 8
LOAD_S, CALL_S, CALLS = 1.0, 0.05, 20_000
Rule = Callable[[list[Replica], str, random.Random], Replica | None]


def plain(replicas: list[Replica], model: str, dice: random.Random) -> Replica | None:
    """Power of two choices, whatever the model."""
    return pick(replicas, SLOTS, dice.random)


def rays(replicas: list[Replica], model: str, dice: random.Random) -> Replica | None:
    """Two random ones of those that have it, else of those with the fewest models, whatever the load."""
    candidates = [each for each in replicas if each.holds(model)]
    if not candidates:
        fewest = min(each.model_count for each in replicas)
        candidates = [each for each in replicas if each.model_count == fewest]
    return pick(candidates, SLOTS, dice.random) or pick(replicas, SLOTS, dice.random)


def ours(replicas: list[Replica], model: str, dice: random.Random) -> Replica | None:
    return pick_by_model(replicas, SLOTS, model)[0]


@dataclass(kw_only=True)
class Result:
    """What became of the calls."""

    hits: int = 0
    taken: Counter[str] = field(default_factory=Counter)

    @property
    def hit_rate(self) -> float:
        return self.hits / CALLS

    @property
    def imbalance(self) -> float:
        """The busiest replica's share beside the mean."""
        return max(self.taken.values()) * REPLICAS / CALLS


def simulate(rule: Rule, seed: int = 1) -> Result:
    """Calls arrive at random; one that finds its model takes CALL_S seconds, another one LOAD_S more."""
    dice = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(MODELS)))
    replicas = [replica(str(number)) for number in range(REPLICAS)]
    held: dict[str, OrderedDict[str, None]] = {each.replica_id: OrderedDict() for each in replicas}
    ends: list[tuple[float, int, Replica]] = []
    result = Result()
    now = 0.0
    for number in range(CALLS):
        now += dice.expovariate(20.0)
        model = f"m{dice.choices(range(MODELS), cum_weights=weights)[0]}"
        while True:
            while ends and ends[0][0] <= now:
                heapq.heappop(ends)[2].release()
            picked = rule(replicas, model, dice)
            if picked is not None:
                break
            now = max(now, ends[0][0])
        cache = held[picked.replica_id]
        hit = model in cache
        result.hits += hit
        result.taken[picked.replica_id] += 1
        cache[model] = None
        cache.move_to_end(model)
        if len(cache) > PLACES:
            cache.popitem(last=False)
        if not hit:
            report(picked, *cache)
        picked.take()
        heapq.heappush(ends, (now + CALL_S + (0 if hit else LOAD_S), number, picked))
    return result


def test_popular_models_stay_loaded() -> None:
    best = sum(1 / (rank + 1) for rank in range(REPLICAS * PLACES)) / sum(1 / (rank + 1) for rank in range(MODELS))
    by_rule = {rule.__name__: simulate(rule) for rule in (plain, rays, ours)}
    rates = {name: f"{result.hit_rate:.3f} of {best:.3f}, x{result.imbalance:.2f}" for name, result in by_rule.items()}
    print(rates)
    assert by_rule["ours"].hit_rate > 1.3 * by_rule["plain"].hit_rate, rates
    assert by_rule["ours"].hit_rate > by_rule["rays"].hit_rate - 0.03, rates
    assert by_rule["ours"].imbalance < 1.5, rates
