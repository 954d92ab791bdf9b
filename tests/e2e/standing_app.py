"""What test_standing.py deploys."""

from __future__ import annotations

import asyncio
import os

from starlette.requests import Request

from fairlead import serve


@serve.deployment(num_replicas=2, max_ongoing_requests=20)
class Echo:
    def __call__(self, request: Request) -> str:
        return "over HTTP"

    def echo(self, value: int) -> int:
        print(f"echo {value}")
        return value

    def pid(self) -> int:
        return os.getpid()


@serve.deployment(max_ongoing_requests=1)
class Narrow:
    async def work(self, value: int) -> int:
        await asyncio.sleep(0.002)
        return value
