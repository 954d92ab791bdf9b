"""What all requests of one HTTP port have in common."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.upstream import CallRouter


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpPort:
    """What all requests of one HTTP port have in common."""

    router: CallRouter
    """Takes their calls."""
    limits: HttpLimits
    """What their clients may do."""
    root_path: str = ""
    """A prefix that a proxy has removed from their paths, without a slash at its end."""
