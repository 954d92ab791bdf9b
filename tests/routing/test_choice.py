"""What becomes of a router's answer."""

from __future__ import annotations

from fairlead_gateway.routing.choice import Choice, backoff_s, pick_by_rank
from fairlead_gateway.routing.replica import Replica


def replicas(**loads: int) -> dict[str, Replica]:
    made = {name: Replica(name, name) for name in loads}
    for name, load in loads.items():
        made[name].load = load
    return made


def first() -> float:
    return 0.0


def test_the_first_group_with_a_free_slot() -> None:
    of = replicas(full=2, light=0, heavy=1)
    groups = [[of["full"]], [of["light"], of["heavy"]]]
    assert pick_by_rank(groups, 2, first) is of["light"]
    assert pick_by_rank(groups[:1], 2, first) is None
    assert pick_by_rank([], 2, first) is None


def test_the_replica_that_did_not_take_the_call_comes_last() -> None:
    of = replicas(a=0, b=1, c=2)
    assert pick_by_rank([[of["a"]], [of["b"]]], 2, first, of["a"]) is of["b"]
    assert pick_by_rank([[of["a"]], [of["c"]]], 2, first, of["a"]) is of["a"]
    assert pick_by_rank([[of["c"]]], 2, first, of["a"]) is None


def test_replicas_that_are_gone_are_left_out() -> None:
    of = replicas(a=0, b=0)
    choice = Choice()
    assert choice.pending
    choice.answer([["gone"], ["b", "gone"], []])
    assert not choice.pending
    assert choice.groups(list(of.values())) == [[of["b"]]]
    choice.answer(None)
    assert choice.groups(list(of.values())) == []


def test_backoff_grows_to_its_limit() -> None:
    assert [backoff_s(asked, 0.025, 2, 0.5) for asked in (1, 2, 3, 100_000)] == [0.025, 0.05, 0.1, 0.5]
    assert backoff_s(50, 0.025, 1, 0.5) == 0.025
