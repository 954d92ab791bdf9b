"""What test_context.py calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage


def told() -> dict[str, Any]:
    """The context of the call that is handled."""
    context = serve.get_request_context()
    return {
        "route": context.route,
        "request_id": context.request_id,
        "app_name": context.app_name,
        "model_id": context.multiplexed_model_id,
        "session_id": context.session_id,
        "is_http": context.is_http_request,
        "grpc_context": context.grpc_context,
        "left_s": None if context.deadline is None else context.deadline - time.monotonic(),
    }


@serve.deployment
class Back:
    def tell(self) -> dict[str, Any]:
        """In a thread."""
        return told()


@serve.deployment
class Front:
    def __init__(self, back: DeploymentHandle[Any]) -> None:
        self.back = back

    async def __call__(self, request: Any) -> list[dict[str, Any]]:
        return await self.tell()

    async def tell(self) -> list[dict[str, Any]]:
        """Its own context, and that of a call that it makes."""
        return [told(), await self.back.tell.remote()]


class Model:
    def __init__(self, stage: Stage, key: str) -> None:
        self.stage = stage
        self.key = key

    async def __del__(self) -> None:
        await asyncio.sleep(0)
        self.stage.note(f"{self.key} model unloaded")


@serve.deployment(graceful_shutdown_timeout_s=20)
class Orderly:
    """Says in which order it ends."""

    def __init__(self, stage: Stage, key: str) -> None:
        self.stage = stage
        self.key = key

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model_id: str) -> Model:
        return Model(self.stage, self.key)

    async def __call__(self) -> None:
        await self.load("m")
        self.stage.note(f"{self.key} entered")
        await self.stage.pass_gate(self.key)
        self.stage.note(f"{self.key} call ended")

    async def __del__(self) -> None:
        self.stage.note(f"{self.key} deleted")


@serve.deployment(graceful_shutdown_timeout_s=2)
class Stubborn:
    """Has a call that never ends by itself."""

    def __init__(self, stage: Stage, key: str) -> None:
        self.stage = stage
        self.key = key

    async def __call__(self) -> None:
        self.stage.note(f"{self.key} entered")
        try:
            await asyncio.Event().wait()
        finally:
            self.stage.note(f"{self.key} interrupted")

    def __del__(self) -> None:
        self.stage.note(f"{self.key} deleted")
