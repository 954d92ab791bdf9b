"""A fresh Python process: from its start to the first answer."""

from __future__ import annotations

from time import perf_counter

from bench.result import Row, Target
from bench.side import Side
from bench.sides import Sides


def run(sides: Sides) -> list[Row]:
    def start() -> float:
        begin = perf_counter()
        with Side("bench.programs.cold_start", environment=sides.environment):
            return perf_counter() - begin

    row = Row(
        title="cold start to the first answer",
        unit="s",
        reference_name="Ray Serve (quoted)",
        reference=[10.1],
        target=Target(text="≤ 1.5 s", at_most=1.5),
    )
    return [sides.sample(row, fairlead=start, reference=None)]
