"""The ready-made request routers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.context import get_replica_context
from fairlead.serve.experimental import ConsistentHashRouter, RoundRobinRouter
from fairlead.serve.handle import DeploymentID
from fairlead.serve.request_router import PendingRequest, ReplicaID, RequestMetadata, RunningReplica


class State:
    load = 0
    models = None
    routing_stats: dict[str, Any] = {}


def replicas(names: str) -> list[RunningReplica]:
    return [RunningReplica(ReplicaID(name, DeploymentID("D", "app")), 2, State()) for name in names]


def names(groups: list[list[RunningReplica]]) -> str:
    return "|".join("".join(each.replica_id.unique_id for each in group) for group in groups)


def of(session_id: str) -> PendingRequest:
    return PendingRequest(metadata=RequestMetadata(session_id=session_id))


async def test_round_robin() -> None:
    router = RoundRobinRouter()
    router.initialize_state()
    some = replicas("abc")
    assert [names(await router.choose_replicas(some)) for _ in range(4)] == ["a|b|c", "b|c|a", "c|a|b", "a|b|c"]
    assert names(await router.choose_replicas(some[:1])) == "a"
    assert await router.choose_replicas([]) == []


async def test_sessions_stay_and_only_those_of_a_replica_that_goes_move() -> None:
    router = ConsistentHashRouter()
    router.initialize_state()
    before = {
        str(number): names(await router.choose_replicas(replicas("abcd"), of(str(number)))) for number in range(400)
    }
    assert all(len(choice.split("|")) == 3 for choice in before.values())
    assert min(Counter(choice[0] for choice in before.values()).values()) > 60
    for session_id, choice in before.items():
        after = names(await router.choose_replicas(replicas("dba"), of(session_id)))
        assert after[0] == choice.replace("c|", "")[0]
    assert names(await router.choose_replicas(replicas("ab"), of(""))) == "ab"
    router.initialize_state(num_virtual_nodes=5, num_fallback_replicas=0)
    assert len(names(await router.choose_replicas(replicas("ab"), of("s")))) == 1
    with pytest.raises(ValueError, match="num_fallback_replicas"):
        router.initialize_state(num_fallback_replicas=-1)


def test_in_a_gateway() -> None:
    @serve.deployment(num_replicas=3, request_router_config={"request_router_class": RoundRobinRouter})
    class Where:
        def __call__(self) -> str:
            return get_replica_context().replica_id

    handle = serve.run(Where.bind(), _local_testing_mode=True)
    try:
        assert sorted(Counter(handle.remote().result() for _ in range(9)).values()) == [3, 3, 3]
    finally:
        serve.shutdown()
