"""What all calls of a handle have in common: where they go, how they are encoded, and how long they may take."""

from __future__ import annotations

from fairlead.v1 import session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.deadlines import callee_of

RENEW_AFTER = 256
"""Calls after which the header that they are stamped on is made anew."""


class CallTemplate:
    """What all calls of one handle have in common."""

    __slots__ = ("_header", "_stamped", "header", "request_codec", "response_codec", "timeout_s")

    def __init__(
        self,
        *,
        header: session_pb2.CallHeader,
        request_codec: Codec,
        response_codec: Codec,
        timeout_s: float | None,
    ) -> None:
        self.header = header
        """Not to be written to."""
        self.request_codec = request_codec
        """How arguments are encoded."""
        self.response_codec = response_codec
        """How results are decoded."""
        self.timeout_s = timeout_s
        """Seconds that a call may take; None: no limit of its own."""
        self._header = header
        self._stamped = RENEW_AFTER

    @property
    def callee(self) -> str:
        """For messages."""
        return callee_of(self.header)

    def stamp(self, request_id: str, route: str, timeout_us: int) -> session_pb2.CallHeader:
        """The header of one call, good until the next is stamped. On the wire loop."""
        if self._stamped >= RENEW_AFTER:
            # A protobuf message keeps every string that was ever set in it, until it goes itself.
            self._stamped = 0
            self._header = session_pb2.CallHeader()
            self._header.CopyFrom(self.header)
        self._stamped += 1
        header = self._header
        header.request_id = request_id
        header.route = route
        if timeout_us or header.timeout_us:
            header.timeout_us = timeout_us
        return header
