"""What test_batching.py runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from fairlead import serve
from fairlead.serve.context import _get_serve_batch_request_context, _get_serve_request_context
from tests.e2e.stage import Stage


@serve.deployment
class Model:
    """Batches; its slots are its default ones."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.weights = np.eye(4)
        self.batches: list[dict[str, Any]] = []

    def reconfigure(self, config: dict[str, Any]) -> None:
        self.multiply.set_max_batch_size(config["size"])
        self.multiply.set_batch_wait_timeout_s(config["wait_s"])

    @serve.batch(max_batch_size=8)
    async def multiply(self, rows: list[np.ndarray], key: list[str]) -> np.ndarray:
        self.stage.note(f"{key[0]} batch of {len(rows)}")
        self.batches.append(
            {"own": _get_serve_request_context(), "callers": _get_serve_batch_request_context(), "size": len(rows)}
        )
        await self.stage.pass_gate(key[0])
        return np.stack(rows) @ self.weights

    async def __call__(self, row: np.ndarray, key: str) -> np.ndarray:
        self.stage.note(f"{key} came")
        return await self.multiply(row, key)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=20)
    async def count(self, ends: list[int]) -> AsyncIterator[list[Any]]:
        for number in range(max(ends)):
            yield [StopIteration if number >= end else number for end in ends]

    async def about(self) -> list[dict[str, Any]]:
        return self.batches

    async def size(self) -> int:
        return self.multiply._get_max_batch_size()


@serve.deployment
@serve.batch(max_batch_size=3, batch_wait_timeout_s=20)
async def shout(words: list[str]) -> list[str]:
    """A batched function, called directly."""
    return [f"{word}! ({len(words)})" for word in words]
