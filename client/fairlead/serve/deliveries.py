"""Results on their way from the wire loop to futures of other event loops: one hop per loop and packet."""

from __future__ import annotations

import asyncio


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Deliveries:
    """Collects futures to be resolved while the wire loop dispatches, and resolves them in one go per loop.

    Belongs to the wire loop.
    """

    __slots__ = ("_by_loop", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    def resolve(self, future: asyncio.Future[None]) -> None:
        """Resolves a future of any loop: of this one at once, of another one after what runs now."""
        loop = future.get_loop()
        if loop is self._loop:
            if not future.done():
                future.set_result(None)
            return
        by_loop = self._by_loop
        if not by_loop:
            self._loop.call_soon(self._flush)
        futures = by_loop.get(loop)
        if futures is None:
            by_loop[loop] = [future]
        else:
            futures.append(future)

    def _flush(self) -> None:
        by_loop, self._by_loop = self._by_loop, {}
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, futures)
            except RuntimeError:  # closed; nobody waits there any more
                continue
