"""Request routers as users write them, and how they reach gateways."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve.graph import application_spec
from fairlead.serve.handle import DeploymentID
from fairlead.serve.request_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    PowerOfTwoChoicesRequestRouter,
    ReplicaID,
    RequestMetadata,
    RequestRouter,
    RunningReplica,
)


@dataclass
class State:
    load: int = 0
    models: frozenset[str] | None = None
    routing_stats: dict[str, Any] = field(default_factory=dict)


def replica(name: str, **state: Any) -> RunningReplica:
    return RunningReplica(ReplicaID(name, DeploymentID("D", "app")), 2, State(**state))


def names(groups: list[list[RunningReplica]]) -> list[list[str]]:
    return [[each.replica_id.unique_id for each in group] for group in groups]


class Named(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        return [candidate_replicas]


def test_ids() -> None:
    one = replica("abc").replica_id
    assert one == ReplicaID("abc", DeploymentID("D", "app"))
    assert one.to_full_id_str() == "app#D#abc"
    assert str(one) == "Replica(id='abc', deployment='D', app='app')"


def test_a_replica_shows_its_state_as_it_is_now() -> None:
    state = State()
    running = RunningReplica(ReplicaID("a", DeploymentID("D")), 2, state)
    state.load, state.models, state.routing_stats = 2, frozenset("m"), {"x": 1}
    assert running.num_ongoing_requests == 2
    assert (running.multiplexed_model_ids, running.routing_stats) == ({"m"}, {"x": 1})
    assert (running.node_id, running.availability_zone) == ("localhost", None)


def test_what_routers_know_of_replicas() -> None:
    router = Named(DeploymentID("D", "app"))
    full, free = replica("full", load=2), replica("free", load=1)
    router.update_replicas([full, free])
    assert list(router.curr_replicas.values()) == [full, free]
    assert router.select_available_replicas() == [free]
    assert router.select_available_replicas([full]) == []


def test_ranking_by_model_and_place() -> None:
    router = Named()
    replicas = [replica("two", models=frozenset("xy")), replica("has", models=frozenset("m")), replica("none")]
    assert names(router.rank_replicas_via_multiplex(replicas, "m")) == [["has"], ["none"], ["two"]]
    assert names(router.rank_replicas_via_locality(replicas)) == [["two", "has", "none"]]


async def test_power_of_two_choices() -> None:
    router = PowerOfTwoChoicesRequestRouter()
    replicas = [replica(name) for name in "abc"]
    two, everything = await router.choose_replicas(replicas, PendingRequest())
    assert len(set(two)) == 2
    assert everything == replicas
    assert await router.choose_replicas(replicas[:1]) == [replicas[:1], replicas[:1]]
    wanted = PendingRequest(metadata=RequestMetadata(multiplexed_model_id="m"))
    assert names(await router.choose_replicas([*replicas, replica("has", models=frozenset("m"))], wanted))[0] == ["has"]


def test_arguments_that_a_router_does_not_take() -> None:
    with pytest.raises(TypeError, match="beta"):
        Named().initialize_state(beta=1)


# -- the configuration


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"request_router_class": object}, TypeError),
        ({"request_router_class": 5}, TypeError),
        ({"request_router_class": "nowhere"}, ValueError),
        ({"request_router_kwargs": [1]}, TypeError),
        ({"initial_backoff_s": 0}, ValueError),
        ({"backoff_multiplier": 0.5}, ValueError),
        ({"request_routing_stats_period_s": 0}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve.deployment(request_router_config=given)


def settings_of(**config: Any) -> Any:
    @serve.deployment(request_router_config=config or None)
    class D:
        pass

    return application_spec(D.bind()).deployments[0].settings


def test_a_router_goes_by_path_or_by_value() -> None:
    assert not settings_of().HasField("request_router")
    assert not settings_of(request_routing_stats_period_s=1).HasField("request_router")
    path = "fairlead.serve.request_router:PowerOfTwoChoicesRequestRouter"
    assert settings_of(request_router_class=PowerOfTwoChoicesRequestRouter).request_router.import_path == path
    assert settings_of(request_router_class=path).request_router.import_path == path
    assert settings_of(request_router_class=path.replace(":", ".")).request_router.import_path == path

    class Local(Named):
        pass

    sent = settings_of(request_router_class=Local, request_router_kwargs={"a": 1}, max_backoff_s=3).request_router
    assert cloudpickle.loads(sent.pickled_class).__name__ == "Local"
    assert cloudpickle.loads(sent.arguments) == {"a": 1}
    assert (sent.initial_backoff_s, sent.max_backoff_s, sent.stats_period_s) == (0.025, 3, 10)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.routers:Router", "request_router_class: there is no module 'nowhere.routers'"),
        ("nowhere.routers.Router", "request_router_class: there is no module 'nowhere.routers'"),
        (
            "fairlead.serve.request_router:PowerOfThree",
            "request_router_class: module 'fairlead.serve.request_router' has no 'PowerOfThree'",
        ),
        ("fairlead.serve:run", "request_router_class needs a coroutine choose_replicas; <function run"),
    ],
)
def test_a_router_that_cannot_be_imported_is_refused_before_anything_is_deployed(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        settings_of(request_router_class=path)


def test_arguments_that_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="request_router_kwargs"):
        settings_of(request_router_class=Named, request_router_kwargs={"lock": threading.Lock()})
