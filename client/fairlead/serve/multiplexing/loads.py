"""A load: the task that runs a loader, what those who wait for it are told, and its time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from fairlead.wire.errors import FairleadError


class Load:
    """A load of one model. Those who wait are told at its time limit, whether or not the loader ends then."""

    def __init__(
        self, model_id: str, work: Coroutine[Any, Any, None], context: Context, timeout_s: float | None
    ) -> None:
        """Begins it. ``timeout_s`` is from now on; None: no limit."""
        self._model_id = model_id
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.task = self._loop.create_task(work, context=context)
        self.task.add_done_callback(self._ended)

    def limit(self, expired: Callable[[], None], stuck: Callable[[], None]) -> None:
        """Says what happens at the time limit, and what if the loader has not ended as long again after it."""
        if self._timeout_s is not None:
            self._timer = self._loop.call_later(self._timeout_s, self._expire, self._timeout_s, expired, stuck)

    async def joined(self) -> None:
        """Returns when it has ended well. Raises what the loader raises, and TimeoutError at the time limit.

        Cancelling the caller does not cancel the load.
        """
        await asyncio.shield(self._outcome)

    def _expire(self, timeout_s: float, expired: Callable[[], None], stuck: Callable[[], None]) -> None:
        self._tell(TimeoutError(f"loading model {self._model_id!r} took more than {timeout_s:g} s"))
        self._timer = self._loop.call_later(timeout_s, stuck)
        expired()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if task.cancelled():
            self._tell(FairleadError(f"loading model {self._model_id!r} was cancelled"))
        else:
            self._tell(task.exception())

    def _tell(self, error: BaseException | None) -> None:
        if self._outcome.done():
            return
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)
            self._outcome.exception()  # nobody may wait


async def ended_all(tasks: list[asyncio.Task[None]]) -> bool:
    """Waits for tasks, through cancellations. Whether there was one."""
    cancelled = False
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
