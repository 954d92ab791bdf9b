"""Two HTTP servers under the same load by turns: requests per second, and the CPU time of one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.foreign import ForeignServer
from bench.load_tools import wrk
from bench.result import Row, Target
from bench.side import Side
from bench.sides import Sample, Sides


class Loaded(NamedTuple):
    """What is put under load."""

    url: str
    sides: Sequence[Side | ForeignServer]
    """All programs that take part in an answer."""


def compared(
    sides: Sides,
    title: str,
    script: Path,
    fairlead: Callable[[], Loaded],
    reference: tuple[str, Callable[[], Loaded]],
    target: Target | None,
) -> list[Row]:
    """A row of requests per second, and one of CPU time, which other programs on the machine disturb less."""
    row = Row(title=title, unit="requests/s", reference_name=reference[0], target=target)
    cpu = Row(title=f"{title}, CPU of one", unit="µs", reference_name=reference[0])

    def sampled(loaded: Callable[[], Loaded], cpu_us: list[float]) -> Sample:
        def sample() -> float:
            url, programs = loaded()
            used = sum(program.cpu_s() for program in programs)
            load = wrk(url, script, seconds=sides.seconds)
            cpu_us.append((sum(program.cpu_s() for program in programs) - used) / load.requests * 1e6)
            return load.per_second

        return sample

    sides.sample(row, fairlead=sampled(fairlead, cpu.fairlead), reference=sampled(reference[1], cpu.reference))
    return [row, cpu]
