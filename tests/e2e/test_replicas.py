"""Replicas as real processes: what they host, how much at once, and what becomes of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
import httpx
import orjson
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.api import RunTarget
from fairlead.serve.exceptions import DeadlineExceededError, ReplicaUnavailableError
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2
from tests.e2e import replicas_app
from tests.e2e.conftest import Ports
from tests.e2e.peers import body, failure, start
from tests.e2e.replicas_app import (
    AsyncKinds,
    Blocking,
    Failing,
    FailingAsync,
    FailsOnce,
    Leaf,
    Limited,
    Mortal,
    SyncKinds,
)
from tests.e2e.stage import Stage, wait_until

LIMIT_S = 60
OBSERVED_S = 1.5
"""How long a replica is watched that must not be given up: many times what its health checks are allowed."""


@pytest.fixture(scope="module")
def deployed(ports: Ports, stage: Stage) -> dict[str, DeploymentHandle]:
    targets = {
        "sync": SyncKinds.bind(),
        "async": AsyncKinds.bind(),
        "function": replicas_app.function.bind(),
        "afunction": replicas_app.afunction.bind(),
        "generator": replicas_app.generator_function.bind(),
        "agenerator": replicas_app.agenerator_function.bind(),
        "limited": Limited.bind(stage, Leaf.bind()),
        "blocking": Blocking.bind(stage),
        "mortal": Mortal.bind(stage),
    }
    handles = serve.run_many(
        [
            RunTarget(target=target, name=name, route_prefix="/limited" if name == "limited" else None)
            for name, target in targets.items()
        ]
    )
    return dict(zip(targets, handles, strict=True))


def result(response: Any) -> Any:
    return response.result(timeout_s=LIMIT_S)


def replica_of(app: str) -> Any:
    """What the controller tells of the one replica of an application's ingress deployment."""
    (application,) = (each for each in api.instance_status().applications if each.name == app)
    (deployment,) = (each for each in application.deployments if each.name == application.ingress_deployment)
    return deployment.replicas[0]


class TestWhatTheyHost:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_classes(self, deployed: dict[str, DeploymentHandle], kind: str) -> None:
        handle = deployed[kind]
        assert result(handle.remote()) == result(handle.constructor.remote()) == kind
        assert result(handle.named.remote()) == "named"
        assert result(handle.anamed.remote()) == result(handle.returns_coroutine.remote()) == "anamed"
        assert result(handle.static.remote()) == "static"
        assert result(handle.of_class.remote()) == f"{kind.title()}Kinds"

    @pytest.mark.parametrize(
        "method",
        [
            "generator",
            "agenerator",
            "returns_generator",
            "returns_agenerator",
            "areturns_generator",
        ],
    )
    def test_generators(self, deployed: dict[str, DeploymentHandle], method: str) -> None:
        handle = getattr(deployed["sync"].options(stream=True), method)
        for length in (0, 1, 500):
            assert list(handle.remote(length)) == list(range(length))

    def test_functions(self, deployed: dict[str, DeploymentHandle]) -> None:
        assert result(deployed["function"].remote(1)) == 2
        assert result(deployed["function"].remote()) == 2
        assert result(deployed["afunction"].remote(value=1)) == 3
        for name in ("generator", "agenerator"):
            assert list(deployed[name].options(stream=True).remote(3)) == [0, 1, 2]

    def test_synchronous_code_runs_in_threads(self, deployed: dict[str, DeploymentHandle]) -> None:
        handle = deployed["sync"]
        streaming = handle.options(stream=True)
        assert result(handle.places.remote()) == ["thread"]
        assert result(handle.aplaces.remote()) == ["loop"]
        assert list(streaming.generator_places.remote()) == ["thread"] * 2
        assert list(streaming.returned_generator_places.remote()) == ["thread"] * 2


