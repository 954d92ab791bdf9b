"""Homes for popular models: the decisions, and how they fare in a simulation."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import session_pb2
from fairlead_gateway.routing import placement as placement_module
from fairlead_gateway.routing.placement import FEWEST_CALLS, SHARED_BOUND, Placement
from fairlead_gateway.routing.replica import Replica
from tests.routing.model_simulation import Load, Result, Rule, ours, plain, rays, simulate, without_homes


def replica(name: str, *models: str, load: int = 0, places: int = 2) -> Replica:
    made = Replica(name, "")
    said = session_pb2.LoadedModels(model_ids=models, capacity=places)
    made.report(session_pb2.Load(sequence=1, models=said))
    made.in_flight = made.load = load
    return made


def replicas(number: int = 4, places: int = 2) -> list[Replica]:
    return [replica(name, places=places) for name in "abcdefgh"[:number]]


def placed(some: list[Replica], popularity: dict[str, int], seed: int = 1) -> Placement:
    """A placement that has seen so many calls for each model, in random order."""
    calls = [model for model, count in popularity.items() for _ in range(count)]
    random.Random(seed).shuffle(calls)
    made = Placement()
    for model in calls:
        made.note(model, some)
    return made


UNEQUAL = {f"m{rank}": 400 // (rank + 1) for rank in range(20)}


def test_until_something_is_known_models_spread_as_they_come() -> None:
    some = replicas()
    made = Placement()
    homes = []
    for model in "wxyz":
        made.note(model, some)
        picked, held = made.pick(some, 4, model)
        assert picked is not None
        assert not held
        picked.send_model(model)
        homes.append(picked)
    assert len(set(homes)) == 4
    assert (made.homes, made.shared) == ({}, ())
    assert made.pick(some, 4, "w") == (homes[0], True)


def test_popular_models_have_homes_and_the_rest_shares_few_replicas() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    assert len(made.shared) == 1
    assert set(made.homes) == {f"m{rank}" for rank in range(6)}
    assert Counter(home for homes in made.homes.values() for home in homes) == {
        each: 2 for each in some if each not in made.shared
    }
    assert made.pick(some, 4, "m0") == (made.homes["m0"][0], False)
    assert made.pick(some, 4, "m15") == (made.shared[0], False)
    assert made.pick(some, 4, "never seen") == (made.shared[0], False)


def test_where_everything_fits_everything_has_a_home() -> None:
    made = placed(replicas(places=8), UNEQUAL)
    assert made.shared == ()
    assert set(made.homes) == set(UNEQUAL)


def test_where_models_are_equally_popular_no_replica_bears_them_all() -> None:
    some = replicas()
    made = placed(some, {f"m{number}": 50 for number in range(40)})
    assert len(made.shared) == 3
    assert len(made.homes) == 2


@pytest.mark.parametrize("places", [0, 2])
def test_one_replica_has_no_choice(places: int) -> None:
    some = replicas(1, places)
    made = placed(some, UNEQUAL)
    assert made.homes == {}
    assert made.pick(some, 4, "m0") == (some[0], False)


def test_a_replica_that_has_not_reported_yet_moves_no_homes() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    homes = made.homes
    late = Replica("e", "")
    made.note("m0", [*some, late])
    assert made.homes == homes
    late.report(session_pb2.Load(sequence=1, models=session_pb2.LoadedModels(capacity=2)))
    made.note("m0", [*some, late])
    assert any(late in each for each in made.homes.values()) or late in made.shared


def test_a_replica_that_keeps_any_number_needs_no_homes() -> None:
    some = [*replicas(3), replica("d", places=0)]
    made = placed(some, UNEQUAL)
    assert (made.homes, made.shared) == ({}, ())


def test_a_model_has_its_home_where_it_is() -> None:
    some = [replica("a", "m1", "m2"), replica("b", "m3", "m4"), replica("c", "m5", "m6"), replica("d", "x", "y")]
    made = placed(some, {**{f"m{number}": 300 for number in range(1, 7)}, **{f"r{number}": 10 for number in range(30)}})
    at_home = [each for each in some for model in each.models or () if each in made.homes.get(model, ())]
    assert len(at_home) == 6 - 2 * any(each in made.shared for each in some[:3])


def test_a_model_that_is_too_much_for_one_replica_has_several_homes() -> None:
    some = replicas(8)
    made = placed(some, {"hot": 3000, **{f"m{number}": 100 for number in range(30)}})
    assert len(made.homes["hot"]) >= 4
    busy = made.homes["hot"][0]
    busy.load = 3
    picked, _ = made.pick(some, 4, "hot")
    assert picked in made.homes["hot"]
    assert picked is not busy


def test_homes_do_not_change_hands_for_little() -> None:
    some = replicas()
    equal = {f"m{number}": 200 for number in range(12)}
    made = placed(some, equal)
    before = dict(made.homes)
    for number in range(40):  # another one is a little ahead now and then
        made.note(f"m{number % 12}", some)
    assert made.homes == before


def test_popularity_is_forgotten() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    dice = random.Random(2)
    news = [f"n{rank}" for rank in range(6) for _ in range(2000 // (rank + 1))]
    dice.shuffle(news)
    for model in news:
        made.note(model, some)
    assert set(made.homes) >= {"n0", "n1", "n2", "n3"}
    assert "m15" not in made._counts


def test_models_beyond_counting_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "MAX_TRACKED", 100)
    some = replicas()
    made = Placement()
    for number in range(10_000):
        made.note(f"once {number}", some)
    assert len(made._counts) <= 100 + FEWEST_CALLS


def test_replicas_that_come_and_go_are_placed_on_at_once() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    gone = made.homes["m0"][0]
    left = [each for each in some if each is not gone]
    made.note("m0", left)
    assert gone not in {home for homes in made.homes.values() for home in homes}
    assert gone not in made.shared
    assert made.pick(left, 4, "m0")[0] is not None


def test_a_shared_replica_that_has_too_much_is_relieved() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    (shared,) = made.shared
    for each in some:
        made.sent(each)
    for _ in range(2):
        made.sent(shared)  # three of six: twice the mean
    assert SHARED_BOUND < 2
    picked, _ = made.pick(some, 4, "rare")
    assert picked is not shared


def test_a_shared_replica_where_models_wait_for_places_is_relieved() -> None:
    some = replicas()
    made = placed(some, UNEQUAL)
    (shared,) = made.shared
    for number in range(4):
        assert made.pick(some, 100, "rare") == (shared, False)
        shared.send_model(f"loading {number}")
    assert made.pick(some, 100, "rare")[0] is not shared


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=6),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(0, 5)),
    st.lists(st.sampled_from("mnopqrstuvw"), max_size=120),
)
def test_a_full_replica_is_never_picked_and_a_free_one_always_found(
    states: list[tuple[int, bool, int]], slots: int, avoid: int | None, calls: list[str]
) -> None:
    some = [
        replica(str(n), *(["m"] if holds else []), load=load, places=places)
        for n, (load, holds, places) in enumerate(states)
    ]
    made = Placement()
    for model in calls:
        made.note(model, some)
    avoided = some[avoid] if avoid is not None and avoid < len(some) else None
    picked, held = made.pick(some, slots, "m", avoided)
    if all(each.load >= slots for each in some):
        assert picked is None
    else:
        assert picked is not None
        assert picked.load < slots
        assert held == picked.holds("m")
        others = [each for each in some if each is not avoided and each.load < slots]
        assert picked is not avoided or not others


# -- the simulation: 64 models of Zipf popularity, 4 replicas, 4 models each


def results(load: Load, *rules: Rule) -> dict[str, Result]:
    return {rule.__name__: simulate(rule, load) for rule in rules}  # type: ignore[arg-type,attr-defined]


def test_popular_models_stay_loaded() -> None:
    load = Load()
    by_rule = results(load, plain, rays, without_homes, ours)  # type: ignore[arg-type]
    told = {
        name: f"{result.hit_rate / load.best_static:.3f} of the best, x{result.imbalance:.2f}, "
        f"p99 {result.percentile(99) * 1e3:.0f} ms"
        for name, result in by_rule.items()
    }
    mine = by_rule["ours"]
    assert mine.hit_rate >= 0.95 * load.best_static, told
    assert mine.imbalance <= 1.5, told
    assert mine.hit_rate > 1.15 * by_rule["rays"].hit_rate > 1.3 * by_rule["plain"].hit_rate, told
    assert mine.percentile(99) < 2 * load.load_s, told


@pytest.mark.parametrize(
    ("load", "share"),
    [
        (Load(load_s=0.01), 0.95),
        (Load(zipf=0.6), 0.85),
        (Load(zipf=1.4), 0.95),
        (Load(replicas=8, calls_per_s=200.0), 0.93),
        (Load(models=16), 0.99),
        (Load(shifts=5_000), 0.85),
    ],
    ids=["light load", "flat", "steep", "eight replicas", "everything fits", "popularity moves"],
)
def test_other_loads_fare_well_too(load: Load, share: float) -> None:
    by_rule = results(load, rays, ours)  # type: ignore[arg-type]
    mine = by_rule["ours"]
    assert mine.hit_rate >= share * load.best_static
    assert mine.hit_rate >= by_rule["rays"].hit_rate * 0.99
    assert mine.imbalance <= 1.5
