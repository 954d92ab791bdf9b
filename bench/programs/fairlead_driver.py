"""Fairlead's side: the driver of an instance that serves bench.echo_app, and the load through its handles."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from bench.echo_app import app
from bench.programs.closed_loop import WARM_UP_S, blocking_loop, closed_loop
from bench.programs.commands import obey, say
from fairlead import serve
from fairlead.serve.api import instance_status


class Load:
    """What the driver can be asked for."""

    def __init__(self, handle: Any) -> None:
        self.echo = handle.echo
        self.numbers = handle.options(stream=True).numbers

    async def unary(self, size: int, outstanding: int, seconds: float) -> dict[str, Any]:
        """Awaited calls on an event loop."""
        payload = bytes(size)
        return await closed_loop(lambda: self.echo.remote(payload), outstanding=outstanding, seconds=seconds)

    async def blocking(self, size: int, seconds: float) -> dict[str, Any]:
        """One call at a time, waited for in a thread."""
        payload = bytes(size)
        return await asyncio.to_thread(blocking_loop, lambda: self.echo.remote(payload).result(), seconds=seconds)

    async def streams(self, parallel: int, seconds: float) -> dict[str, Any]:
        """Items of parallel streams."""
        begin = perf_counter() + WARM_UP_S
        end = begin + seconds

        async def read() -> int:
            taken = 0
            responses = self.numbers.remote()
            async for _ in responses:
                now = perf_counter()
                taken += now >= begin
                if now >= end:
                    responses.cancel()
                    break
            return taken

        return {"per_second": sum(await asyncio.gather(*[read() for _ in range(parallel)])) / seconds}


async def main(load: Load) -> None:
    (gateway,) = instance_status().gateways
    say(grpc=gateway.grpc_address, http=gateway.http_address)
    await obey({"unary": load.unary, "blocking": load.blocking, "streams": load.streams})


if __name__ == "__main__":
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    try:
        asyncio.run(main(Load(serve.run(app, name="bench"))))
    finally:
        serve.shutdown()
