"""The program's end of :class:`bench.side.Side`: one JSON object per line, a command in, an answer out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Handler = Callable[..., Awaitable[dict[str, Any]]]


def say(**answer: Any) -> None:
    """Answers a command; the first answer says that the program is ready."""
    print(json.dumps(answer), flush=True)


async def obey(handlers: dict[str, Handler]) -> None:
    """Runs commands, ``{"do": name, …}``, until standard input ends; one that fails is answered with its error."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            say(**await handlers[command.pop("do")](**command))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")