class TestHowMuchAtOnce:
    @pytest.mark.parametrize("method", ["hold", "ahold", "hold_stream", "ahold_stream"])
    def test_max_ongoing_requests(
        self, method: str, deployed: dict[str, DeploymentHandle], stage: Stage, key: str
    ) -> None:
        handle = deployed["limited"]
        if method.endswith("stream"):
            streams = [getattr(handle.options(stream=True), method).remote(key) for _ in range(12)]
            stage.wait_for(f"began {key}", 3)
            stage.open(key)
            peaks = [peak for stream in streams for peak in stream]
        else:
            responses = [getattr(handle, method).remote(key) for _ in range(12)]
            stage.wait_for(f"began {key}", 3)
            stage.open(key)
            peaks = [result(response) for response in responses]
        assert len(peaks) == 12
        assert max(peaks) == 3
        assert stage.events().count(f"began {key}") == 12

    def test_broadcasts_count_too(self, deployed: dict[str, DeploymentHandle], stage: Stage, key: str) -> None:
        handle = deployed["limited"]
        broadcasts = [handle.broadcast("ahold", key) for _ in range(6)]
        responses = [handle.ahold.remote(key) for _ in range(6)]
        stage.wait_for(f"began {key}", 3)
        stage.open(key)
        peaks = [peak for each in broadcasts for peak in each.results(timeout_s=LIMIT_S)]
        assert max(peaks + [result(response) for response in responses]) == 3


class TestBlockedCode:
    @pytest.mark.parametrize("method", ["block_the_loop", "spin_on_the_loop", "spin"])
    def test_is_not_given_up(self, method: str, deployed: dict[str, DeploymentHandle], stage: Stage, key: str) -> None:
        handle = deployed["blocking"]
        before = replica_of("blocking")
        response = getattr(handle, method).remote(key)
        stage.wait_for(f"blocks {key}")
        until = time.monotonic() + OBSERVED_S
        while time.monotonic() < until:
            now = replica_of("blocking")
            assert (now.replica_id, now.state, now.pid) == (before.replica_id, before.state, before.pid)
            time.sleep(0.02)  # spares the machine
        stage.open(key)
        assert result(response) == before.pid

    def test_other_replicas_calls_go_on(self, deployed: dict[str, DeploymentHandle], stage: Stage, key: str) -> None:
        response = deployed["blocking"].block_the_loop.remote(key)
        stage.wait_for(f"blocks {key}")
        assert result(deployed["sync"].remote()) == "sync"
        stage.open(key)
        result(response)

    def test_what_expires_meanwhile_is_not_started(
        self, deployed: dict[str, DeploymentHandle], stage: Stage, key: str
    ) -> None:
        handle = deployed["blocking"]
        response = handle.block_the_loop.remote(key)
        stage.wait_for(f"blocks {key}")
        with pytest.raises(DeadlineExceededError):
            result(handle.options(timeout_s=0.2).note.remote(key))
        stage.open(key)
        result(response)
        result(handle.note.remote(f"{key} too"))
        assert f"began {key}" not in stage.events()


class TestConstructorsThatFail:
    @pytest.mark.parametrize(
        ("code", "how", "told"),
        [
            (Failing, "raises", r'in deeper[\s\S]*raise ValueError\("out of order"\)[\s\S]*ValueError: out of order'),
            (FailingAsync, "raises", r"ValueError: out of order"),
            (Failing, "exits", r"SystemExit: 3"),
            (Failing, "dies", r"exit status 4"),
        ],
    )
    def test_run_reports_it(self, code: type, how: str, told: str, ports: Ports, stage: Stage, key: str) -> None:
        deployment = serve.deployment(code, max_constructor_retry_count=2)
        with pytest.raises(RuntimeError, match=r"^Deploying application failing failed") as caught:
            serve.run(deployment.bind(stage, key, how), name="failing", route_prefix=None)
        assert re.search(told, str(caught.value)), caught.value
        assert stage.events().count(f"constructed {key}") == 2, "as often as it is allowed to fail"
        status = api.status().applications["failing"]
        assert status.status == "DEPLOY_FAILED"
        serve.delete("failing")

    def test_the_default_count(self, ports: Ports, stage: Stage, key: str) -> None:
        """As Ray Serve's: three times for each replica, where that is less than the setting."""
        with pytest.raises(RuntimeError, match="out of order"):
            serve.run(serve.deployment(Failing).bind(stage, key, "raises"), name="failing", route_prefix=None)
        assert stage.events().count(f"constructed {key}") == 3
        serve.delete("failing")

    def test_a_second_attempt_may_succeed(self, ports: Ports, stage: Stage, key: str) -> None:
        handle = serve.run(FailsOnce.bind(stage, key), name="second", route_prefix=None)
        assert result(handle.remote()) == "works"
        serve.delete("second")


