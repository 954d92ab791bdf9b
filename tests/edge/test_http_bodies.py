from __future__ import annotations

from types import SimpleNamespace

import pytest

from fairlead_gateway.edge.http_bodies import BodyWatch, Excess, Incoming
from fairlead_gateway.edge.http_limits import HttpLimits

LIMITS = HttpLimits(
    max_body_bytes=1000, max_head_bytes=100, max_incoming_bytes=1500, body_timeout_s=10, min_body_rate=50
)


@pytest.fixture
def incoming() -> Incoming:
    return Incoming()


def begun(incoming: Incoming, now: float = 0.0) -> BodyWatch:
    watch = BodyWatch(LIMITS, incoming)
    watch.begin(SimpleNamespace(response_complete=False), now)
    return watch


def test_what_comes_buys_time(incoming: Incoming) -> None:
    watch = begun(incoming, 5.0)
    assert watch.due == 15.0
    watch.add(100, grew=True, streams=False)
    assert watch.due == 17.0
    watch.excuse(7.0)
    assert watch.due == 19.0


def test_framing_without_a_body_is_too_much_in_a_row(incoming: Incoming) -> None:
    watch = begun(incoming)
    assert watch.add(100, grew=False, streams=False) is None
    assert watch.add(1, grew=True, streams=False) is None
    assert watch.add(100, grew=False, streams=False) is None
    assert watch.add(1, grew=False, streams=False) is Excess.FRAMING


def test_a_body_that_is_answered_may_come_to_its_end(incoming: Incoming) -> None:
    watch = begun(incoming)
    watch.add(500, grew=True, streams=False)
    assert watch.cycle is not None
    watch.cycle.response_complete = True
    assert watch.add(1000, grew=False, streams=False) is None
    assert incoming.held == 0, "nobody keeps it"
    assert watch.add(1, grew=False, streams=False) is Excess.FRAMING


def test_all_of_them_together(incoming: Incoming) -> None:
    one, other = begun(incoming), begun(incoming)
    assert one.add(900, grew=True, streams=False) is None
    assert other.add(600, grew=True, streams=False) is None
    assert other.add(1, grew=True, streams=False) is Excess.TOGETHER
    one.end()
    assert incoming.held == 601
    assert other.add(1, grew=True, streams=False) is None
    other.begin(SimpleNamespace(response_complete=False), 0.0)
    assert incoming.held == 0
    other.end()
    other.end()
    assert incoming.held == 0


def test_a_stream_is_not_kept(incoming: Incoming) -> None:
    watch = begun(incoming)
    for _ in range(10):
        assert watch.add(1000, grew=True, streams=True) is None
    assert incoming.held == 0
