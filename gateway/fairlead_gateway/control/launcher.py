"""Starting processes: the one thing that differs between one machine and many."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process to start."""

    name: str
    """Stands before its lines in the log."""
    module: str
    """What Python runs: ``python -m module``."""
    arguments: tuple[str, ...]
    """Its command line."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to add to the controller's own."""
    working_directory: str | None = None
    """None: the controller's."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a process ended."""

    status: int | None
    """The exit status; negative: the signal that ended it; None: unknown, as another controller had started it."""
    last_lines: tuple[str, ...]
    """The last lines that it wrote."""
    not_started: str = ""
    """Why it could not be started; empty: it was."""

    @property
    def how(self) -> str:
        """The status in words."""
        if self.not_started:
            return f"no start: {self.not_started}"
        if self.status is None:
            return "an exit status that is not known"
        return f"exit status {self.status}" if self.status >= 0 else f"signal {-self.status} ({_name(-self.status)})"

    @property
    def description(self) -> str:
        """For messages: how it ended, and its last lines."""
        if self.not_started:
            return f"it could not be started: {self.not_started}"
        return "\n".join((f"it ended with {self.how}.", *self.last_lines))


class Process(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its id, where it runs."""
        ...

    def kill(self) -> None:
        """Ends it at once, with all that it started in its process group. Harmless if it has ended."""
        ...


class Launcher(Protocol):
    """Starts processes and tells when they have ended. Used on the controller's event loop only."""

    def start(self, program: Program, on_end: Callable[[Ending], None]) -> Process:
        """Starts a process. ``on_end`` is called on the loop, once, when it has ended and its output was read.

        Raises OSError if it cannot be started.
        """
        ...

    def adopt(self, name: str, pid: int, on_end: Callable[[Ending], None]) -> Process | None:
        """Takes over a process that an earlier controller of this instance has started; ``on_end`` as in :meth:`start`.

        None if there is no such process.
        """
        ...

    async def close(self) -> None:
        """Ends every process that it started and waits until they have ended."""
        ...


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
