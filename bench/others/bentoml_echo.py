"""JSON echo in BentoML: ``bentoml serve bench.others.bentoml_echo:Echo``, in an environment that has it."""

from __future__ import annotations

import bentoml


@bentoml.service(workers=1, traffic={"concurrency": 512}, logging={"access": {"enabled": False}})
class Echo:
    @bentoml.api
    async def echo(self, message: str) -> dict[str, str]:
        return {"message": message}
