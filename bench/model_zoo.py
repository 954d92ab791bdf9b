"""What is served: models that take time to load, more than fit, under three rules of where calls go."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from fairlead import serve
from fairlead.serve.config import RequestRouterConfig
from fairlead.serve.request_router import MultiplexMixin, PendingRequest, RequestRouter, RunningReplica

MODELS, REPLICAS, PLACES = 64, 4, 4
LOAD_S, CALL_S = 0.025, 0.0025


class RayServesRule(MultiplexMixin, RequestRouter):
    """Two random ones of those that have the model, else of those with the fewest models."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        assert pending_request is not None
        holders, fewest, rest = self.rank_replicas_via_multiplex(
            candidate_replicas, pending_request.metadata.multiplexed_model_id
        )
        return [holders, fewest, rest]


class Plain(RequestRouter):
    """Power of two choices, whatever the model."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        return [random.sample(candidate_replicas, 2), candidate_replicas]


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=16)
class Zoo:
    def __init__(self) -> None:
        self.calls = 0
        self.loads = 0

    @serve.multiplexed(max_num_models_per_replica=PLACES)
    async def load(self, model_id: str) -> str:
        self.loads += 1
        await asyncio.sleep(LOAD_S)
        return model_id

    async def __call__(self) -> str:
        self.calls += 1
        model = await self.load(serve.get_multiplexed_model_id())
        await asyncio.sleep(CALL_S)
        return model

    async def counts(self) -> tuple[int, int]:
        """Calls so far, and those that loaded their model."""
        return self.calls, self.loads


def application(rule: str) -> Any:
    """The zoo with a rule: "fairlead", "ray serve" or "plain"."""
    routers: dict[str, type[RequestRouter]] = {"ray serve": RayServesRule, "plain": Plain}
    if rule not in routers:
        return Zoo.bind()
    return Zoo.options(request_router_config=RequestRouterConfig(request_router_class=routers[rule])).bind()


def weights() -> list[float]:
    """The popularity of each model, by Zipf; they sum up to 1."""
    raw = [1 / (rank + 1) for rank in range(MODELS)]
    return [each / sum(raw) for each in raw]
