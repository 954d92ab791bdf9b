"""Processes that are frozen: not one sign of life. Pure: clock and processor times are arguments.

A replica's lease says how it is twice a second, from a thread of its own; code that holds Python's lock for long keeps
that thread from running, but uses processor time meanwhile. A replica of which nothing is heard and which uses none is
stopped, swapped out or deadlocked: it leaves the rotation, and is replaced when that lasts. A gateway worker's watch
says something as often; a frozen one is replaced at once, since the kernel goes on giving it connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

SUSPECT_S = 1.0
"""Seconds of silence after which a replica's processor time is noted."""
SILENT_S = 2.0
"""Seconds of silence, without processor time used since it was noted, after which a process is taken for frozen."""
LOOK_S = 0.25
"""Seconds between looks."""
STALL_S = 1.0
"""A look that is later than this by the controller's own fault says nothing about others."""


class Listened(Protocol):
    """A process that reports."""

    pid: int
    heard_at: float | None
    """When there last was a sign of life; None: not noted yet."""
    used_s: float | None
    """The processor time that it had used when it became suspect; None: it is not."""
    silent: bool
    """Whether it is taken for frozen."""

    @property
    def reports(self) -> bool:
        """Whether it is to report now."""
        ...

    @property
    def patience_s(self) -> float:
        """Seconds of silence after which it is to be replaced."""
        ...


L = TypeVar("L", bound=Listened)
"""A kind of processes."""


class Listener:
    """Judges by what was heard of each process, and when."""

    def __init__(self, processor_time: Callable[[int], float | None]) -> None:
        """``processor_time``: seconds that a process has used so far; None: not to be found out."""
        self._processor_time = processor_time
        self._looked_at: float | None = None

    def look(self, processes: Iterable[L], now: float) -> list[L]:
        """Marks those of which nothing is heard; returns those that shall be replaced."""
        stalled = self._looked_at is not None and now - self._looked_at > LOOK_S + STALL_S
        self._looked_at = now
        lost = []
        for process in processes:
            if not process.reports:
                continue
            if process.heard_at is None or (stalled and not process.silent):
                heard(process, now)
            elif self._is_lost(process, now):
                lost.append(process)
        return lost

    def _is_lost(self, process: Listened, now: float) -> bool:
        assert process.heard_at is not None
        silence = now - process.heard_at
        if silence < SUSPECT_S:
            return False
        used = self._processor_time(process.pid)
        if process.used_s is None:
            process.used_s = used or 0.0
            return False
        if used is not None and used > process.used_s:
            heard(process, now)
            return False
        process.silent = process.silent or silence >= SILENT_S
        return silence >= process.patience_s


def heard(process: Listened, now: float) -> bool:
    """There was a sign of life; whether the process was taken for frozen."""
    was_silent = process.silent
    process.heard_at, process.used_s, process.silent = now, None, False
    return was_silent
