"""How large a batch becomes, and how long it may take to form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairlead.serve.validation import check_integer, check_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What can be changed while batches run; a batch keeps the limits that it began to form with."""

    max_batch_size: int = 10
    """The most calls in a batch; with a size function, the largest size it may report."""
    batch_wait_timeout_s: float = 0.01
    """Seconds that the first call of a batch waits for others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_batch_size", whole("max_batch_size", self.max_batch_size))
        check_number("batch_wait_timeout_s", self.batch_wait_timeout_s, at_least=0)


def whole(name: str, value: Any) -> int:
    """An integer of at least 1, also one that was given as a float. Raises TypeError or ValueError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    check_integer(name, value, at_least=1)
    return int(value)
