"""Calls that are traced: their doors hear what they would hear without, and the span ends with the call."""

from __future__ import annotations

from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InternalError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.routing.traced import TracedDownstream
from tests.routing.fake_replica import Caller


class Span:
    """Knows how it ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, failure: str) -> None:
        self.ended.append(failure)


def traced() -> tuple[Any, Caller, Span]:
    caller, span = Caller(), Span()
    return TracedDownstream(caller, span), caller, span  # type: ignore[arg-type]  # all of a span that is used


def test_everything_passes():
    downstream, caller, span = traced()
    downstream.on_writable()
    downstream.on_head([session_pb2.Metadata(key="k", value=b"v")])
    downstream.on_message(b"1", True)
    assert span.ended == []
    downstream.on_end(None, b"2")
    assert (caller.writable, caller.heads, caller.messages) == (1, [[("k", b"v")]], [(b"1", True)])
    assert (caller.ends, caller.payload, span.ended) == (1, b"2", [""])


def test_the_span_of_a_call_that_failed_says_so():
    downstream, caller, span = traced()
    downstream.on_end(outcome_of(InternalError("why"), trusted=False), None)
    assert span.ended == ["why"]
    assert caller.reason == "INTERNAL"
