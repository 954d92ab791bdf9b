"""Request routers of the user's: which replicas shall take a call. The names are Ray Serve's.

A router runs in gateway workers, in a thread of its own, and cannot hold up anything but its own deployment's calls:
what fails, or takes longer than :data:`CHOICE_TIMEOUT_S`, is replaced by power of two choices.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from fairlead.serve.handle import DeploymentID

CHOICE_TIMEOUT_S = 1.0
"""Seconds that ``choose_replicas`` may take."""


@dataclass(frozen=True, slots=True)
class ReplicaID:
    """Names a replica."""

    unique_id: str
    """The last part of its id."""
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        """The whole id: ``application#deployment#unique_id``."""
        return f"{self.deployment_id.app_name}#{self.deployment_id.name}#{self.unique_id}"

    def __str__(self) -> str:
        deployment = self.deployment_id
        return f"Replica(id='{self.unique_id}', deployment='{deployment.name}', app='{deployment.app_name}')"


class ReplicaState(Protocol):
    """What a gateway worker knows of a replica, as it is now."""

    @property
    def load(self) -> int:
        """The calls that it runs."""

    @property
    def models(self) -> frozenset[str] | None:
        """The models that it reported."""

    @property
    def routing_stats(self) -> Mapping[str, Any]:
        """What its ``record_routing_stats`` returned last."""


class RunningReplica:
    """A replica that may be chosen. The same object for as long as the worker is connected to it."""

    __slots__ = ("_state", "max_ongoing_requests", "replica_id")

    def __init__(self, replica_id: ReplicaID, max_ongoing_requests: int, state: ReplicaState) -> None:
        self.replica_id = replica_id
        """Its id."""
        self.max_ongoing_requests = max_ongoing_requests
        """How many calls it runs at once."""
        self._state = state

    @property
    def num_ongoing_requests(self) -> int:
        """The calls that it runs: this worker's, and others as it last reported them."""
        return self._state.load

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """The models that it has, or loads."""
        return set(self._state.models or ())

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What the deployment's ``record_routing_stats`` returned there last; empty: nothing yet."""
        return dict(self._state.routing_stats)

    @property
    def node_id(self) -> str:
        """The machine: everything runs on one."""
        return "localhost"

    @property
    def availability_zone(self) -> str | None:
        """Always None."""
        return None

    def __repr__(self) -> str:
        return f"<RunningReplica {self.replica_id.unique_id} ongoing={self.num_ongoing_requests}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestMetadata:
    """What is known of a call without decoding its arguments."""

    request_id: str = ""
    """The request's id."""
    internal_request_id: str = ""
    """The same."""
    call_method: str = "__call__"
    """The method."""
    route: str = ""
    """The HTTP route that the request came in by; empty: it did not come by HTTP."""
    app_name: str = ""
    """The application."""
    multiplexed_model_id: str = ""
    """The model that the caller asked for; empty: none."""
    session_id: str = ""
    """The session that the call belongs to; empty: none."""
    is_streaming: bool = False
    """Whether the caller takes a stream of results."""
    is_http_request: bool = False
    """Whether it is a HTTP request for a handler that takes one."""


ReplicaResult: TypeAlias = None
"""What ``on_request_routed`` gets as ``result``: a gateway has none yet."""


@dataclass(kw_only=True, slots=True)
class RoutingContext:
    """What a router may note about a call. A new one each time that the router is asked."""

    should_backoff: bool = False
    """For compatibility, without effect: a call that no chosen replica can take always waits before the router is
    asked again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingRequest:
    """A call that waits for a replica."""

    metadata: RequestMetadata = field(default_factory=RequestMetadata)
    """What is known of it."""
    args: tuple[Any, ...] = ()
    """Always empty: gateways do not decode arguments. What a router goes by belongs into a session or model id."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Always empty."""
    created_at: float = 0.0
    """When it was asked about, by ``time.time()``."""
    routing_context: RoutingContext = field(default_factory=RoutingContext)
    """The router's to write to."""


class RequestRouter(ABC):
    """Chooses replicas. Subclasses have ``choose_replicas``, and a constructor without arguments of their own.

    One object per deployment and gateway worker; everything is called on one event loop of its own.
    """

    def __init__(self, deployment_id: DeploymentID | None = None) -> None:
        self.deployment_id = deployment_id or DeploymentID("")
        """The deployment."""
        self.curr_replicas: dict[ReplicaID, RunningReplica] = {}
        """The replicas that can be called."""

    def initialize_state(self, *_: Any, **kwargs: Any) -> None:
        """Gets ``request_router_kwargs``, once, before anything else. Overrides name those that they take."""
        if kwargs:
            raise TypeError(f"{type(self).__name__} takes no request_router_kwargs, but was given {sorted(kwargs)}")

    def update_replicas(self, replicas: Sequence[RunningReplica]) -> None:
        """The replicas that can be called from now on. An override calls this one."""
        self.curr_replicas = {replica.replica_id: replica for replica in replicas}

    @abstractmethod
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks replicas for a call: the best group first.

        The call goes to the first group with a replica that has a free slot, there by power of two choices. Is there
        none, it waits for one, and is asked about again after a while. Nothing to call: power of two choices of all.
        """

    def on_request_routed(  # noqa: B027 - overridden by those who want to know
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult = None
    ) -> None:
        """A call was sent to a replica. ``result`` is always None: it has not ended yet."""

    def select_available_replicas(self, candidates: list[RunningReplica] | None = None) -> list[RunningReplica]:
        """Those with a free slot; of all replicas where none are given."""
        given = list(self.curr_replicas.values()) if candidates is None else candidates
        return [replica for replica in given if replica.num_ongoing_requests < replica.max_ongoing_requests]


class FIFOMixin:
    """For compatibility: calls are first in, first out with every router."""


class LocalityMixin:
    """Ranks by distance: everything runs on one machine, so all replicas are equally near."""

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """All of them, in one group."""
        return [list(replicas)]


class MultiplexMixin:
    """Ranks by the models that replicas have."""

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """Those that have the model, or load it; those with the fewest models; the rest."""
        models = [(replica, replica.multiplexed_model_ids) for replica in replicas]
        holders = [replica for replica, held in models if multiplexed_model_id in held]
        others = [(replica, len(held)) for replica, held in models if multiplexed_model_id not in held]
        fewest = min((count for _, count in others), default=0)
        return [
            holders,
            [replica for replica, count in others if count == fewest],
            [replica for replica, count in others if count > fewest],
        ]


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """What the gateway does by itself, as a router: a base for one's own, or a choice to fall back to."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas that have the model first; else two at random, then all."""
        model_id = "" if pending_request is None else pending_request.metadata.multiplexed_model_id
        if model_id:
            return self.rank_replicas_via_multiplex(candidate_replicas, model_id)
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        return [two, candidate_replicas]


__all__ = [
    "CHOICE_TIMEOUT_S",
    "FIFOMixin",
    "LocalityMixin",
    "MultiplexMixin",
    "PendingRequest",
    "PowerOfTwoChoicesRequestRouter",
    "ReplicaID",
    "ReplicaResult",
    "RequestMetadata",
    "RequestRouter",
    "RoutingContext",
    "RunningReplica",
]
