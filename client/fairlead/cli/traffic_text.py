"""How an endpoint's calls are spread, in words and as JSON."""

from __future__ import annotations

from typing import Any

from fairlead.serve.status import endpoint_traffic
from fairlead.v1 import control_pb2


def traffic_line(policy: control_pb2.TrafficPolicy) -> str:
    """Who gets how much of an endpoint's calls: ``shop/Old 90 %, shop/New 10 %, lab/Try 5 % as a shadow``."""
    traffic = endpoint_traffic(policy)
    shares = [(one, "") for one in traffic.backends.items()] + [
        (one, " as a shadow") for one in traffic.shadows.items()
    ]
    return ", ".join(f"{target} {share * 100:g} %{how}" for (target, share), how in shares)


def traffic_value(policy: control_pb2.TrafficPolicy) -> dict[str, Any]:
    """The same for JSON, as shares between 0 and 1."""
    traffic = endpoint_traffic(policy)
    return {"backends": traffic.backends, "shadows": traffic.shadows}
