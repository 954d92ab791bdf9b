"""The two sides of each comparison, started when they are first wanted, and how they are sampled."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.result import Row
from bench.side import Side, SideError

Sample = Callable[[], float]


class UnavailableError(Exception):
    """A side cannot be measured here; the message says why, and what would help."""


class Sides:
    """Servers and load generators for one run. As a context manager it ends them."""

    def __init__(self, *, seconds: float, repeats: int) -> None:
        self.seconds = seconds
        """How long one sample takes, without warming up."""
        self.repeats = repeats
        """How many samples each side gets."""
        self._exit = contextlib.ExitStack()
        self.scratch = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="fl-")))
        """A folder for files of this run."""
        self._started: dict[str, Side | str] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What keeps the benchmark's instances apart from those of this user that run already."""
        return {"FAIRLEAD_STATE_DIR": str(self.scratch / "state"), "FAIRLEAD_ADDRESS": ""}

    def fairlead(self) -> Side:
        """The driver of an instance that serves bench.echo_app."""
        return self._side("bench.programs.fairlead_driver")

    def bare_grpc_server(self) -> Side:
        return self._side("bench.programs.bare_grpc_server")

    def bare_grpc_client(self) -> Side:
        return self._side("bench.programs.bare_grpc_client", lambda: [self.bare_grpc_server().facts["address"]])

    def bare_http_server(self) -> Side:
        return self._side("bench.programs.bare_http_server")

    def _side(self, module: str, arguments: Callable[[], list[str]] = list) -> Side:
        if module not in self._started:
            try:
                side = Side(module, *arguments(), environment=self.environment)
            except SideError as error:
                self._started[module] = str(error)
            else:
                self._started[module] = self._exit.enter_context(side)
        found = self._started[module]
        if isinstance(found, str):
            raise UnavailableError(found)
        return found

    def sample(self, row: Row, *, fairlead: Sample, reference: Sample | None) -> Row:
        """Fills a row. The sides take turns, so that what disturbs the machine disturbs them alike.

        A side that cannot be measured is left out, and the row's note says why.
        """
        samplers = [(row.fairlead, fairlead)]
        if reference is not None:
            samplers.insert(0, (row.reference, reference))
        for _ in range(self.repeats):
            for entry in list(samplers):
                values, take = entry
                try:
                    values.append(take())
                except (SideError, UnavailableError) as error:
                    row.note = f"{row.note}; {error}".removeprefix("; ")
                    samplers.remove(entry)
        print(
            f"  {row.title}: {_median(row.fairlead, row.unit)}, {row.reference_name} {_median(row.reference, row.unit)}"
        )
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()


def _median(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):,.4g} {unit}" if values else "not measured"
