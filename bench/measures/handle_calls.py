"""Calls through a handle, gateway and replica, against a bare grpc.aio client and server."""

from __future__ import annotations

from bench.result import Row, Target
from bench.side import Side
from bench.sides import Sides

SIZE = 100
TARGETS = {32: Target(text="≥ 4× bare", at_least_ratio=4.0)}
REFERENCE = "bare grpc.aio unary"


def run(sides: Sides) -> list[Row]:
    rows = [row for outstanding in (32, 128) for row in _throughput(sides, outstanding)]
    return [*_latency(sides), *rows]


def _throughput(sides: Sides, outstanding: int) -> list[Row]:
    """Calls per second, and the CPU time of one call in all processes, which other programs disturb less."""
    load = {"size": SIZE, "outstanding": outstanding, "seconds": sides.seconds}
    title = f"handle calls, {outstanding} outstanding"
    cpu = Row(title=f"{title}, CPU of one", unit="µs", reference_name=REFERENCE)

    def sample(caller: Side, processes: list[Side], cpu_us: list[float]) -> float:
        used = sum(side.cpu_s() for side in processes)
        answer = caller.ask("unary", **load)
        cpu_us.append((sum(side.cpu_s() for side in processes) - used) / answer["calls"] * 1e6)
        return float(answer["per_second"])

    def fairlead() -> float:
        return sample(sides.fairlead(), [sides.fairlead()], cpu.fairlead)

    def bare() -> float:
        client = sides.bare_grpc_client()
        return sample(client, [client, sides.bare_grpc_server()], cpu.reference)

    row = Row(title=title, unit="calls/s", reference_name=REFERENCE, target=TARGETS.get(outstanding))
    return [sides.sample(row, fairlead=fairlead, reference=bare), cpu]


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
