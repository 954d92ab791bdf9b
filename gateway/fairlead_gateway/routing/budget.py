"""A bound on retries, so that they never multiply an outage."""

from __future__ import annotations

RATIO = 0.2
"""Retries per call."""
RESERVE = 10.0
"""Retries that are always possible after a quiet time."""


class RetryBudget:
    """Retries as a share of calls: each call earns a fifth of a retry, up to a reserve."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = RESERVE

    def earn(self) -> None:
        """A call came in."""
        tokens = self._tokens + RATIO
        self._tokens = tokens if tokens < RESERVE else RESERVE

    def spend(self) -> bool:
        """Takes one retry. False: the budget is used up."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
