"""What a HTTP client may do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """What a HTTP client may do."""

    max_body_bytes: int = 64 * 1024 * 1024
    """The largest body of a request; above it the answer is 413."""
    max_message_bytes: int = 256 * 1024 * 1024
    """The largest piece of a response. A streamed response may be of any length."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, unless it says otherwise itself; None: no limit."""
    max_head_bytes: int = 64 * 1024
    """Bytes of the request line and the header fields; above it the answer is 431."""
    head_timeout_s: float = 30.0
    """Seconds that a client may take to send the head of a request."""
    keep_alive_timeout_s: float = 90
    """Seconds that an idle connection is kept."""