class TestReplicasThatAreKilled:
    def test_calls_are_told_and_queued_ones_answered(
        self, deployed: dict[str, DeploymentHandle], stage: Stage, key: str
    ) -> None:
        handle = deployed["mortal"]
        pid = result(handle.pid.remote())
        running = handle.hold.remote(key)
        stage.wait_for(f"held {key}")
        queued = [handle.pid.remote() for _ in range(3)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReplicaUnavailableError) as caught:
            result(running)
        assert "mortal#Mortal#" in str(caught.value)
        assert "lost while it had the call; not sent again, because it may have started" in str(caught.value)
        pids = {result(response) for response in queued}
        assert len(pids) == 1
        assert pid not in pids
        wait_until(lambda: api.status().applications["mortal"].status == "RUNNING", api.status)

    def test_streams_are_told(self, deployed: dict[str, DeploymentHandle], stage: Stage, key: str) -> None:
        handle = deployed["mortal"]
        pid = result(handle.pid.remote())
        stream = handle.options(stream=True, idempotent=True).hold_stream.remote(key)
        assert next(stream) == 1
        stage.wait_for(f"held {key}")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReplicaUnavailableError, match="part of the answer had been sent"):
            next(stream)
        assert result(handle.pid.remote()) != pid

    def test_grpc_and_http_say_unavailable(
        self, deployed: dict[str, DeploymentHandle], channel: grpc.Channel, stage: Stage, key: str
    ) -> None:
        pid = result(deployed["mortal"].pid.remote())
        target = serving_pb2.Target(application="mortal", method="hold")
        call = start(channel, "Call", target, body(key))
        stage.wait_for(f"held {key}")
        os.kill(pid, signal.SIGKILL)
        code, message, info = failure(call)
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_LOST")
        assert "lost while it had the call" in message
        assert ".sock" not in message
        assert ".wire" not in message


class TestRequestIds:
    def test_of_handles(self, deployed: dict[str, DeploymentHandle]) -> None:
        handle = deployed["limited"]
        for method, count in (("ids", 5), ("sync_ids", 2)):
            response = getattr(handle, method).remote()
            assert result(response) == [response.request_id] * count
        for method in ("stream_ids", "astream_ids"):
            stream = getattr(handle.options(stream=True), method).remote()
            assert list(stream) == [stream.request_id] * 2

    @pytest.mark.parametrize("by", ["field", "metadata", "nobody"])
    def test_of_grpc(self, by: str, deployed: object, channel: grpc.Channel) -> None:
        target = serving_pb2.Target(application="limited", method="ids", request_id="mine" if by == "field" else "")
        metadata = (("x-request-id", "mine"),) if by == "metadata" else ()
        call = start(channel, "Call", target, body(), metadata=metadata)
        (answer,) = call
        seen = orjson.loads(answer.payload.data)
        echoed = dict(call.trailing_metadata())["x-request-id"]
        assert seen == [echoed] * 5
        assert echoed == "mine" if by != "nobody" else len(echoed) >= 16

    def test_of_http(self, deployed: object, ports: Ports) -> None:
        answer = httpx.get(f"{ports.http}/limited", headers={"x-request-id": "mine"})
        assert (answer.json(), answer.headers["x-request-id"]) == (["mine"] * 5, "mine")
        answer = httpx.get(f"{ports.http}/limited")
        assert answer.json() == [answer.headers["x-request-id"]] * 5


def test_output_reaches_the_log_with_the_replicas_name(state_directory: object) -> None:
    """The controller writes its log to the standard error of the program that started it."""
    program = """
import sys
from fairlead import serve

@serve.deployment
class Chatty:
    def __init__(self):
        print("from the constructor")

    def __call__(self):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        print("without an end", end="")
        raise ValueError("for the caller only")

serve.start(proxy_location="Disabled")
handle = serve.run(Chatty.bind(), name="app", route_prefix=None)
print(serve.get_deployment_handle("Chatty", "app").broadcast("nothing").results(return_exceptions=True)[0])
try:
    handle.remote().result()
except ValueError:
    pass
serve.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    for said in ("from the constructor", "to stdout", "to stderr", "without an end"):
        (line,) = (line for line in lines if line.endswith(said))
        assert line.startswith("(app#Chatty#"), line
    assert "for the caller only" not in done.stderr
