"""What the replica itself calls on the user's class: health checks, reconfigurations, destructors."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

from fairlead.serve.context import _get_internal_replica_context
from fairlead.serve.multiplexing.unloading import spent
from fairlead.wire.errors import FairleadError
from fairlead_replica.callable import UserCallable
from fairlead_replica.pool import Mailbox, ThreadPool
from fairlead_replica.tracebacks import one_line, user_traceback

logger = logging.getLogger(__name__)

_TICKS = 8
"""The pieces that a health check's timeout is waited in; a blocked loop uses up one of them, however long it lasts."""


class Hooks:
    """The user's hooks, called one at a time. Synchronous ones run in a thread of their own, never on the loop."""

    def __init__(self, target: UserCallable) -> None:
        loop = asyncio.get_running_loop()
        self._target = target
        self._loop = loop
        self._pool = ThreadPool(1, Mailbox(loop), name="fairlead-hooks")
        self._check = target.hook("check_health")
        self.failed_checks = 0
        """Health checks that failed in a row."""
        self.health_message = ""
        """What the last one said that failed."""
        self.on_check: Callable[..., None] | None = None
        """Called after each one: ``(seconds, healthy=...)``."""

    async def reconfigure(self, config: Any) -> None:
        """Calls ``reconfigure(config)``, with ``rank=`` if it takes that; nothing for None.

        Raises what it raises; FairleadError if there is none.
        """
        if config is None:
            return
        if self._target.is_function:
            raise FairleadError("user_config needs a class: a function has no reconfigure method")
        hook = self._target.hook("reconfigure")
        if hook is None:
            name = type(self._target.target).__name__
            raise FairleadError(f"user_config specified but deployment {name} missing reconfigure method")
        if _takes_rank(hook):
            context = _get_internal_replica_context()
            hook = functools.partial(hook, rank=None if context is None else context.rank)
        await self._call(hook, config)

    async def check_first(self, timeout_s: float) -> None:
        """Calls ``check_health`` once, before calls come. Raises FairleadError, with what it raises as the cause."""
        if self._check is None:
            return
        try:
            await self._run_check(self._check, timeout_s)
        except Exception as error:
            raise FairleadError(f"the first health check failed: {one_line(error)}") from error

    async def check_health(self, timeout_s: float) -> None:
        """Calls ``check_health`` once and notes the result. Never raises."""
        if self._check is None:
            return
        began = time.monotonic()
        try:
            await self._run_check(self._check, timeout_s)
        except Exception as error:
            self.failed_checks += 1
            self.health_message = one_line(error)
            logger.warning("health check failed, %d in a row\n%s", self.failed_checks, user_traceback(error))
        else:
            self.failed_checks = 0
            self.health_message = ""
        finally:
            if self.on_check is not None:
                self.on_check(time.monotonic() - began, healthy=not self.failed_checks)

    async def _run_check(self, check: Callable[[], Any], timeout_s: float) -> None:
        """The timeout counts time in which the loop turned: a method that blocks the loop must not be taken for a
        health check that hangs.
        """
        task = self._loop.create_task(self._call(check))
        try:
            for _ in range(_TICKS):
                if not task.done():
                    await asyncio.wait({task}, timeout=timeout_s / _TICKS)
            if not task.done():
                raise TimeoutError(f"check_health did not return within {timeout_s} s")
            task.result()
        finally:
            task.cancel()

    async def check_forever(self, period_s: float, timeout_s: float) -> None:
        """Checks every ``period_s`` seconds, for as long as it is not cancelled."""
        while self._check is not None:
            await asyncio.sleep(period_s)
            await self.check_health(timeout_s)

    async def destroy(self) -> None:
        """Calls ``__del__``, for the instance that Python itself may never get to delete. Never raises."""
        target = self._target.target
        hook = None if self._target.is_function else getattr(type(target), "__del__", None)
        if hook is None:
            return
        try:
            await self._call(hook, target)
        except Exception as error:
            logger.warning("__del__ failed\n%s", user_traceback(error))
        with contextlib.suppress(TypeError):  # an extension type
            # It must not run a second time when the interpreter ends.
            object.__setattr__(target, "__class__", spent(type(target)))  # type: ignore[arg-type]

    def close(self) -> None:
        """Lets the hooks' thread end. To be called after the last of them."""
        self._pool.close()

    @property
    def records_routing_stats(self) -> bool:
        """Whether there is a ``record_routing_stats``."""
        return self._target.hook("record_routing_stats") is not None

    async def record_routing_stats(self) -> Any:
        """What ``record_routing_stats`` returns. Raises what it raises."""
        hook = self._target.hook("record_routing_stats")
        assert hook is not None
        return await self._call(hook)

    async def _call(self, hook: Callable[..., Any], *args: Any) -> Any:
        try:
            result = hook(*args) if inspect.iscoroutinefunction(hook) else await self._in_thread(hook, *args)
            return await result if inspect.isawaitable(result) else result
        except (SystemExit, KeyboardInterrupt) as error:  # from a task they would end the loop
            raise FairleadError(f"{one_line(error)} in {getattr(hook, '__name__', hook)}") from error

    async def _in_thread(self, hook: Callable[..., Any], *args: Any) -> Any:
        finished = asyncio.Event()
        outcome: list[Any] = [None, None]
        context = contextvars.copy_context()

        def work() -> None:
            try:
                outcome[0] = context.run(hook, *args)
            except BaseException as error:
                outcome[1] = error

        self._pool.submit(work, finished.set)
        await finished.wait()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


def _takes_rank(hook: Callable[..., Any]) -> bool:
    try:
        return "rank" in inspect.signature(hook).parameters
    except (TypeError, ValueError):  # builtins without a signature
        return False
