"""What test_multiplexing.py calls."""

from __future__ import annotations

from fairlead import serve
from tests.e2e.stage import Stage


class Model:
    def __init__(self, model_id: str, stage: Stage) -> None:
        self.model_id = model_id
        self.stage = stage

    async def __del__(self) -> None:
        self.stage.note(f"unloaded {self.model_id}")


@serve.deployment(num_replicas=2, max_ongoing_requests=10)
class Models:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model_id: str) -> Model:
        if model_id == "broken":
            raise ValueError("no weights")
        self.stage.note(f"load {model_id}")
        if model_id.startswith("slow"):
            await self.stage.pass_gate(model_id)
        self.stage.note(f"loaded {model_id}")
        return Model(model_id, self.stage)

    async def __call__(self, request: object = None) -> str:
        model = await self.load(serve.get_multiplexed_model_id())
        return f"{model.model_id} {serve.get_replica_context().replica_tag}"
