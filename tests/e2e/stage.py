"""What tests and the deployments they call tell each other past the system under test: events, gates, and numbers.

A directory of files, so that it works whatever became of replicas, connections and slots. Pickled, it is a path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 60.0
"""Seconds after which a test gives up; nothing that works takes so long."""
_POLL_S = 0.005


class Stage:
    """Both ends. A deployment notes events and waits at gates; a test waits for events and opens gates."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    # -- for deployments

    def note(self, event: str) -> None:
        """Says that something happened; once more each time. Names hold no line ends."""
        descriptor = os.open(self.directory / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{event}\n".encode())
        finally:
            os.close(descriptor)

    async def pass_gate(self, name: str) -> None:
        """Waits until the test has opened a gate."""
        while not self.is_open(name):
            await asyncio.sleep(_POLL_S)

    def pass_gate_blocking(self, name: str) -> None:
        """The same for synchronous code."""
        while not self.is_open(name):
            time.sleep(_POLL_S)

    def is_open(self, name: str) -> bool:
        """Whether a gate is open."""
        return (self.directory / f"gate-{name}").exists()

    def first(self, name: str) -> bool:
        """Whether nobody, in any process, has asked this before."""
        try:
            (self.directory / f"first-{name}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    # -- for tests

    def open(self, name: str) -> None:
        """Opens a gate, for good."""
        (self.directory / f"gate-{name}").touch()

    def events(self) -> list[str]:
        """All that was noted, in order."""
        try:
            return (self.directory / "events").read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_for(self, event: str, count: int = 1) -> None:
        """Blocks until an event was noted so often."""
        wait_until(lambda: self.events().count(event) >= count, lambda: f"{event!r} x {count} in {self.events()[-50:]}")

    def meet_deadline(self, event: str, key: str, call: Callable[[str, float], object]) -> str:
        """Has a call made, with a key and so many seconds of time, that ends after it has noted ``event``, of its key.

        One that ended before, on a busy machine, is made again with more time. Returns the key of the last one.
        """
        for time_s in (0.5, 5.0, 30.0):
            this = f"{key}-{time_s:g}"
            call(this, time_s)
            if event.format(this) in self.events():
                break
        return this

    async def hear(self, event: str, count: int = 1) -> None:
        """The same in an event loop."""
        await asyncio.to_thread(self.wait_for, event, count)


def wait_until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "the condition") -> None:
    """Blocks until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what()}"
        time.sleep(_POLL_S)
