"""JSON over HTTP, posted by wrk and echoed, against a bare application on uvicorn."""

from __future__ import annotations

from bench.load_tools import wrk
from bench.result import Row, Target
from bench.sides import Sides

SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"message": "%s"}'
""" % ("x" * 85)


def run(sides: Sides) -> list[Row]:
    script = sides.scratch / "post.lua"
    script.write_text(SCRIPT)

    def fairlead() -> float:
        return wrk(f"http://{sides.fairlead().facts['http']}/", script, seconds=sides.seconds)

    def bare() -> float:
        return wrk(f"http://{sides.bare_http_server().facts['address']}/", script, seconds=sides.seconds)

    row = Row(
        title="HTTP JSON echo, 32 connections",
        unit="requests/s",
        reference_name="bare uvicorn",
        target=Target(text="≥ 0.3× bare", at_least_ratio=0.3),
    )
    return [sides.sample(row, fairlead=fairlead, reference=bare)]
