"""The typed service of the benchmark on Fairlead. The compiled schema's folder is on ``sys.path``."""

from __future__ import annotations

from typing import Any

import echo_pb2  # type: ignore[import-not-found]  # compiled in each run, by bench/schema.py

from fairlead import serve


@serve.deployment(max_ongoing_requests=512)
@serve.grpc_service("echo_pb2_grpc.add_EchoServiceServicer_to_server")
class Echo:
    async def Echo(self, request: Any) -> Any:
        return echo_pb2.EchoResponse(
            room=request.room, message=request.message, number=request.number, tags=request.tags
        )


app = Echo.bind()
