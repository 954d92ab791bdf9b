"""Conversions of large messages, in a thread beside the event loop.

One byte of JSON takes up to a microsecond: whoever sends many of them shall not keep everybody else waiting. One at a
time, because what they make of a message is many times as large.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

LARGE = 64 * 1024
"""Bytes of a message above which its conversion takes longer than the way to another thread."""

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_thread = ThreadPoolExecutor(1, "conversions")


async def beside(convert: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
    """Calls ``convert`` in the thread. Raises what it raises; cancelled, it leaves it to its end."""
    return await asyncio.get_running_loop().run_in_executor(_thread, convert, *arguments)
