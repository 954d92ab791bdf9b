"""A method with a ``google.api.http`` annotation called with JSON, beside Envoy's transcoder before grpc.aio."""

from __future__ import annotations

from bench import schema
from bench.load_tools import wrk_script
from bench.measures.http_load import Loaded, compared
from bench.result import Row, Target
from bench.sides import Sides


def run(sides: Sides) -> list[Row]:
    script = wrk_script(sides.scratch / "transcode.lua", schema.BODY)

    def fairlead() -> Loaded:
        side = sides.typed_fairlead()
        return Loaded(f"http://{side.facts['http']}{schema.PATH}", [side])

    def envoy() -> Loaded:
        proxy = sides.envoy()
        return Loaded(proxy.url, [proxy, sides.typed_grpc_server()])

    target = Target(text="≥ 2× Envoy before grpc.aio", at_least_ratio=2.0)
    title = "JSON transcoding, 32 connections"
    return compared(sides, title, script, fairlead, ("Envoy + grpc.aio", envoy), target)
