"""Which replica takes a call: pure decisions over the replicas' loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from fairlead_gateway.routing.replica import Replica, fingerprint

BALANCE = 1.25
"""With affinity, a replica takes at most this many times the mean load (consistent hashing with bounded loads)."""

_64_BITS = 0xFFFFFFFFFFFFFFFF


def pick(
    replicas: Sequence[Replica], slots: int, random: Callable[[], float], avoid: Replica | None = None
) -> Replica | None:
    """Power of two choices: of two at random with a free slot the less loaded, if neither is free any that is.

    ``slots`` is how many calls each may run. ``avoid`` is taken only if no other is free. None: all are full.
    """
    count = len(replicas)
    if avoid is not None and count > 1:
        others = [replica for replica in replicas if replica is not avoid]
        return pick(others, slots, random) or pick(replicas, slots, random)
    if count == 1:
        only = replicas[0]
        return only if only.load < slots else None
    if count == 0:
        return None
    first = int(random() * count)
    second = int(random() * (count - 1))
    if second >= first:
        second += 1
    one, other = replicas[first], replicas[second]
    if other.load < one.load:
        one = other
    if one.load < slots:
        return one
    if count == 2:
        return None
    least = min(replicas, key=_load)
    return least if least.load < slots else None


def _load(replica: Replica) -> int:
    return replica.load


def pick_by_key(replicas: Sequence[Replica], slots: int, key: str, avoid: Replica | None = None) -> Replica | None:
    """The replica that a key belongs to, by rendezvous hashing with bounded load; None: all are full.

    The same key goes to the same replica while that one has a free slot and at most ``BALANCE`` times the mean load;
    when replicas come or go, only the keys that belonged to them move. ``avoid`` is taken only if no other is free.
    """
    total = 1
    free = False
    for replica in replicas:
        load = replica.load
        total += load
        if load < slots:
            free = True
    if not free:
        return None
    bound = min(slots, ceil(BALANCE * total / len(replicas)))
    digest = fingerprint(key)
    for limit in (bound, slots):
        candidates = [replica for replica in replicas if replica.load < limit and replica is not avoid]
        if candidates:
            return max(candidates, key=lambda replica: mix(digest ^ replica.fingerprint))
    return avoid


def mix(number: int) -> int:
    """Stirs 64 bits well (the finalizer of splitmix64), at a third of what a digest costs."""
    number = number * 0x9E3779B97F4A7C15 & _64_BITS
    number = (number ^ number >> 29) * 0xBF58476D1CE4E5B9 & _64_BITS
    return number ^ number >> 32


def worth_waiting(
    replicas: Sequence[Replica], slots: int, model_id: str, load_time_s: float, call_time_s: float, waiting: int
) -> bool:
    """Whether a call waits for a replica that has its model, all of them full, rather than for a load elsewhere.

    Slots of the holders come free every ``call_time_s / (slots * holders)`` seconds in the mean, and ``waiting`` calls
    for the model are before this one. It waits if that is sooner than a load takes. What is not known (0) is no reason
    to wait.
    """
    having = [replica for replica in replicas if replica.holds(model_id)]
    holders = len(having)
    if any(replica.load < slots for replica in having):  # it was passed over for a reason
        return False
    if not holders or not load_time_s or not call_time_s:
        return False
    return (waiting + 1) * call_time_s / (slots * holders) < load_time_s
