"""Replicas that are frozen: not one sign of life. Pure: clock and processor times are arguments.

A replica's lease says how it is twice a second, from a thread of its own; code that holds Python's lock for long keeps
that thread from running, but uses processor time meanwhile. A replica of which nothing is heard and which uses none is
stopped, swapped out or deadlocked: it leaves the rotation, and is replaced when that lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fairlead_gateway.control.observed import Phase, Replica

SUSPECT_S = 1.0
"""Seconds of silence after which a replica's processor time is noted."""
SILENT_S = 2.0
"""Seconds of silence, without processor time used since it was noted, after which a replica gets no calls."""
LOOK_S = 0.25
"""Seconds between looks."""
STALL_S = 1.0
"""A look that is later than this by the controller's own fault says nothing about replicas."""
LEAST_PATIENCE_S = 5.0
"""A replica that is silent is replaced after its health checks' timeout, but no sooner than this."""


class Listener:
    """Judges by what was heard of each replica, and when."""

    def __init__(self, processor_time: Callable[[int], float | None]) -> None:
        """``processor_time``: seconds that a process has used so far; None: not to be found out."""
        self._processor_time = processor_time
        self._looked_at: float | None = None

    def look(self, replicas: Iterable[Replica], now: float) -> list[Replica]:
        """Marks those of which nothing is heard; returns those that shall be replaced."""
        stalled = self._looked_at is not None and now - self._looked_at > LOOK_S + STALL_S
        self._looked_at = now
        lost = []
        for replica in replicas:
            if replica.phase is not Phase.RUNNING or not replica.leased:
                continue
            if replica.heard_at is None or (stalled and not replica.silent):
                heard(replica, now)
            elif self._is_lost(replica, now):
                lost.append(replica)
        return lost

    def _is_lost(self, replica: Replica, now: float) -> bool:
        assert replica.heard_at is not None
        silence = now - replica.heard_at
        if silence < SUSPECT_S:
            return False
        used = self._processor_time(replica.pid)
        if replica.used_s is None:
            replica.used_s = used or 0.0
            return False
        if used is not None and used > replica.used_s:
            heard(replica, now)
            return False
        replica.silent = replica.silent or silence >= SILENT_S
        return silence >= max(replica.settings.health_check_timeout_s, LEAST_PATIENCE_S)


def heard(replica: Replica, now: float) -> bool:
    """There was a sign of life; whether the replica was taken for frozen."""
    was_silent = replica.silent
    replica.heard_at, replica.used_s, replica.silent = now, None, False
    return was_silent
