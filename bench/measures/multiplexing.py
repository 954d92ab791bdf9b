"""64 models with Zipf's popularity on 4 replicas that keep 4 each: which calls load a model, and how long they take.

The best static placement keeps another one of the popular models in every place: what it would have loaded for the same
calls is counted with them.
"""

from __future__ import annotations

from typing import Any

from bench import model_zoo
from bench.result import Row, Target
from bench.side import Side
from bench.sides import Sides

RULES = {"ray serve": "Ray Serve's rule", "plain": "power of two choices"}
WARM_UP = 3_000
CALLS_PER_SAMPLE_S = 600
"""A sample takes four times what others take: rare models need to be asked for."""


def run(sides: Sides) -> list[Row]:
    with Side("bench.programs.model_zoo_driver", environment=sides.environment) as driver:
        samples = {rule: _samples(sides, driver, rule) for rule in ("fairlead", *RULES)}
    title = f"{model_zoo.MODELS} models in {model_zoo.REPLICAS * model_zoo.PLACES} places"
    best = Row(
        title=f"{title}, calls without a load",
        unit="%",
        reference_name="best static placement",
        target=Target(text="≥ 0.95× best", at_least_ratio=0.95),
        fairlead=_percent(samples["fairlead"]),
        reference=[each["best_static"] * 100 for each in samples["fairlead"]],
    )
    balance = Row(
        title=f"{title}, busiest replica beside the mean",
        unit="×",
        reference_name="even",
        target=Target(text="≤ 1.5", at_most=1.5),
        fairlead=[each["imbalance"] for each in samples["fairlead"]],
        reference=[1.0],
    )
    rows = [best, balance]
    for rule, name in RULES.items():
        rows.append(_beside(f"{title}, calls without a load", "%", name, _percent, samples, rule))
        rows.append(_beside(f"{title}, p99", "ms", name, _p99, samples, rule))
    for row in rows:
        print(f"  {row.title}: {row.value:.4g} {row.unit}, {row.reference_name} {row.reference_value:.4g}")
    return rows


def _samples(sides: Sides, driver: Side, rule: str) -> list[dict[str, Any]]:
    driver.ask("use", rule=rule, warm_up=WARM_UP)
    calls = int(CALLS_PER_SAMPLE_S * sides.seconds)
    return [driver.ask("visit", calls=calls) for _ in range(sides.repeats)]


def _percent(samples: list[dict[str, Any]]) -> list[float]:
    return [each["without_load"] * 100 for each in samples]


def _p99(samples: list[dict[str, Any]]) -> list[float]:
    return [each["p99_ms"] for each in samples]


def _beside(title: str, unit: str, name: str, values: Any, samples: dict[str, Any], rule: str) -> Row:
    return Row(
        title=title,
        unit=unit,
        reference_name=name,
        fairlead=values(samples["fairlead"]),
        reference=values(samples[rule]),
    )
