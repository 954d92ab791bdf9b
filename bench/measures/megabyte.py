"""Large messages: 1 MiB of bytes, there and back."""

from __future__ import annotations

from bench.result import Row, Target
from bench.sides import Sides

OUTSTANDING = 4


def run(sides: Sides) -> list[Row]:
    load = {"size": 1024 * 1024, "outstanding": OUTSTANDING, "seconds": sides.seconds}
    return [
        sides.sample(
            Row(
                title=f"1 MiB echo, {OUTSTANDING} outstanding",
                unit="calls/s",
                reference_name="bare grpc.aio unary",
                target=Target(text="≥ 0.5× bare", at_least_ratio=0.5),
            ),
            fairlead=lambda: sides.fairlead().ask("unary", **load)["per_second"],
            reference=lambda: sides.bare_grpc_client().ask("unary", **load)["per_second"],
        )
    ]
