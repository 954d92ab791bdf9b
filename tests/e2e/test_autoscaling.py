"""Deployments that scale by their calls: real processes, and delays that a test can wait for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest
from google.api import httpbody_pb2

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import control_pb2, serving_pb2, serving_pb2_grpc
from tests.e2e.autoscaling_app import Held, Slow, as_the_file_says
from tests.e2e.conftest import Ports
from tests.e2e.load import Load
from tests.e2e.stage import PATIENCE_S, Stage, wait_until

QUICK = {"target_ongoing_requests": 1, "look_back_period_s": 0.5, "upscale_delay_s": 0, "downscale_delay_s": 0.5}


def deployment(name: str) -> control_pb2.DeploymentStatus:
    (found,) = (each for each in api.instance_status().applications if each.name == name)
    return found.deployments[0]


def running(name: str) -> int:
    state = control_pb2.REPLICA_STATE_RUNNING
    return sum(replica.state == state for replica in deployment(name).replicas)


def run(name: str, stage: Stage, prefix: str | None = None, **scale: object) -> DeploymentHandle[Held]:
    target = Held.options(autoscaling_config={**QUICK, **scale}).bind(stage)
    return serve.run(target, name=name, route_prefix=prefix)


@pytest.fixture
def gone() -> object:
    yield
    for name in list(serve.status().applications):
        serve.delete(name)


@pytest.mark.usefixtures("ports", "gone")
class TestScaling:
    def test_up_under_load_and_down_after_it(self, stage: Stage, key: str) -> None:
        handle = run("up", stage, min_replicas=1, max_replicas=3)
        assert running("up") == 1
        held = [handle.hold.remote(key) for _ in range(3)]
        wait_until(lambda: running("up") == 3, lambda: deployment("up"))
        status = serve.status().applications["up"]
        assert status.status == "RUNNING"
        stage.open(key)
        assert all(one.result(timeout_s=PATIENCE_S) for one in held)
        wait_until(lambda: running("up") == 1, lambda: deployment("up"))
        wait_until(lambda: serve.status().applications["up"].deployments["Held"].status == "HEALTHY")
        assert serve.status().applications["up"].deployments["Held"].status_trigger == "DOWNSCALE_COMPLETED"

    def test_no_call_fails_while_it_grows_and_shrinks(self, ports: Ports) -> None:
        scale = {**QUICK, "min_replicas": 1, "max_replicas": 3}
        serve.run(Slow.options(autoscaling_config=scale).bind(), name="busy", route_prefix="/busy")
        with Load(ports, "busy", "/busy", streams=False) as load:
            wait_until(lambda: running("busy") == 3, lambda: deployment("busy"))
            scale["target_ongoing_requests"] = 100
            serve.run(Slow.options(autoscaling_config=scale).bind(), name="busy", route_prefix="/busy")
            wait_until(lambda: running("busy") == 1, lambda: deployment("busy"))
            load.wait_for_more()
        assert load.errors == []

    @pytest.mark.parametrize("door", ["handle", "http", "grpc"])
    def test_to_zero_and_back_without_losing_the_call_that_wakes_it(
        self, door: str, ports: Ports, stage: Stage, channel: grpc.Channel
    ) -> None:
        handle = run("zero", stage, prefix="/zero", min_replicas=0, max_replicas=2, downscale_to_zero_delay_s=0.5)
        body = httpbody_pb2.HttpBody(content_type="application/json", data=b"[[], {}]")
        request = serving_pb2.CallRequest(target=serving_pb2.Target(application="zero"), payload=body)
        stub = serving_pb2_grpc.ServingServiceStub(channel)
        ask: Callable[[], int] = {
            "grpc": lambda: int(stub.Call(request, timeout=PATIENCE_S).payload.data),
            "handle": lambda: handle.remote().result(timeout_s=PATIENCE_S),
            "http": lambda: int(httpx.get(f"{ports.http}/zero", timeout=PATIENCE_S).raise_for_status().text),
        }[door]
        assert deployment("zero").replicas == []
        assert serve.status().applications["zero"].status == "RUNNING"
        assert httpx.get(f"{ports.http}/-/healthz").status_code == 200, "balancers must send the call that wakes it"
        first = ask()
        wait_until(lambda: not deployment("zero").replicas, lambda: deployment("zero"))
        assert ask() != first
        assert serve.status().applications["zero"].status == "RUNNING"

    def test_what_sleeps_and_cannot_start_any_more_says_so(self, stage: Stage, tmp_path: Path) -> None:
        @serve.deployment(autoscaling_config={**QUICK, "min_replicas": 0})
        class Broken:
            def __init__(self) -> None:
                raise ValueError("no weights")

            def __call__(self) -> None: ...

        handle = serve.run(Broken.bind(), name="broken", route_prefix=None)
        with pytest.raises(serve.exceptions.DeploymentUnavailableError):
            handle.remote().result(timeout_s=PATIENCE_S)
        status = serve.status().applications["broken"]
        assert status.status == "DEPLOY_FAILED"
        assert "no weights" in status.message

    def test_an_update_keeps_the_number_of_replicas(self, stage: Stage, key: str) -> None:
        handle = run("kept", stage, max_replicas=3, downscale_delay_s=600)
        held = [handle.hold.remote(key) for _ in range(2)]
        wait_until(lambda: running("kept") == 2, lambda: deployment("kept"))
        stage.open(key)
        assert all(one.result(timeout_s=PATIENCE_S) for one in held)
        run("kept", stage, max_replicas=4, downscale_delay_s=600)
        assert running("kept") == 2

    def test_a_policy_of_the_users_decides(self, stage: Stage, tmp_path: Path) -> None:
        wish = tmp_path / "wish"
        wish.write_text("2")
        policy = {"policy_function": as_the_file_says, "policy_kwargs": {"path": str(wish)}}
        run("mine", stage, max_replicas=3, policy=policy)
        wait_until(lambda: running("mine") == 2, lambda: deployment("mine"))
        wish.write_text("9")
        wait_until(lambda: running("mine") == 3, lambda: deployment("mine"))
        wish.write_text("not a number")
        wait_until(lambda: "as_the_file_says" in deployment("mine").message, lambda: deployment("mine"))
        assert running("mine") == 3
        wish.write_text("1")
        wait_until(lambda: running("mine") == 1 and not deployment("mine").message, lambda: deployment("mine"))
