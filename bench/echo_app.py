"""What is served: methods that do nothing, so that only the way to them and back costs anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fairlead import serve


@serve.deployment(max_ongoing_requests=512)
class Echo:
    async def __call__(self, request: Any) -> Any:
        """Echoes the JSON of a HTTP request."""
        return await request.json()

    async def echo(self, value: Any) -> Any:
        return value

    async def numbers(self) -> AsyncIterator[int]:
        """Small items without an end."""
        number = 0
        while True:
            yield number
            number += 1


app = Echo.bind()
