"""Load: a fixed number of callers, each of which calls again when its call has been answered."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter

WARM_UP_S = 0.4


async def closed_loop(call: Callable[[], Awaitable[object]], *, outstanding: int, seconds: float) -> dict[str, float]:
    """Calls for so many seconds after a warm-up.

    Gives calls per second, the latency's median and 99th percentile, and how many calls there were, warm-up included.
    """
    begin = perf_counter() + WARM_UP_S
    end = begin + seconds
    latencies: list[float] = []
    calls = 0

    async def caller() -> None:
        nonlocal calls
        now = perf_counter()
        while now < end:
            started = now
            await call()
            calls += 1
            now = perf_counter()
            if begin <= now <= end:
                latencies.append(now - started)

    await asyncio.gather(*[caller() for _ in range(outstanding)])
    return {**summary(latencies, seconds), "calls": calls}


def blocking_loop(call: Callable[[], object], *, seconds: float) -> dict[str, float]:
    """The same with one caller that blocks its thread."""
    begin = perf_counter() + WARM_UP_S
    end = begin + seconds
    latencies: list[float] = []
    now = perf_counter()
    while now < end:
        started = now
        call()
        now = perf_counter()
        if begin <= now <= end:
            latencies.append(now - started)
    return summary(latencies, seconds)


def summary(latencies: list[float], seconds: float) -> dict[str, float]:
    if len(latencies) < 2:
        return {"per_second": len(latencies) / seconds}
    cuts = statistics.quantiles(latencies, n=100)
    return {"per_second": len(latencies) / seconds, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}
