"""What a measure gives: rows of medians, with what they must reach."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a row must reach: a bound on Fairlead's value, or on its ratio to the reference."""

    text: str
    """As DESIGN.md says it."""
    at_least_ratio: float | None = None
    at_most_ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float | None, ratio: float | None) -> bool | None:
        """Whether it is reached; None if that is not known."""
        bounds = (
            (ratio, self.at_least_ratio, 1),
            (ratio, self.at_most_ratio, -1),
            (value, self.at_least, 1),
            (value, self.at_most, -1),
        )
        verdicts = [
            None if measured is None else measured * sign >= bound * sign
            for measured, bound, sign in bounds
            if bound is not None
        ]
        return None if not verdicts or None in verdicts else all(verdicts)


@dataclass(kw_only=True)
class Row:
    """One line of the table."""

    title: str
    unit: str
    reference_name: str
    target: Target | None = None
    note: str = ""
    fairlead: list[float] = field(default_factory=list)
    """Fairlead's value in each repeat."""
    reference: list[float] = field(default_factory=list)
    """The reference's; one value if it is a quoted figure."""

    @property
    def value(self) -> float | None:
        return statistics.median(self.fairlead) if self.fairlead else None

    @property
    def reference_value(self) -> float | None:
        return statistics.median(self.reference) if self.reference else None

    @property
    def ratios(self) -> list[float]:
        """Of each turn: a machine that is fast now and slow then is so to both sides of a turn."""
        reference = self.reference
        if reference and len(reference) != len(self.fairlead):  # it is quoted, or did not last
            reference = [statistics.median(reference)] * len(self.fairlead)
        return [value / other for value, other in zip(self.fairlead, reference, strict=False)]

    @property
    def ratio(self) -> float | None:
        """The median of those of the turns."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def reached(self) -> bool | None:
        return self.target.reached(self.value, self.ratio) if self.target else None
