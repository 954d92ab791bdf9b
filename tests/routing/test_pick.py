"""Which replica a call gets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fairlead_gateway.routing.pick import BALANCE, pick, pick_by_key
from fairlead_gateway.routing.replica import Replica


def replicas(*loads: int) -> list[Replica]:
    made = []
    for number, load in enumerate(loads):
        replica = Replica(f"app#Echo#{number}", "")
        replica.in_flight = replica.load = load
        made.append(replica)
    return made


def dice(*numbers: float) -> Callable[[], float]:
    rolls = iter(numbers)
    return lambda: next(rolls)


loads = st.lists(st.integers(0, 6), min_size=0, max_size=12)
slots = st.integers(1, 5)
seeds = st.integers(0, 2**32)


# -- power of two choices


def test_without_replicas_none_is_picked():
    assert pick([], 1, random.random) is None
    assert pick_by_key([], 1, "key") is None


def test_the_less_loaded_of_two_is_picked():
    three = replicas(3, 1, 0)
    assert pick(three, 10, dice(0.0, 0.0)) is three[1]  # of the first two
    assert pick(three, 10, dice(0.4, 0.0)) is three[1]
    assert pick(three, 10, dice(0.0, 0.99)) is three[2]


def test_the_two_choices_are_never_the_same_replica():
    two = replicas(1, 0)
    for number in range(100):
        for other in range(100):
            assert pick(two, 2, dice(number / 100, other / 100)) is two[1]


@given(loads, slots, seeds)
def test_a_full_replica_is_never_picked_and_a_free_one_always_found(loads: list[int], slots: int, seed: int):
    some = replicas(*loads)
    picked = pick(some, slots, random.Random(seed).random)
    if min(loads, default=slots) >= slots:
        assert picked is None
    else:
        assert picked in some
        assert picked.load < slots


@given(loads.filter(bool), slots, seeds, st.data())
def test_a_replica_to_avoid_is_the_last_resort(loads: list[int], slots: int, seed: int, data: st.DataObject):
    some = replicas(*loads)
    avoid = data.draw(st.sampled_from(some))
    others_free = any(replica.load < slots for replica in some if replica is not avoid)
    for picked in (
        pick(some, slots, random.Random(seed).random, avoid),
        pick_by_key(some, slots, str(seed), avoid),
    ):
        if others_free:
            assert picked is not None
            assert picked is not avoid
        else:
            assert picked is (avoid if avoid.load < slots else None)


@given(loads, slots)
def test_a_replica_to_avoid_that_has_gone_does_not_matter(loads: list[int], slots: int):
    some = replicas(*loads)
    gone = Replica("gone", "")
    free = any(replica.load < slots for replica in some)
    assert (pick(some, slots, random.Random(1).random, gone) is not None) == free
    assert (pick_by_key(some, slots, "key", gone) is not None) == free


@given(st.integers(2, 20), seeds)
def test_calls_are_spread_evenly(count: int, seed: int):
    rand = random.Random(seed).random
    some = replicas(*[0] * count)
    for _ in range(count * 50):
        picked = pick(some, 1_000_000, rand)
        assert picked is not None
        picked.take()
    spread = [replica.load for replica in some]
    assert max(spread) - min(spread) <= 12  # by chance alone it would be 40 and more


@given(st.integers(2, 8), seeds)
def test_equal_replicas_get_equal_shares(count: int, seed: int):
    rand = random.Random(seed).random
    some = replicas(*[0] * count)
    shares = Counter(pick(some, 1, rand) for _ in range(count * 400))
    assert min(shares[replica] for replica in some) > 250


# -- by key


@given(loads.filter(bool), slots, st.text(max_size=20))
def test_a_key_never_gets_a_full_replica_and_always_a_free_one(loads: list[int], slots: int, key: str):
    some = replicas(*loads)
    picked = pick_by_key(some, slots, key)
    if min(loads) >= slots:
        assert picked is None
    else:
        assert picked in some
        assert picked.load < slots


@given(st.integers(1, 12), st.text(max_size=20), st.randoms())
def test_a_key_stays_with_its_replica_whatever_their_order(count: int, key: str, shuffler: random.Random):
    some = replicas(*[0] * count)
    home = pick_by_key(some, 10, key)
    shuffler.shuffle(some)
    assert pick_by_key(some, 10, key) is home


def test_keys_are_spread_evenly():
    some = replicas(*[0] * 10)
    shares = Counter(pick_by_key(some, 10, f"session-{number}") for number in range(5000))
    assert len(shares) == 10
    assert all(400 <= share <= 600 for share in shares.values())  # 21 is one standard deviation


def test_when_a_replica_goes_only_its_keys_move():
    some = replicas(*[0] * 10)
    keys = [f"session-{number}" for number in range(1000)]
    before = {key: pick_by_key(some, 10, key) for key in keys}
    gone = some.pop(3)
    moved = Counter()
    for key in keys:
        after = pick_by_key(some, 10, key)
        if before[key] is gone:
            moved[after] += 1
        else:
            assert after is before[key]
    assert len(moved) == 9  # to all the others


def test_when_a_replica_comes_keys_move_only_to_it():
    some = replicas(*[0] * 10)
    new = some.pop()
    for number in range(1000):
        key = f"session-{number}"
        before = pick_by_key(some, 10, key)
        assert pick_by_key([*some, new], 10, key) in (before, new)


@given(st.integers(2, 10), st.integers(1, 200))
def test_one_hot_key_loads_no_replica_beyond_its_bound(count: int, calls: int):
    some = replicas(*[0] * count)
    for _ in range(calls):
        picked = pick_by_key(some, 1_000_000, "hot")
        assert picked is not None
        picked.take()
    bound = -(-BALANCE * (calls + 1) // count)
    assert max(replica.load for replica in some) <= bound


def test_the_key_decides_again_when_its_replica_has_room():
    some = replicas(*[0] * 4)
    home = pick_by_key(some, 2, "key")
    assert home is not None
    home.load = 2
    second = pick_by_key(some, 2, "key")
    assert second is not home
    assert pick_by_key(some, 2, "key") is second  # the next one is as fixed as the first
    home.load = 0
    assert pick_by_key(some, 2, "key") is home


def test_above_the_bound_a_free_slot_is_still_used():
    some = replicas(4, 4, 4)
    assert pick_by_key(some, 5, "key") is not None
    some = replicas(5, 4, 5)
    assert pick_by_key(some, 5, "key") is some[1]
