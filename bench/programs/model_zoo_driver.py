"""Calls for models of unequal popularity, at random times, through handles of what bench.model_zoo defines."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter
from typing import Any

from bench import model_zoo
from bench.programs.commands import obey, say
from fairlead import serve
from fairlead.serve.handle import DeploymentHandle

CALLS_PER_S = 150.0


class Visitors:
    """Those who call. The same calls in the same order for each rule."""

    def __init__(self) -> None:
        self.rule = ""
        self.handles: list[DeploymentHandle] = []
        self.dice = random.Random(1)
        self.weights = model_zoo.weights()

    async def use(self, rule: str, warm_up: int) -> dict[str, Any]:
        """Serves the zoo by a rule, and lets it learn which models are popular."""
        if self.rule:
            await asyncio.to_thread(serve.delete, self.rule)
        handle = await asyncio.to_thread(serve.run, model_zoo.application(rule), False, rule, None)
        names = [f"m{rank}" for rank in range(model_zoo.MODELS)]
        self.handles = [handle.options(multiplexed_model_id=name) for name in names]
        self.rule = rule
        self.dice.seed(1)
        await self._visit(warm_up)
        return {}

    async def visit(self, calls: int) -> dict[str, Any]:
        """Makes calls; what became of them."""
        before = await self._counts()
        ranks, latencies = await self._visit(calls)
        latencies.sort()
        after = await self._counts()
        taken = [now[0] - then[0] for now, then in zip(after, before, strict=True)]
        loads = sum(now[1] - then[1] for now, then in zip(after, before, strict=True))
        return {
            "without_load": 1 - loads / calls,
            "best_static": sum(rank < model_zoo.REPLICAS * model_zoo.PLACES for rank in ranks) / calls,
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
            "imbalance": max(taken) * len(taken) / sum(taken),
        }

    async def _counts(self) -> list[Any]:
        results = self.handles[0].broadcast("counts").results_by_replica
        return [value for _, value in sorted((await asyncio.to_thread(results)).items())]

    async def _visit(self, calls: int) -> tuple[list[int], list[float]]:
        async def one(rank: int) -> float:
            begin = perf_counter()
            await self.handles[rank].remote()
            return perf_counter() - begin

        tasks = []
        due = perf_counter()
        ranks = self.dice.choices(range(model_zoo.MODELS), self.weights, k=calls)
        for rank in ranks:
            due += self.dice.expovariate(CALLS_PER_S)
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(rank)))
        return ranks, await asyncio.gather(*tasks)


async def main() -> None:
    visitors = Visitors()
    say()
    await obey({"use": visitors.use, "visit": visitors.visit})


if __name__ == "__main__":
    serve.start(proxy_location="Disabled")
    try:
        asyncio.run(main())
    finally:
        serve.shutdown()
