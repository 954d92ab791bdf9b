"""How an endpoint's calls are spread over backends and shadows. Pure: the random number is an argument."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Somebody's part of the calls."""

    target: T
    """Who."""
    share: float
    """How much of them, in terms of the other parts."""


class Split(Generic[T]):
    """Backends, of which each call goes to one, and shadows, which get a copy of some."""

    def __init__(self, backends: Sequence[Part[T]], shadows: Sequence[Part[T]] = ()) -> None:
        """``backends``: at least one with a share, in an order that stays the same while the policy does.

        Shares of backends need not sum up to 1: where one of them is gone, the others take its calls.
        """
        used = [part for part in backends if part.share > 0]
        total = sum(part.share for part in used)
        self.targets = [part.target for part in used]
        """The backends that get calls."""
        self._bounds = [bound / total for bound in accumulate(part.share for part in used)]
        self._shadows = [part for part in shadows if part.share > 0]

    def backend(self, number: float) -> T:
        """The backend of a call, by a number from 0 up to 1. Equal numbers have equal backends."""
        return self.targets[min(bisect_right(self._bounds, number), len(self.targets) - 1)]

    def shadows(self, number: float) -> list[T]:
        """The shadows of a call, by the same number: those with small shares get calls that those with larger get."""
        return [part.target for part in self._shadows if number < part.share]


@lru_cache(maxsize=4096)
def number_of(key: str) -> float:
    """The number that stands for a key: the same in every process, and the one that Ray Serve's classic API draws."""
    seed = int.from_bytes(sha256(key.encode()).digest(), "little")
    return random.Random(seed).random()  # noqa: S311 - spreads calls, hides nothing
