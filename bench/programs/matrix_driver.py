"""Fairlead's side of batching: the driver of an instance that serves bench.matrix_app."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.matrix_app import Classify
from bench.programs.commands import obey, say
from fairlead import serve
from fairlead.serve.api import instance_status


async def use(size: int, wait_s: float) -> dict[str, Any]:
    """Serves with batches of a size; the replica goes on."""
    app = Classify.options(user_config={"size": size, "wait_s": wait_s}).bind()
    await asyncio.to_thread(serve.run, app)
    return {}


async def main() -> None:
    await use(1, 0.0)
    (gateway,) = instance_status().gateways
    say(http=gateway.http_address)
    await obey({"use": use})


if __name__ == "__main__":
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    try:
        asyncio.run(main())
    finally:
        serve.shutdown()
