"""What test_request_router.py calls."""

from __future__ import annotations

import random
from typing import Any

from fairlead import serve
from fairlead.serve.config import RequestRouterConfig
from fairlead.serve.request_router import (
    FIFOMixin,
    MultiplexMixin,
    PendingRequest,
    ReplicaID,
    ReplicaResult,
    RequestRouter,
    RunningReplica,
)


class ThroughputAware(FIFOMixin, MultiplexMixin, RequestRouter):
    """Prefers the replica that has reported the least; fails for one session."""

    def initialize_state(self, statistic: str) -> None:
        self.statistic = statistic
        self.misled = False

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            if pending_request.metadata.session_id == "fail" or self.misled:
                raise ValueError("on purpose")
        available = self.select_available_replicas(candidate_replicas)
        return [sorted(available, key=lambda each: each.routing_stats.get(self.statistic, 0))[:1]]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult) -> None:
        chosen = any(replica_id == each for each in self.curr_replicas)
        self.misled = not (chosen and pending_request.routing_context.should_backoff and result is None)


@serve.deployment(
    num_replicas=3,
    max_ongoing_requests=100,
    request_router_config=RequestRouterConfig(
        request_router_class=ThroughputAware,
        request_router_kwargs={"statistic": "work"},
        request_routing_stats_period_s=0.02,
    ),
)
class Workers:
    def __init__(self) -> None:
        self.work = random.random()

    def record_routing_stats(self) -> dict[str, Any]:
        return {"work": self.work}

    def __call__(self) -> float:
        return self.work

    def set(self, work: float) -> str:
        self.work = work
        return serve.get_replica_context().replica_id
