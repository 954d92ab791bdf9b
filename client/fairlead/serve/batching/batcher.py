"""The shell around a queue: the event loop's clock, a timer, and a task for each batch that runs."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairlead.serve.batching.callers import Caller
from fairlead.serve.batching.limits import Limits
from fairlead.serve.batching.measures import BatchMeasures
from fairlead.serve.batching.parameters import Parameters
from fairlead.serve.batching.queue import BatchQueue
from fairlead.serve.batching.running import by_model_and_shape
from fairlead.serve.context import background_context, enter_batch


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with batches."""

    run: Callable[[Callable[..., Any], Parameters, Sequence[Any]], Awaitable[None]]
    """``answer`` or ``stream``."""
    function: Callable[..., Any]
    """The user's."""
    parameters: Parameters
    """Of the function."""
    max_concurrent_batches: int
    """How many batches run at once."""
    batch_size_fn: Callable[[list[Any]], Any] | None
    """The size of the calls with these first arguments; None: their number."""

    def measure(self, callers: list[Caller]) -> Any:
        """What the size function says. Raises what it raises."""
        assert self.batch_size_fn is not None
        first = self.parameters.first
        return self.batch_size_fn([first(caller.row) for caller in callers])


class Batcher:
    """Batches for one object on one event loop. There is no task but those of the batches that run.

    It holds its object through callers only, so it ends with it.
    """

    def __init__(self, work: Work, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        measure = work.measure if work.batch_size_fn is not None else None
        self._queue: BatchQueue[Caller] = BatchQueue(limits, work.max_concurrent_batches, measure)
        self._measures = BatchMeasures(getattr(work.function, "__qualname__", repr(work.function)))
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: float | None = None
        self._running: dict[asyncio.Task[None], float] = {}

    def __repr__(self) -> str:
        return f"<Batcher {self._queue!r}, {len(self._running)} running>"

    def put(self, caller: Caller) -> None:
        """Takes a call; its batch may start at once."""
        now = caller.came_at = self._loop.time()
        if self._queue.put(caller, now):
            self._decide(now)

    def discard(self, caller: Caller) -> None:
        """Drops a call whose batch has not started."""
        if self._queue.discard(caller):
            self._decide(self._loop.time())

    def limit(self, limits: Limits) -> None:
        """Sets the limits of the batches that begin to form from now on. From any thread."""
        self._queue.limits = limits

    def start_times(self) -> list[float]:
        """When the batches that run were started, by ``time.time()``. From any thread."""
        return list(self._running.values())

    def stacks(self) -> str:
        """Where the batches that run are."""
        text = io.StringIO()
        for task in self._running:
            task.print_stack(file=text)
        return text.getvalue()

    def _decide(self, now: float) -> None:
        decision = self._queue.decide(now)
        for caller, error in decision.failed:
            caller.fail(error)
        for callers in decision.batches:
            self._start(callers, now)
        if decision.wake_at != self._wake_at:
            self._wake_at = decision.wake_at
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if self._wake_at is None else self._loop.call_at(self._wake_at, self._wake)

    def _wake(self) -> None:
        due = self._wake_at or 0.0
        self._timer = self._wake_at = None
        self._decide(max(self._loop.time(), due))  # timers are coarser than the clock

    def _start(self, callers: list[Caller], now: float) -> None:
        waited = [now - caller.came_at for caller in callers]
        self._measures.started(waited, self._queue.limits.max_batch_size, len(self._queue))
        groups = by_model_and_shape(callers, self._work.parameters)
        unfinished = set(range(len(groups)))
        for number, group in enumerate(groups):
            task = self._loop.create_task(self._run(group), context=background_context())
            self._running[task] = time.time()
            task.add_done_callback(partial(self._ended, group, unfinished, number))

    async def _run(self, group: list[Caller]) -> None:
        """Handles a group of a batch. Whatever happens is told its callers."""
        callers = [caller for caller in group if not caller.gone]
        if not callers:
            return
        context = enter_batch([caller.context for caller in callers])
        began = self._loop.time()
        try:
            await self._work.run(self._work.function, self._work.parameters, callers)
        except asyncio.CancelledError as error:
            for caller in callers:
                caller.fail(error)
            raise
        except BaseException as error:  # SystemExit too: out of a task it would end the loop
            for caller in callers:
                caller.fail(error)
        finally:
            self._measures.ended(self._loop.time() - began)
            context.finish()

    def _ended(self, group: list[Caller], unfinished: set[int], number: int, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if task.cancelled():  # maybe before it began
            for caller in group:
                caller.fail(asyncio.CancelledError())
        unfinished.discard(number)
        if not unfinished:
            self._queue.release()
            self._decide(self._loop.time())


@dataclass(frozen=True, slots=True)
class _RuntimeSummaryStatistics:
    """When the batches that run were started, by ``time.time()``."""

    start_times: list[float]

    @property
    def min_start_time(self) -> float | None:
        """The first start; None: nothing runs."""
        return min(self.start_times, default=None)

    @property
    def mean_start_time(self) -> float | None:
        """The mean; None: nothing runs."""
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> float | None:
        """The last start; None: nothing runs."""
        return max(self.start_times, default=None)

    @property
    def num_requests(self) -> int:
        """How many batches run."""
        return len(self.start_times)
