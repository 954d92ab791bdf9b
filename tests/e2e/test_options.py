"""What the options of the doors do, on a real instance."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.v1 import control_pb2, serving_pb2
from tests.e2e.peers import RawSession, body, failure, info_of, opening, start


@serve.deployment
class Patient:
    """Its HTTP requests say where they went; its calls never end by themselves."""

    async def __call__(self, request: object) -> dict[str, str]:
        if request.query_params:  # type: ignore[attr-defined]
            await asyncio.Event().wait()
        return {"path": request.url.path, "root_path": request.scope["root_path"]}  # type: ignore[attr-defined]

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def pause(self) -> str:
        await asyncio.sleep(0.5)
        return "paused"


@pytest.fixture(scope="module")
def gateway(state_directory: Path) -> Iterator[control_pb2.GatewayStatus]:
    serve.start(
        http_options={"port": 0, "root_path": "/behind", "request_timeout_s": 0.3, "keep_alive_timeout_s": 0.1},
        grpc_options={"port": 0, "request_timeout_s": 0.3, "enable_reflection": False},
    )
    serve.run(Patient.bind(), name="patient", route_prefix="/patient")
    yield api.instance_status().gateways[0]
    serve.shutdown()


def test_root_path(gateway: control_pb2.GatewayStatus) -> None:
    answer = httpx.get(f"http://{gateway.http_address}/patient/x")
    while answer.status_code == 408:  # the time of requests is short for a busy machine
        answer = httpx.get(f"http://{gateway.http_address}/patient/x")
    assert answer.json() == {"path": "/behind/patient/x", "root_path": "/behind/patient"}


def test_http_request_timeout(gateway: control_pb2.GatewayStatus) -> None:
    assert httpx.get(f"http://{gateway.http_address}/patient?wait=1", timeout=30).status_code == 408


def test_http_keep_alive_timeout(gateway: control_pb2.GatewayStatus) -> None:
    host, port = gateway.http_address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET /-/routes HTTP/1.1\r\nhost: x\r\n\r\n")
        while connection.recv(65536):
            pass  # until it is closed


def test_grpc_request_timeout(gateway: control_pb2.GatewayStatus) -> None:
    target = serving_pb2.Target(application="patient", method="wait")
    with grpc.insecure_channel(gateway.grpc_address) as channel:
        for rpc in ("Call", "CallStream"):
            assert failure(start(channel, rpc, target, body()))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        with RawSession(channel) as session:
            session.send(opening(1, application="patient", method="wait"))
            assert info_of(session.end_of(1).outcome.status).reason == "DEADLINE_EXCEEDED"


def test_handles_of_the_owner_have_no_such_limit(gateway: control_pb2.GatewayStatus) -> None:
    assert serve.get_app_handle("patient").pause.remote().result(timeout_s=30) == "paused"


def test_no_reflection(gateway: control_pb2.GatewayStatus) -> None:
    with grpc.insecure_channel(gateway.grpc_address) as channel:
        ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            next(ask(iter([b""]), timeout=30))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
