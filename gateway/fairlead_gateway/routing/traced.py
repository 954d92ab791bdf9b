"""A span for each call that passes the router, where OpenTelemetry is configured in the gateway."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.serve.tracing import CallSpan
from fairlead.v1 import session_pb2
from fairlead_gateway.routing.call import Downstream


class TracedDownstream:
    """Between a call and its door: ends the span with the call (Downstream)."""

    __slots__ = ("_downstream", "_span", "on_message", "on_writable")

    def __init__(self, downstream: Downstream, span: CallSpan) -> None:
        self._downstream = downstream
        self._span = span
        self.on_message = downstream.on_message
        self.on_writable = downstream.on_writable

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        """See Downstream."""
        self._downstream.on_head(metadata)

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """See Downstream."""
        self._span.end("" if outcome is None else outcome.status.message or str(outcome.status.code))
        self._downstream.on_end(outcome, payload)
