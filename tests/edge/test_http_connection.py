"""How long a client that reads slowly, or not at all, is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fairlead_gateway.edge.http_connection import Patience
from fairlead_gateway.edge.http_limits import HttpLimits

LIMITS = HttpLimits(write_timeout_s=10.0, min_body_rate=100.0)
"""Ten seconds, in which 1,000 bytes must be read."""


class Timer:
    def __init__(self, delay: float, due: Callable[[], None]) -> None:
        self.delay = delay
        self.due = due
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Transport:
    """One with a client that reads what the test says."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True


class Stage:
    def __init__(self, waiting: int) -> None:
        self.timers: list[Timer] = []
        self.transport: Any = Transport(waiting)
        self.patience = Patience(self.transport, LIMITS, self._call_later)

    def _call_later(self, delay: float, due: Callable[[], None]) -> Any:
        self.timers.append(Timer(delay, due))
        return self.timers[-1]

    def pass_time(self, read: int) -> None:
        """The time is over; so much was read in it."""
        timer = self.timers.pop()
        assert (timer.delay, timer.cancelled, self.timers) == (10.0, False, [])
        self.transport.waiting -= read
        timer.due()


@pytest.mark.parametrize("read", [0, 1, 999])
def test_one_that_does_not_read_is_given_up(read: int) -> None:
    stage = Stage(100_000)
    stage.patience.begin()
    stage.pass_time(read)
    assert stage.transport.aborted
    assert stage.timers == []


def test_one_that_reads_slowly_is_not() -> None:
    stage = Stage(5_000)
    stage.patience.begin()
    for _ in range(4):
        stage.pass_time(1000)
        assert not stage.transport.aborted
    stage.pass_time(0)
    assert stage.transport.aborted


def test_one_that_has_read_everything_is_not_waited_for() -> None:
    stage = Stage(10)
    stage.patience.begin()
    stage.pass_time(10)
    assert not stage.transport.aborted
    assert stage.timers == []


def test_one_that_reads_again_has_all_its_time_the_next_time() -> None:
    stage = Stage(100_000)
    stage.patience.begin()
    stage.patience.end()
    assert stage.timers.pop().cancelled
    stage.patience.end()
    stage.patience.begin()
    stage.patience.begin()
    stage.pass_time(1000)
    assert not stage.transport.aborted
