"""ServingService.Call from a client in C, which costs this machine little, so that the servers' cost is what counts."""

from __future__ import annotations

from google.api import httpbody_pb2

from bench.load_tools import h2load
from bench.result import Row, Target
from bench.sides import Sides
from fairlead.v1 import serving_pb2

TEXT = "x" * 94
ARGUMENTS = f'[["{TEXT}"],{{}}]'.encode()


def run(sides: Sides) -> list[Row]:
    target = serving_pb2.Target(application="bench", deployment="Echo", method="echo")
    payload = httpbody_pb2.HttpBody(content_type="application/json", data=ARGUMENTS)
    call = sides.scratch / "call.bin"
    call.write_bytes(_framed(serving_pb2.CallRequest(target=target, payload=payload).SerializeToString()))
    echo = sides.scratch / "echo.bin"
    echo.write_bytes(_framed(bytes(100)))

    def fairlead() -> float:
        url = f"http://{sides.fairlead().facts['grpc']}/fairlead.v1.ServingService/Call"
        return h2load(url, call, least_answer=len(TEXT), seconds=sides.seconds)

    def bare() -> float:
        url = f"http://{sides.bare_grpc_server().facts['address']}/bench.Echo/Echo"
        return h2load(url, echo, least_answer=100, seconds=sides.seconds)

    row = Row(
        title="gRPC unary from C, 32 outstanding",
        unit="calls/s",
        reference_name="bare grpc.aio unary",
        target=Target(text="≥ 0.5× bare", at_least_ratio=0.5),
    )
    return [sides.sample(row, fairlead=fairlead, reference=bare)]


def _framed(message: bytes) -> bytes:
    """A message as it travels in gRPC: not compressed, its length, itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message
