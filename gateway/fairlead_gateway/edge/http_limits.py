"""What a HTTP client may do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """What a HTTP client may do."""

    max_body_bytes: int = 64 * 1024 * 1024
    """The largest body of a request; above it the answer is 413."""
    max_incoming_bytes: int = 1024 * 1024 * 1024
    """Bytes of bodies that come in at once, on all connections; the one above it is answered with 503."""
    max_message_bytes: int = 256 * 1024 * 1024
    """The largest piece of a response. A streamed response may be of any length."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, unless it says otherwise itself; None: no limit."""
    max_request_timeout_s: float | None = None
    """Seconds that a request may take whatever it says; None: as it says."""
    max_head_bytes: int = 64 * 1024
    """Bytes of the request line and the header fields; above it the answer is 431."""
    head_timeout_s: float = 30.0
    """Seconds that a client may take to send the head of a request."""
    keep_alive_timeout_s: float = 90
    """Seconds that an idle connection is kept."""
    body_timeout_s: float = 30.0
    """Seconds that a client may take to send a body, and as many more as its length takes at ``min_body_rate``."""
    min_body_rate: float = 1024.0
    """Bytes per second."""
    write_timeout_s: float = 60.0
    """Seconds after which a client that reads less than ``min_body_rate`` of what waits for it is given up."""
    max_pipelined: int = 100
    """Requests that may wait for the answers before theirs; a client that sends more is given up."""
    max_websocket_message_bytes: int = 16 * 1024 * 1024
    """The largest message of a WebSocket's client; a larger one closes it with 1009."""
    websocket_farewell_s: float = 20.0
    """Seconds that the handler of a WebSocket may take to end when its client has left."""
    metadata_headers: tuple[str, ...] = ()
    """Header fields that become metadata of typed services' calls beyond those that always do, in lower case."""

    def __post_init__(self) -> None:
        longest = self.max_request_timeout_s
        if longest is not None and (self.request_timeout_s is None or self.request_timeout_s > longest):
            object.__setattr__(self, "request_timeout_s", longest)


def limit(text: str) -> tuple[str, Any]:
    """A field of :class:`HttpLimits` and its value, from ``name=value``. Raises ValueError for what is none."""
    name, _, value = text.partition("=")
    if name not in {one.name for one in fields(HttpLimits)} - {"metadata_headers"}:
        raise ValueError(f"there is no limit {name!r}")
    return name, int(value) if "bytes" in name or name == "max_pipelined" else float(value)
