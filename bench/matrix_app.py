"""What is served: the matrix model, in batches of a size that the user configuration says."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.matrix_model import MatrixModel
from fairlead import serve


@serve.deployment(max_ongoing_requests=512)
class Classify:
    def __init__(self) -> None:
        self.model = MatrixModel()

    def reconfigure(self, config: dict[str, Any]) -> None:
        self.classify.set_max_batch_size(config["size"])
        self.classify.set_batch_wait_timeout_s(config["wait_s"])

    @serve.batch
    async def classify(self, numbers: list[int]) -> list[int]:
        return await asyncio.to_thread(self.model.classify, numbers)  # other requests are read meanwhile

    async def __call__(self, request: Any) -> dict[str, int]:
        return {"class": await self.classify((await request.json())["number"])}
