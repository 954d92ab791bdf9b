"""How long to wait before starting again what keeps ending."""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 10.0
CALM_S = 10.0
"""What has run for that long has recovered: the next failure is a first one again."""


class Backoff:
    """Exponential backoff: 0.1 s, doubling, at most 10 s. Pure: the clock is an argument.

    Failures that come while a wait is on count as one: all replicas of a deployment may end by one cause.
    """

    __slots__ = ("_delay", "not_before")

    def __init__(self) -> None:
        self._delay = 0.0
        self.not_before = 0.0
        """The time of the next try."""

    def failed(self, now: float) -> None:
        """Notes a failure."""
        if now < self.not_before:
            return
        self._delay = min(self._delay * 2, LONGEST_S) if self._delay else FIRST_S
        self.not_before = now + self._delay

    def recovered(self) -> None:
        """Notes that it has run well for a while."""
        self._delay = 0.0

    def reset(self) -> None:
        """Forgets all failures: something else is tried."""
        self._delay = 0.0
        self.not_before = 0.0

    def __repr__(self) -> str:
        return f"Backoff(delay={self._delay}, not_before={self.not_before})"
