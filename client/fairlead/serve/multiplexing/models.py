"""Which models a cache holds: pure decisions, without a clock, tasks or the models' code.

A model is in use while a request that got it is running, and is not evicted then. Of those that nobody uses, the one
that was asked for the longest ago makes room. A model that loads has its place already: ``Models`` never promises more
places than there are.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Any


class State(enum.Enum):
    """How far a model is."""

    LOADING = "loading"
    LOADED = "loaded"
    ABANDONED = "abandoned"
    """Nobody waits for it any more; it keeps its place until its loader has really ended."""
    STUCK = "stuck"
    """Its loader was cancelled long ago and goes on. It has no place any more, and is not loaded again meanwhile."""


class Entry:
    """A model's place in a cache."""

    __slots__ = ("model", "model_id", "state", "users")

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.state = State.LOADING
        self.users = 0
        """Requests that wait for it or have it. None of these: it may be evicted."""
        self.model: Any = None

    def __repr__(self) -> str:
        return f"<Entry {self.model_id!r} {self.state.value} users={self.users}>"


class Decision(enum.Enum):
    """What becomes of a request for a model."""

    HIT = "hit"
    """It is there."""
    JOIN = "join"
    """It loads already: wait for that."""
    LOAD = "load"
    """It has a place now: unload the victim, if there is one, then load it there."""
    WAIT = "wait"
    """All models are in use, or others were first: ask again when something has changed."""
    LEAVING = "leaving"
    """Its last load was given up and has not ended yet: ask again when something has changed."""
    STUCK = "stuck"
    """Its last load was given up long ago and has not ended yet: it cannot be had."""


class Models:
    """The places of one cache; at most ``capacity``, None: any number. The least recently asked for comes first."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.stuck: dict[str, Entry] = {}
        """Entries whose loaders do not end, beside the places."""

    def __repr__(self) -> str:
        return f"<Models {list(self.entries.values())} of {self.capacity}>"

    def ask(self, model_id: str, *, may_take: bool = True) -> tuple[Decision, Entry | None, Entry | None]:
        """What becomes of a request, the model's entry (None: ask again), and the one evicted for it.

        Without ``may_take`` a model that needs a place waits: others wait for one already.
        """
        entry = self.entries.get(model_id)
        if entry is not None:
            if entry.state is State.ABANDONED:
                return Decision.LEAVING, None, None
            self.entries.move_to_end(model_id)
            return (Decision.HIT if entry.state is State.LOADED else Decision.JOIN), entry, None
        if model_id in self.stuck:
            return Decision.STUCK, None, None
        if not may_take:
            return Decision.WAIT, None, None
        victim = None
        if self.capacity is not None and len(self.entries) >= self.capacity:
            victim = self._victim()
            if victim is None:
                return Decision.WAIT, None, None
            del self.entries[victim.model_id]
        entry = self.entries[model_id] = Entry(model_id)
        return Decision.LOAD, entry, victim

    def _victim(self) -> Entry | None:
        for entry in self.entries.values():
            if not entry.users and entry.state is State.LOADED:
                return entry
        return None

    def loaded(self, entry: Entry, model: Any) -> None:
        """The loader returned the model."""
        entry.model = model
        entry.state = State.LOADED

    def forget(self, entry: Entry) -> None:
        """The loader failed or was cancelled, or the model is unloaded: its place is free."""
        for entries in (self.entries, self.stuck):
            if entries.get(entry.model_id) is entry:
                del entries[entry.model_id]

    def give_up(self, entry: Entry) -> None:
        """An abandoned loader does not end: its place is free, and its model cannot be had until it does."""
        self.forget(entry)
        entry.state = State.STUCK
        self.stuck[entry.model_id] = entry

    @property
    def unavailable_ids(self) -> list[str]:
        """The models that cannot be had: their loads were given up and have not ended."""
        return [*self.ids(State.ABANDONED), *self.stuck]

    def ids(self, state: State) -> list[str]:
        """The models in a state."""
        return [entry.model_id for entry in self.entries.values() if entry.state is state]
