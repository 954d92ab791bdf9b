"""Autoscaling under loads of several shapes, with the gateway's own decisions and time as a number.

``python -m bench.simulations.autoscaling`` draws ``docs/autoscaling.svg``. What the page claims of these runs is
checked by ``tests/control/test_autoscaling_simulation.py``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.simulations.plot import Panel, draw
from fairlead.v1 import control_pb2
from fairlead_gateway.control.autoscaling import Autoscaler

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "autoscaling.svg"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A load, and how long it is looked at."""

    name: str
    """What the picture calls it."""
    calls: Callable[[float], float]
    """How many calls there would be at a time if none had to wait, in the mean."""
    seconds: float
    """How long."""
    tick_s: float = 0.25
    """Seconds between decisions."""


@dataclass(kw_only=True)
class Run:
    """What happened, one entry per tick."""

    tick_s: float
    """Seconds between entries."""
    needed: list[float] = field(default_factory=list)
    """How many replicas the calls that came would keep at their target, not rounded."""
    replicas: list[int] = field(default_factory=list)
    """How many were ready."""
    targets: list[int] = field(default_factory=list)
    """How many were asked for."""
    waiting: list[int] = field(default_factory=list)
    """Calls without a slot."""

    def index(self, time_s: float) -> int:
        """The entry of a time."""
        return int(time_s / self.tick_s)

    def turns(self, start_s: float = 0.0, end_s: float = math.inf) -> int:
        """How often scaling changed its direction between two times: what flapping is made of."""
        end = len(self.targets) if math.isinf(end_s) else self.index(end_s)
        targets = self.targets[self.index(start_s) : end]
        moves = [after > before for before, after in pairwise(targets) if after != before]
        return sum(one != other for one, other in pairwise(moves))

    def load_factor(self, start_s: float, end_s: float) -> float:
        """The calls for each replica in terms of the target, in the mean between two times; 1: exactly that."""
        span = slice(self.index(start_s), self.index(end_s))
        return sum(self.needed[span]) / sum(self.replicas[span])


def settings(**changes: float) -> control_pb2.AutoscalingSettings:
    """Ray Serve's defaults but for the bounds."""
    values: dict[str, float] = {
        "min_replicas": 1,
        "max_replicas": 200,
        "target_ongoing_requests": 2,
        "look_back_period_s": 30,
        "upscaling_factor": 1,
        "downscaling_factor": 1,
        "upscale_delay_s": 30,
        "downscale_delay_s": 600,
        "downscale_to_zero_delay_s": 600,
    }
    return control_pb2.AutoscalingSettings(**{**values, **changes})  # type: ignore[arg-type]  # whole numbers stay whole


def simulate(
    shape: Shape,
    configured: control_pb2.AutoscalingSettings,
    *,
    service_s: float = 0.5,
    startup_s: float = 5.0,
    slots: int = 5,
    seed: int = 1,
) -> Run:
    """Calls arrive at the shape's rate, wait for a slot, and take ``service_s``, both in the mean and by chance."""
    rand = random.Random(seed)
    run = Run(tick_s=shape.tick_s)
    ready = math.ceil(shape.calls(0.0) / configured.target_ongoing_requests)
    calls = round(shape.calls(0.0))
    scaler = Autoscaler(configured, ready, 0.0)
    starting: list[float] = []
    ends = 1 - math.exp(-shape.tick_s / service_s)
    for tick in range(int(shape.seconds / shape.tick_s)):
        now = tick * shape.tick_s
        offered = shape.calls(now)
        calls -= _binomial(rand, min(calls, ready * slots), ends)
        calls += _poisson(rand, offered * ends)  # without those that come and go within the tick
        scaler.window.note(now, calls)
        target = scaler.decide(now, ready)
        ready += sum(since + startup_s <= now for since in starting)
        starting = [since for since in starting if since + startup_s > now]
        starting += [now] * (target - ready - len(starting))
        ready, starting = min(ready, target), starting[: max(0, target - ready)]
        run.needed.append(offered / configured.target_ongoing_requests)
        run.replicas.append(ready)
        run.targets.append(target)
        run.waiting.append(max(0, calls - ready * slots))
    return run


def _poisson(rand: random.Random, mean: float) -> int:
    """A number of arrivals. By the normal distribution where that is as good."""
    if mean > 30:
        return max(0, round(rand.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, rand.random()
    while product > limit:
        count += 1
        product *= rand.random()
    return count


def _binomial(rand: random.Random, count: int, chance: float) -> int:
    """A number of ends. By the normal distribution where that is as good."""
    if count * chance * (1 - chance) > 9:
        spread = math.sqrt(count * chance * (1 - chance))
        return min(count, max(0, round(rand.gauss(count * chance, spread))))
    return sum(rand.random() < chance for _ in range(count))


STEP = Shape(name="Step", calls=lambda now: 120 if 300 <= now < 1500 else 60, seconds=2700)
BURSTS = Shape(name="Bursts of 20 s", calls=lambda now: 80 if now % 300 >= 280 else 40, seconds=2700)
DIURNAL = Shape(
    name="A day", calls=lambda now: 200 - 120 * math.cos(now / 86400 * 2 * math.pi), seconds=86400, tick_s=1.0
)
OSCILLATING = Shape(
    name="Oscillation of 60 s", calls=lambda now: 60 + 30 * math.sin(now / 60 * 2 * math.pi), seconds=2700
)
SHAPES = (STEP, BURSTS, DIURNAL, OSCILLATING)


def main() -> None:
    """Draws all of them."""
    panels = []
    for shape in SHAPES:
        run = simulate(shape, settings())
        panels.append(Panel(title=shape.name, seconds=shape.seconds, needed=run.needed, replicas=run.replicas))
    PICTURE.write_text(draw(panels))


if __name__ == "__main__":
    main()
