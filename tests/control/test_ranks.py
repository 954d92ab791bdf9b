"""Replicas' numbers."""

from __future__ import annotations

from fairlead.v1 import control_pb2
from fairlead_gateway.control.observed import Phase, Replica
from fairlead_gateway.control.ranks import free_rank


def replica(rank: int, version: str = "v", phase: Phase = Phase.RUNNING) -> Replica:
    return Replica(
        replica_id=f"a#d#{rank}{version}",
        application="a",
        deployment="d",
        code_version=version,
        settings=control_pb2.DeploymentSettings(),
        started_at=0.0,
        rank=rank,
        phase=phase,
    )


def test_the_smallest_that_is_free() -> None:
    assert free_rank([], "v") == 0
    assert free_rank([replica(0), replica(1, phase=Phase.STARTING)], "v") == 2
    assert free_rank([replica(0), replica(2)], "v") == 1


def test_who_stops_gives_its_number_back() -> None:
    assert free_rank([replica(0, phase=Phase.STOPPING), replica(1)], "v") == 0


def test_an_update_counts_anew() -> None:
    assert free_rank([replica(0, "old"), replica(1, "old"), replica(0)], "v") == 1
