"""A cache of models: the tasks that load and unload what :mod:`~fairlead.serve.multiplexing.models` decides."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.serve.context import RequestContext, current_request_context, set_request_context
from fairlead.serve.multiplexing.loads import Load, ended_all
from fairlead.serve.multiplexing.measures import ModelMeasures
from fairlead.serve.multiplexing.models import Decision, Entry, Models, State
from fairlead.serve.multiplexing.registry import Registry
from fairlead.serve.multiplexing.unloading import unload
from fairlead.wire.errors import FairleadError

logger = logging.getLogger(__name__)

LAST_LOADS_S = 1.0
"""Seconds that cancelled loads have to end when the replica does."""
_WEIGHT = 0.3
"""Of the latest load in the mean of their times."""


class ModelCache:
    """The models of one decorated function or of one object's decorated method. Belongs to the loop it is used on.

    A request that gets a model uses it until the request has ended, its streamed answer included. While it must wait
    for a place for a further model, it uses none: two requests that each want what the other has would wait forever.
    Code that runs outside of a request uses a model only until it has it.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Any]],
        capacity: int | None,
        registry: Registry,
        name: str,
        timeout_s: float | None = None,
    ) -> None:
        """``timeout_s`` limits a load, with the unloading that makes room for it; None: nothing does."""
        self._load = load
        self._models = Models(capacity)
        self._registry = registry
        self._name = name
        self._timeout_s = timeout_s
        self._measures = ModelMeasures(name)
        self._loads: dict[Entry, Load] = {}
        self._unloads: dict[str, asyncio.Task[None]] = {}
        self._turns: deque[object] = deque()
        self._change: asyncio.Future[None] | None = None
        self._closed = False
        self.load_time_s = 0.0
        """How long a load takes, a moving mean in seconds; 0: none has succeeded yet."""
        registry.add(self)

    def __repr__(self) -> str:
        return f"<ModelCache {self._name} {self._models!r} unloading={list(self._unloads)}>"

    @property
    def capacity(self) -> int | None:
        """How many models it keeps at most; None: any number."""
        return self._models.capacity

    def loaded_ids(self) -> list[str]:
        """The models that are there."""
        return self._models.ids(State.LOADED)

    def loading_ids(self) -> list[str]:
        """The models that load."""
        return self._models.ids(State.LOADING)

    def unavailable_ids(self) -> list[str]:
        """The models that cannot be had: their loads were given up and have not ended."""
        return self._models.unavailable_ids

    async def get(self, model_id: str) -> Any:
        """The model, loaded if need be. Raises what the loader raises, to all that wait for that load, TimeoutError
        for a load that takes too long, and FairleadError for a model whose loader did not end after that.

        Cancelling a caller cancels the load when nobody else waits for it.
        """
        self._measures.asked()
        request = current_request_context()
        entry = await self._entry(model_id, request)
        entry.users += 1
        try:
            if entry.state is not State.LOADED:
                await self._loads[entry].joined()
        except BaseException:
            self._let_go(entry)
            raise
        if request is None or not request.hold(entry, lambda: self._let_go(entry)):
            self._let_go(entry)
        return entry.model

    async def _entry(self, model_id: str, request: RequestContext | None) -> Entry:
        """The model's entry, there or loading; waits for a place, in the order of asking."""
        turn: object | None = None
        turns = self._turns
        waits = False
        try:
            while True:
                if self._closed:
                    raise FairleadError(f"model {model_id!r} is not loaded: the replica is shutting down")
                decision, entry, victim = self._models.ask(model_id, may_take=not turns or turns[0] is turn)
                if entry is not None:
                    if decision is Decision.LOAD:
                        self._start(entry, victim)
                    return entry
                if decision is Decision.STUCK:
                    raise FairleadError(
                        f"model {model_id!r} cannot be loaded: its last load was cancelled and has not ended yet"
                    )
                if decision is Decision.WAIT and turn is None:
                    turn = object()
                    turns.append(turn)
                if request is not None and not waits:
                    waits = True
                    request.begin_wait()  # may have made the place: look again
                    continue
                await self._next_change()
        finally:
            if request is not None and waits:
                request.end_wait()
            if turn is not None:
                turns.remove(turn)
                self._wake()

    async def _next_change(self) -> None:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def _wake(self) -> None:
        """A place may be free, or a turn has come: all that wait look again."""
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)

    def _let_go(self, entry: Entry) -> None:
        """A user less."""
        entry.users -= 1
        if entry.users:
            return
        if entry.state is State.LOADING and entry in self._loads:
            self._abandon(entry)
        else:
            self._wake()

    # -- loading

    def _abandon(self, entry: Entry) -> None:
        """Nobody waits for a load any more."""
        entry.state = State.ABANDONED
        self._loads[entry].task.cancel()
        self._registry.changed()

    def _give_up(self, entry: Entry) -> None:
        """A load did not end when it was cancelled."""
        logger.error("model %r of %s: its load was cancelled and does not end", entry.model_id, self._name)
        self._models.give_up(entry)
        self._wake()

    def _start(self, entry: Entry, victim: Entry | None) -> None:
        before = [self._unloads[entry.model_id]] if entry.model_id in self._unloads else []
        if victim is not None:
            before.append(self._unload(victim))
        # The caller's variables, but a request of its own: the load goes on when that caller is gone.
        context = contextvars.copy_context()
        load = Load(entry.model_id, self._run(entry, before), context, self._timeout_s)
        load.limit(lambda: self._abandon(entry), lambda: self._give_up(entry))
        load.task.add_done_callback(lambda _: self._ended(entry))
        self._loads[entry] = load
        self._registry.changed()

    async def _run(self, entry: Entry, before: list[asyncio.Task[None]]) -> None:
        request = current_request_context()
        own = None if request is None else request.detached()
        set_request_context(own)
        loop = asyncio.get_running_loop()
        cancelled = await ended_all(before)  # also when cancelled: until then there is no place for another one
        if cancelled:
            raise asyncio.CancelledError
        began = loop.time()
        try:
            model = await self._load(entry.model_id)
        except (SystemExit, KeyboardInterrupt) as error:  # from a task they would end the loop
            raise FairleadError(f"{type(error).__name__} while loading model {entry.model_id!r}") from error
        finally:
            if own is not None:
                own.cancel_children()
                own.finish()
        if entry.state is not State.LOADING:  # the loader took no notice of its cancellation
            entry.model = model
            await self._unloaded(entry)
            raise asyncio.CancelledError
        took = max(loop.time() - began, 1e-6)
        self.load_time_s = took if not self.load_time_s else self.load_time_s + _WEIGHT * (took - self.load_time_s)
        self._models.loaded(entry, model)
        self._measures.loaded(took, len(self.loaded_ids()))

    def _ended(self, entry: Entry) -> None:
        del self._loads[entry]
        if entry.state is not State.LOADED:
            self._models.forget(entry)
        self._wake()
        self._registry.changed()

    # -- unloading

    def _unload(self, entry: Entry) -> asyncio.Task[None]:
        # Not in the context of the request that needs the place: it is not that request's work.
        task = asyncio.get_running_loop().create_task(self._unloaded(entry), context=contextvars.Context())
        model_id = entry.model_id
        self._unloads[model_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._unloads.get(model_id) is task:
                del self._unloads[model_id]

        task.add_done_callback(ended)
        return task

    async def _unloaded(self, entry: Entry) -> None:
        model, entry.model = entry.model, None
        began = time.perf_counter()
        try:
            await unload(model)
        except (Exception, asyncio.CancelledError):
            logger.exception("unloading model %r of %s failed", entry.model_id, self._name)
        finally:
            self._measures.unloaded(time.perf_counter() - began, len(self.loaded_ids()))

    async def unload_all(self) -> None:
        """Cancels loads, unloads all models, and refuses further ones. For the end, when no request runs.

        Loaders that take no notice are not waited for longer than ``LAST_LOADS_S`` seconds.
        """
        self._closed = True
        self._wake()
        for entry in list(self._loads):
            if entry.state is not State.STUCK:  # for these nobody waits, at the end either
                self._abandon(entry)
        for entry in list(self._models.entries.values()):
            if entry.state is State.LOADED:
                self._models.forget(entry)
                self._unload(entry)
        self._registry.changed()
        loads = [load.task for entry, load in self._loads.items() if entry.state is not State.STUCK]
        if loads:
            await asyncio.wait(loads, timeout=LAST_LOADS_S)
        if self._unloads:
            await asyncio.wait(list(self._unloads.values()))
