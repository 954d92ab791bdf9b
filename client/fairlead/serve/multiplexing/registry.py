"""All model caches of this process, for the replica host: what they hold, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSnapshot:
    """What the caches of a process hold."""

    loaded: tuple[str, ...] = ()
    """Models that are there, sorted."""
    loading: tuple[str, ...] = ()
    """Models that load, sorted; none that is also among the loaded."""
    unavailable: tuple[str, ...] = ()
    """Models that cannot be had, sorted: their loads were given up and have not ended."""
    load_time_s: float = 0.0
    """How long a load takes, a moving mean in seconds; 0: none has succeeded yet."""
    capacity: int = 0
    """How many models the caches keep at most, together; 0: any number."""


class Cache(Protocol):
    """A model cache, as the registry sees it."""

    def loaded_ids(self) -> Iterable[str]:
        """The models that are there."""

    def loading_ids(self) -> Iterable[str]:
        """The models that load."""

    def unavailable_ids(self) -> Iterable[str]:
        """The models that cannot be had: their loads were given up and have not ended."""

    @property
    def capacity(self) -> int | None:
        """How many models it keeps at most; None: any number."""

    @property
    def load_time_s(self) -> float:
        """How long a load takes; 0: not known."""

    async def unload_all(self) -> None:
        """Unloads all models and loads none from now on."""


class Registry:
    """The caches, on one event loop."""

    def __init__(self) -> None:
        self._caches: list[Cache] = []
        self._listener: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Registry of {len(self._caches)} caches {self.snapshot()!r}>"

    @property
    def multiplexes(self) -> bool:
        """Whether there is any cache."""
        return bool(self._caches)

    def add(self, cache: Cache) -> None:
        """A cache has been made."""
        self._caches.append(cache)
        self.changed()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Has ``listener`` called on the loop at each change of what the snapshot says; None: nobody."""
        self._listener = listener

    def changed(self) -> None:
        """Something is loaded, loading or gone that was not."""
        if self._listener is not None:
            self._listener()

    def snapshot(self) -> ModelSnapshot:
        """What all caches hold."""
        loaded = {model_id for cache in self._caches for model_id in cache.loaded_ids()}
        loading = {model_id for cache in self._caches for model_id in cache.loading_ids()} - loaded
        unavailable = {model_id for cache in self._caches for model_id in cache.unavailable_ids()}
        times = [cache.load_time_s for cache in self._caches]
        capacities = [cache.capacity for cache in self._caches]
        return ModelSnapshot(
            loaded=tuple(sorted(loaded)),
            loading=tuple(sorted(loading)),
            unavailable=tuple(sorted(unavailable)),
            load_time_s=max(times, default=0.0),
            capacity=0 if None in capacities else sum(each or 0 for each in capacities),
        )

    async def unload_all(self) -> None:
        """Unloads everything, for the end of the process. What the models' code raises is logged."""
        await asyncio.gather(*(cache.unload_all() for cache in self._caches))


registry = Registry()
"""This process's."""

own_registry: ContextVar[Registry | None] = ContextVar("fairlead_model_registry", default=None)
"""The one of this context, where several replicas share a process; None: the process's."""
