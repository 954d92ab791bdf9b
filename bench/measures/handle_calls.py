"""Calls through a handle, gateway and replica, against a bare grpc.aio client and server."""

from __future__ import annotations

from bench.result import Row, Target
from bench.sides import Sides

SIZE = 100
TARGETS = {32: Target(text="≥ 4× bare", at_least_ratio=4.0)}
REFERENCE = "bare grpc.aio unary"


def run(sides: Sides) -> list[Row]:
    rows = [_throughput(sides, outstanding) for outstanding in (32, 128)]
    return [*_latency(sides), *rows]


def _throughput(sides: Sides, outstanding: int) -> Row:
    load = {"size": SIZE, "outstanding": outstanding, "seconds": sides.seconds}
    return sides.sample(
        Row(
            title=f"handle calls, {outstanding} outstanding",
            unit="calls/s",
            reference_name=REFERENCE,
            target=TARGETS.get(outstanding),
        ),
        fairlead=lambda: sides.fairlead().ask("unary", **load)["per_second"],
        reference=lambda: sides.bare_grpc_client().ask("unary", **load)["per_second"],
    )


def _latency(sides: Sides) -> list[Row]:
    load = {"size": SIZE, "outstanding": 1, "seconds": sides.seconds}
    target = Target(text="≤ 1.3× bare", at_most_ratio=1.3)
    awaited = Row(title="one handle call, awaited, p50", unit="ms", reference_name=REFERENCE, target=target)
    blocking = Row(title="one handle call, .result(), p50", unit="ms", reference_name=REFERENCE)
    sides.sample(
        awaited,
        fairlead=lambda: sides.fairlead().ask("unary", **load)["p50_ms"],
        reference=lambda: sides.bare_grpc_client().ask("unary", **load)["p50_ms"],
    )
    blocking.reference = awaited.reference
    sides.sample(
        blocking,
        fairlead=lambda: sides.fairlead().ask("blocking", size=SIZE, seconds=sides.seconds)["p50_ms"],
        reference=None,
    )
    return [awaited, blocking]
