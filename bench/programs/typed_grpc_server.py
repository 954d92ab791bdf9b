"""The typed service on grpc.aio: ``python -m bench.programs.typed_grpc_server FOLDER``, the compiled schema's."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from bench.programs.commands import obey, say


async def main(folder: str) -> None:
    sys.path.insert(0, folder)
    import echo_pb2  # type: ignore[import-not-found]
    import echo_pb2_grpc  # type: ignore[import-not-found]

    class Echo:
        async def Echo(self, request: Any, context: Any) -> Any:
            return echo_pb2.EchoResponse(
                room=request.room, message=request.message, number=request.number, tags=request.tags
            )

    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(address=f"127.0.0.1:{port}")
    await obey({})
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
