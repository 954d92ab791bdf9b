"""Small items of a generator, 8 streams at once, read through a handle."""

from __future__ import annotations

from bench.result import Row, Target
from bench.sides import Sides

PARALLEL = 8
RAY_SERVES_BEST = 14_500.0
"""Items per second that Ray Serve reached when tuned, as DESIGN.md quotes it; not measured here."""


def run(sides: Sides) -> list[Row]:
    load = {"parallel": PARALLEL, "seconds": sides.seconds}
    target = Target(text="≥ 10× Ray Serve's best", at_least_ratio=10.0)
    quoted = Row(
        title=f"streamed items, {PARALLEL} streams", unit="items/s", reference_name="Ray Serve (quoted)", target=target
    )
    bare = Row(title=f"streamed items, {PARALLEL} streams", unit="items/s", reference_name="bare grpc.aio streams")
    sides.sample(
        bare,
        fairlead=lambda: sides.fairlead().ask("streams", **load)["per_second"],
        reference=lambda: sides.bare_grpc_client().ask("streams", **load)["per_second"],
    )
    quoted.fairlead, quoted.reference, quoted.note = bare.fairlead, [RAY_SERVES_BEST], bare.note
    return [quoted, bare]
