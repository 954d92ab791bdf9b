"""The event loop of a process that has none for the wire: in a daemon thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

STOP_TIMEOUT_S = 5.0


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # optional: the base install does without
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _end_all_others() -> None:
    """What ``asyncio.run`` does at its end: whatever is pending on a loop that is closed complains when collected."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class WireThread:
    """A running loop and its thread."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="fairlead-wire", daemon=True)
        self._thread.start()
        self.ident: int = self._thread.ident or 0

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(_end_all_others())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine on the loop and waits for it, at most ``STOP_TIMEOUT_S`` seconds."""
        try:
            asyncio.run_coroutine_threadsafe(work, self.loop).result(STOP_TIMEOUT_S)
        except TimeoutError:
            return

    def stop(self) -> None:
        """Ends the loop, the tasks that are left on it, and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self.loop.close()
