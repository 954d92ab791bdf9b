"""Which replicas models belong to, by how often they are asked for: pure, without a clock.

A replica evicts what was asked for the longest ago. If every replica is sent rare models, every replica evicts popular
ones for them, and the places of all of them are worth less. So popular models get homes, as many as there are places on
all replicas but a few; the rest shares those few, where it evicts its like. Where everything fits, all have homes.

Workers count their own calls only. They agree nevertheless: a model has its home where it is already, if that will do,
and the replicas for the rest are those with the highest fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest
from math import ceil

from fairlead_gateway.routing.pick import BALANCE, mix
from fairlead_gateway.routing.replica import Replica, fingerprint

SHARED_BOUND = 1.48
"""The replicas for rare models take at most this many times the mean of all; what is more goes to others."""
WAITING = 2
"""A rare model goes elsewhere if the replica's calls are for this many times the models that have places there."""
LOYALTY = 1.3
"""By so much a model without a home must be asked for more often than one that has it, to get it."""
SPAN = 40
"""Calls per model, in the mean, after which all counts are halved: popularity changes."""
FEWEST_CALLS = 50
"""Calls before anything is placed."""
MAX_TRACKED = 20_000
"""Models that are counted: with more, those that were asked for once are forgotten."""


class Placement:
    """The homes of one deployment's models, as one worker sees them."""

    def __init__(self) -> None:
        self.homes: dict[str, tuple[Replica, ...]] = {}
        """Of the popular models."""
        self.shared: tuple[Replica, ...] = ()
        """The replicas for all others; empty: there are no others, or not enough is known."""
        self._counts: dict[str, float] = {}
        self._taken: dict[Replica, float] = {}
        self._calls = 0.0
        self._until_placed = FEWEST_CALLS
        self._replicas: tuple[Replica, ...] = ()

    def __repr__(self) -> str:
        return f"<Placement of {len(self._counts)} models: {len(self.homes)} have homes, shared={self.shared}>"

    def note(self, model_id: str, replicas: Sequence[Replica]) -> None:
        """A call for a model arrived, when these replicas could be picked. Places anew every now and then.

        Homes are on replicas that have reported their models: what others can keep is not known.
        """
        counts = self._counts
        counts[model_id] = counts.get(model_id, 0.0) + 1.0
        self._calls += 1.0
        self._until_placed -= 1
        known = tuple(replica for replica in replicas if replica.models is not None)
        if known and (self._until_placed <= 0 or (self._replicas and self._replicas != known)):
            self._place(known)

    def sent(self, replica: Replica) -> None:
        """A call for a model was sent to a replica."""
        self._taken[replica] = self._taken.get(replica, 0.0) + 1.0

    def pick(
        self, replicas: Sequence[Replica], slots: int, model_id: str, avoid: Replica | None = None
    ) -> tuple[Replica | None, bool]:
        """The replica for a model, and whether it has the model; None: all are full.

        One that has it, at home if possible; else a home of its; else of those for all others. ``avoid`` is taken only
        if no other is free, and so are those where the model cannot be had.
        """
        free = [replica for replica in replicas if replica.load < slots]
        if avoid is not None and len(free) > 1:
            free = [replica for replica in free if replica is not avoid]
        if not free:
            return None, False
        free = [replica for replica in free if model_id not in replica.unavailable_models] or free
        homes = self.homes.get(model_id, ())
        free_homes = [replica for replica in free if replica in homes]
        holders = [replica for replica in free if replica.holds(model_id)]
        if holders:
            holder = min([each for each in holders if each in homes] or holders, key=self._burden)
            relief = self._relief(holder, free_homes, model_id) if free_homes else None
            return (holder, True) if relief is None else (relief, False)
        if free_homes:
            return min(free_homes, key=self._burden), False
        digest = fingerprint(model_id)
        if not self.shared:
            return min(free, key=lambda each: (each.model_count, each.load, mix(digest ^ each.fingerprint))), False
        return self._among_others(free, digest), False

    def _burden(self, replica: Replica) -> tuple[int, float]:
        """How much a replica has to do, now and in the mean."""
        return replica.load, self._taken.get(replica, 0.0)

    def _mean_taken(self) -> float:
        return sum(self._taken.get(each, 0.0) for each in self._replicas) / max(1, len(self._replicas))

    def _relief(self, holder: Replica, homes: Sequence[Replica], model_id: str) -> Replica | None:
        """A home that is worth a load, because the replica that has the model bears too much; None: there is none."""
        mean = self._mean_taken()
        if self._taken.get(holder, 0.0) <= BALANCE * mean:
            return None
        light = [each for each in homes if not each.holds(model_id) and self._taken.get(each, 0.0) < mean]
        return min(light, key=self._burden, default=None)

    def _among_others(self, free: Sequence[Replica], digest: int) -> Replica:
        """The replica for a rare model: a shared one that has room, else whichever has the most."""
        bound = SHARED_BOUND * self._mean_taken()
        roomy = [each for each in free if _has_room(each)] or free
        fair = [each for each in roomy if each in self.shared and self._taken.get(each, 0.0) <= bound]
        if fair:
            return max(fair, key=lambda each: mix(digest ^ each.fingerprint))
        return min(roomy, key=lambda each: (each.in_use, self._taken.get(each, 0.0)))

    # -- placing

    def _place(self, replicas: tuple[Replica, ...]) -> None:
        self._age()
        self._until_placed = max(FEWEST_CALLS, len(self._counts))
        self._replicas = replicas
        self._taken = {each: self._taken[each] for each in replicas if each in self._taken}
        places = {each: each.places for each in replicas}
        if not all(places.values()):  # any number
            self.homes, self.shared = {}, ()
            return
        self.shared = () if len(self._counts) <= sum(places.values()) else self._choose_shared(replicas)
        self._settle([each for each in replicas if each not in self.shared])

    def _choose_shared(self, replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
        """As few replicas as can bear all calls for models without homes."""
        ranked = sorted(replicas, key=lambda each: each.fingerprint, reverse=True)
        by_count = sorted(self._counts.values(), reverse=True)
        mean = self._calls / len(replicas)
        for number in range(1, len(ranked)):
            rest = sum(by_count[sum(each.places for each in ranked[number:]) :])
            if rest <= number * mean * SHARED_BOUND:
                return tuple(ranked[:number])
        return tuple(ranked)

    def _settle(self, replicas: list[Replica]) -> None:
        """Gives the most popular models homes on these replicas, the most popular first, the load about even."""
        room = {each: each.places for each in replicas}
        wanted = nlargest(sum(room.values()), self._counts, key=self._claim)
        masses = dict.fromkeys(replicas, 0.0)
        fair = sum(self._counts[model_id] for model_id in wanted) / max(1, len(replicas)) * BALANCE
        before, self.homes = self.homes, {}
        for model_id in wanted:
            copies = ceil(self._counts[model_id] / (self._calls / max(1, len(self._replicas)) * BALANCE))
            weight = self._counts[model_id] / copies
            homes: list[Replica] = []
            for _ in range(copies):
                open_to_it = [each for each in replicas if room[each] and each not in homes]
                if not open_to_it:
                    break
                homes.append(_best_home(open_to_it, model_id, before.get(model_id, ()), masses, weight, fair))
                room[homes[-1]] -= 1
                masses[homes[-1]] += weight
            if homes:
                self.homes[model_id] = tuple(homes)

    def _claim(self, model_id: str) -> float:
        return self._counts[model_id] * (LOYALTY if model_id in self.homes else 1.0)

    def _age(self) -> None:
        """Halves all counts when there are many, and forgets models that are hardly asked for."""
        counts = self._counts
        if self._calls > SPAN * max(len(counts), FEWEST_CALLS) or len(counts) > MAX_TRACKED:
            self._counts = {model_id: count / 2 for model_id, count in counts.items() if count >= 2}
            self._taken = {replica: taken / 2 for replica, taken in self._taken.items()}
            self._calls = sum(self._counts.values())


def _has_room(replica: Replica) -> bool:
    """Whether a further model would soon find a place: few of this worker's calls wait for one there."""
    return replica.in_use < WAITING * replica.places


def _best_home(
    replicas: Iterable[Replica],
    model_id: str,
    before: Sequence[Replica],
    masses: dict[Replica, float],
    weight: float,
    fair: float,
) -> Replica:
    """Where it is already, unless that bears too much; else where there is the least."""

    def rank(replica: Replica) -> tuple[bool, bool, bool, float]:
        too_much = masses[replica] + weight > fair
        there = replica.models is not None and model_id in replica.models
        return too_much, not there, replica not in before, masses[replica]

    return min(replicas, key=rank)
