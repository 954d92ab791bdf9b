"""What calls know of themselves through every door, and the order in which a replica ends."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from fairlead import serve
from fairlead.serve.exceptions import RequestCancelledError
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.conftest import Ports
from tests.e2e.context_app import Back, Front, Orderly, Stubborn
from tests.e2e.peers import body
from tests.e2e.stage import PATIENCE_S, Stage


@pytest.fixture(scope="module")
def front(ports: Ports) -> Iterator[DeploymentHandle]:
    yield serve.run(Front.bind(Back.bind()), name="context", route_prefix="/context")
    serve.delete("context")


def check_child(parent: dict[str, Any], child: dict[str, Any]) -> None:
    """What goes on to calls that a call makes, and what does not."""
    assert [child[name] for name in ("route", "request_id", "app_name")] == [
        parent[name] for name in ("route", "request_id", "app_name")
    ]
    assert (child["model_id"], child["session_id"], child["is_http"]) == ("", "", False)
    if parent["left_s"] is None:
        assert child["left_s"] is None
    else:
        assert 0 < child["left_s"] <= parent["left_s"]


def test_a_handles_call(front: DeploymentHandle) -> None:
    response = front.options(multiplexed_model_id="m", session_id="s", timeout_s=60).tell.remote()
    own, child = response.result(timeout_s=PATIENCE_S)
    assert own["request_id"] == response.request_id
    assert (own["app_name"], own["model_id"], own["session_id"]) == ("context", "m", "s")
    assert (own["route"], own["is_http"], own["grpc_context"]) == ("", False, None)
    assert 50 < own["left_s"] <= 60
    check_child(own, child)
    own, child = front.tell.remote().result(timeout_s=PATIENCE_S)
    assert own["left_s"] is None
    check_child(own, child)


def test_a_http_request(front: DeploymentHandle, ports: Ports) -> None:
    headers = {
        "x-request-id": "mine",
        "serve_multiplexed_model_id": "m",
        "x-session-id": "s",
        "x-request-timeout-seconds": "60",
    }
    request = urllib.request.Request(f"{ports.http}/context/any", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.headers["x-request-id"] == "mine"
        own, child = json.load(answer)
    assert (own["request_id"], own["app_name"], own["model_id"], own["session_id"]) == ("mine", "context", "m", "s")
    assert own["route"].startswith("/context")
    assert own["is_http"]
    assert 50 < own["left_s"] <= 60
    check_child(own, child)


def test_a_grpc_call(front: DeploymentHandle, channel: grpc.Channel) -> None:
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    target = serving_pb2.Target(
        application="context", method="tell", request_id="mine", multiplexed_model_id="m", session_id="s"
    )
    answer = stub.Call(serving_pb2.CallRequest(target=target, payload=body()), timeout=60)
    own, child = json.loads(answer.payload.data)
    assert (own["request_id"], own["app_name"], own["model_id"], own["session_id"]) == ("mine", "context", "m", "s")
    assert (own["route"], own["is_http"]) == ("", False)
    assert 50 < own["left_s"] <= 60
    check_child(own, child)


def test_grpc_metadata_stand_for_what_the_target_leaves_empty(front: DeploymentHandle, channel: grpc.Channel) -> None:
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    metadata = (("multiplexed_model_id", "m"), ("session_id", "s"), ("x-request-id", "mine"))

    def ask(**target: str) -> tuple[str, ...]:
        request = serving_pb2.CallRequest(
            target=serving_pb2.Target(application="context", method="tell", **target), payload=body()
        )
        own = json.loads(stub.Call(request, timeout=60, metadata=metadata).payload.data)[0]
        return own["model_id"], own["session_id"], own["request_id"]

    assert ask() == ("m", "s", "mine")
    assert ask(multiplexed_model_id="n", session_id="t", request_id="other") == ("n", "t", "other")


def events_of(stage: Stage, key: str) -> list[str]:
    return [event.removeprefix(f"{key} ") for event in stage.events() if event.startswith(f"{key} ")]


def test_a_replica_drains_then_unloads_models_then_is_deleted(ports: Ports, stage: Stage, key: str) -> None:
    handle = serve.run(Orderly.bind(stage, key), name=key, route_prefix=None)
    response = handle.remote()
    stage.wait_for(f"{key} entered")
    deleting = threading.Thread(target=serve.delete, args=(key,))
    deleting.start()
    stage.open(key)
    assert response.result(timeout_s=PATIENCE_S) is None
    deleting.join(PATIENCE_S)
    assert not deleting.is_alive()
    assert events_of(stage, key) == ["entered", "call ended", "model unloaded", "deleted"]


def test_the_limit_interrupts_what_does_not_end(ports: Ports, stage: Stage, key: str) -> None:
    handle = serve.run(Stubborn.bind(stage, key), name=key, route_prefix=None)
    response = handle.remote()
    stage.wait_for(f"{key} entered")
    serve.delete(key)
    with pytest.raises(RequestCancelledError):
        response.result(timeout_s=PATIENCE_S)
    assert events_of(stage, key) == ["entered", "interrupted", "deleted"]
