"""What test_autoscaling.py calls."""

from __future__ import annotations

import asyncio
import os

from fairlead import serve
from fairlead.serve.config import AutoscalingContext
from tests.e2e.stage import Stage


@serve.deployment(max_ongoing_requests=5)
class Held:
    """Calls take as long as the test wants them to."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def __call__(self) -> int:
        return os.getpid()

    async def hold(self, key: str) -> int:
        await self.stage.pass_gate(key)
        return os.getpid()


@serve.deployment(max_ongoing_requests=2)
class Slow:
    """Takes a while."""

    async def __call__(self) -> dict[str, bool]:
        await asyncio.sleep(0.05)
        return {"done": True}


def as_the_file_says(context: AutoscalingContext, *, path: str) -> tuple[int, dict[str, int]]:
    """A policy: the number in a file; counts its calls."""
    seen = context.policy_state.get("calls", 0) + 1
    with open(path) as file:
        return int(file.read()), {"calls": seen}
