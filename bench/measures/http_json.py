"""JSON over HTTP, posted by wrk and echoed: beside a bare application on uvicorn, and beside LitServe and BentoML."""

from __future__ import annotations

from collections.abc import Callable

from bench.load_tools import wrk_script
from bench.measures.http_load import Loaded, compared
from bench.result import Row, Target
from bench.sides import ECHO_BODY, Sides

TITLE = "HTTP JSON echo, 32 connections"


def run(sides: Sides) -> list[Row]:
    script = wrk_script(sides.scratch / "post.lua", ECHO_BODY.decode())

    def fairlead() -> Loaded:
        return Loaded(f"http://{sides.fairlead().facts['http']}/", [sides.fairlead()])

    def bare() -> Loaded:
        server = sides.bare_http_server()
        return Loaded(f"http://{server.facts['address']}/", [server])

    def litserve() -> Loaded:
        return Loaded(sides.litserve().url, [sides.litserve()])

    def bentoml() -> Loaded:
        return Loaded(sides.bentoml().url, [sides.bentoml()])

    references: list[tuple[str, Callable[[], Loaded], Target | None]] = [
        ("bare uvicorn", bare, Target(text="≥ 0.3× bare", at_least_ratio=0.3)),
        ("LitServe", litserve, Target(text="≥ 8× LitServe", at_least_ratio=8.0)),
        ("BentoML", bentoml, None),
    ]
    return [
        row
        for name, reference, target in references
        for row in compared(sides, TITLE, script, fairlead, (name, reference), target)
    ]
