"""Load for the bare grpc.aio server: ``python -m bench.programs.bare_grpc_client ADDRESS``."""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import Any

import grpc

from bench.programs.bare_grpc_server import OPTIONS
from bench.programs.closed_loop import WARM_UP_S, closed_loop
from bench.programs.commands import obey, say


async def main(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Echo/Echo")
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/bench.Echo/Stream")

        async def unary(size: int, outstanding: int, seconds: float) -> dict[str, Any]:
            payload = bytes(size)
            return await closed_loop(lambda: echo(payload), outstanding=outstanding, seconds=seconds)

        async def streams(parallel: int, seconds: float) -> dict[str, Any]:
            begin = perf_counter() + WARM_UP_S
            end = begin + seconds

            async def read() -> int:
                taken = 0
                call = stream(b"12345678")
                async for _ in call:
                    now = perf_counter()
                    taken += now >= begin
                    if now >= end:
                        call.cancel()
                        break
                return taken

            return {"per_second": sum(await asyncio.gather(*[read() for _ in range(parallel)])) / seconds}

        say(ready=True)
        await obey({"unary": unary, "streams": streams})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
