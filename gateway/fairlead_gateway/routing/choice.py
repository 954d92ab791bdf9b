"""What a user's request router has said of one call: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fairlead.serve.request_router import PendingRequest
from fairlead_gateway.routing.pick import pick
from fairlead_gateway.routing.replica import Replica

Ranks = list[list[str]]
"""Ids of replicas, the best group first."""


class Choice:
    """A question, and its answer when there is one. A call that has one waits, and does not hold up others."""

    __slots__ = ("asked", "pending", "question", "ranks")

    def __init__(self, asked: int = 1) -> None:
        self.asked = asked
        """How often the router was asked about the call."""
        self.pending = True
        """Whether it has not answered."""
        self.question: PendingRequest | None = None
        """What the router was told of the call; None: it was not asked."""
        self.ranks: Ranks | None = None
        """The answer; None: there is none, or it cannot be used."""

    def __repr__(self) -> str:
        return f"<Choice asked={self.asked} {'pending' if self.pending else self.ranks}>"

    def answer(self, ranks: Ranks | None) -> None:
        """The router's answer; None: it gave none."""
        self.ranks = ranks
        self.pending = False

    def groups(self, ready: Sequence[Replica]) -> list[list[Replica]]:
        """The answer as replicas that can be picked; empty: none of them can."""
        by_id: Mapping[str, Replica] = {replica.replica_id: replica for replica in ready}
        groups = [[by_id[each] for each in group if each in by_id] for group in self.ranks or ()]
        return [group for group in groups if group]


def pick_by_rank(
    groups: Sequence[Sequence[Replica]], slots: int, random: Callable[[], float], avoid: Replica | None = None
) -> Replica | None:
    """Of the first group with a free slot one by power of two choices; None: all are full.

    ``avoid`` is taken only if no other is free.
    """
    for group in groups:
        others = [replica for replica in group if replica is not avoid]
        if others and (found := pick(others, slots, random)) is not None:
            return found
    if avoid is not None and avoid.load < slots and any(avoid in group for group in groups):
        return avoid
    return None


def backoff_s(asked: int, initial_s: float, multiplier: float, longest_s: float) -> float:
    """Seconds until the router is asked again about a call whose replicas are all full, after ``asked`` times."""
    delay = initial_s
    for _ in range(asked - 1):
        delay *= multiplier
        if delay >= longest_s:
            break
    return min(delay, longest_s)
