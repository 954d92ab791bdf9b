"""Updates, frozen replicas and traffic while calls come in by every door: real processes, and no call fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2

from fairlead import serve
from fairlead.serve import api
from fairlead.v1 import control_pb2, serving_pb2, serving_pb2_grpc
from tests.e2e.conftest import Ports
from tests.e2e.rollout_app import Named, Versioned
from tests.e2e.stage import PATIENCE_S, wait_until

PROGRAM = str(Path(sys.executable).parent / "fairlead")


class Load:
    """Callers at three doors that never pause. A context manager: leaving it stops them, and says what went wrong."""

    def __init__(self, ports: Ports, name: str = "default") -> None:
        self.answers: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._stopping = False
        self._channel = grpc.insecure_channel(ports.grpc)
        self._stub = serving_pb2_grpc.ServingServiceStub(self._channel)
        self._client = httpx.Client(base_url=ports.http, timeout=PATIENCE_S)
        self._handle = serve.get_app_handle(name)
        self._target = serving_pb2.Target(application=name)
        doors: list[Callable[[], Any]] = [self._by_handle, self._by_grpc, self._by_http, self._by_stream]
        self._threads = [threading.Thread(target=self._call, args=(door,)) for door in doors]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join()
        self._channel.close()
        self._client.close()

    def _by_handle(self) -> Any:
        return self._handle.remote().result(timeout_s=PATIENCE_S)

    def _by_grpc(self) -> Any:
        body = httpbody_pb2.HttpBody(content_type="application/json", data=b"[[], {}]")
        request = serving_pb2.CallRequest(target=self._target, payload=body)
        return json.loads(self._stub.Call(request, timeout=PATIENCE_S).payload.data)

    def _by_http(self) -> Any:
        return self._client.get("/").raise_for_status().json()

    def _by_stream(self) -> Any:
        assert list(self._handle.options(stream=True).steps.remote()) == [0, 1, 2]
        return None

    def _call(self, door: Callable[[], Any]) -> None:
        while not self._stopping:
            try:
                answer = door()
            except Exception as error:
                self.errors.append(f"{door.__name__}: {error!r}")
            else:
                if answer is not None:
                    self.answers.append(answer)

    def wait_for_more(self, count: int = 60) -> None:
        """Blocks until further calls were answered."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) >= before + count, lambda: self.errors)

    def seen(self, count: int = 60) -> list[dict[str, Any]]:
        """The next answers."""
        before = len(self.answers)
        self.wait_for_more(count)
        return self.answers[before:]


@pytest.fixture
def load(ports: Ports) -> Iterator[Load]:
    serve.run(Versioned.bind(1))
    with Load(ports) as load:
        yield load
    assert load.errors == []
    serve.delete("default")


def deployment(name: str = "default") -> control_pb2.DeploymentStatus:
    (found,) = (each for each in api.instance_status().applications if each.name == name)
    return found.deployments[0]


def pids(name: str = "default") -> set[int]:
    return {one.pid for one in deployment(name).replicas if one.state == control_pb2.REPLICA_STATE_RUNNING}


class TestUpdates:
    def test_code_settings_and_numbers_change_without_a_failed_call(self, load: Load) -> None:
        before = pids()
        serve.run(Versioned.options(user_config={"a": 1}).bind(1))
        assert pids() == before, "reconfigured in place"
        assert all(answer["config"] == {"a": 1} for answer in load.seen())
        serve.run(Versioned.options(user_config={"a": 1}, num_replicas=4).bind(1))
        assert pids() > before
        serve.run(Versioned.options(user_config={"a": 1}, num_replicas=4, max_surge_percent=50).bind(2))
        assert not pids() & before
        assert {answer["version"] for answer in load.seen()} == {2}
        serve.run(Versioned.options(user_config={"a": 1}, num_replicas=1, max_queued_requests=500).bind(2))
        wait_until(lambda: len(deployment().replicas) == 1, lambda: deployment())
        load.wait_for_more()

    def test_what_is_bad_leaves_what_was_good(self, load: Load) -> None:
        before = pids()
        with pytest.raises(RuntimeError, match="a bad release"):
            serve.run(Versioned.options(max_constructor_retry_count=1).bind(-1))
        assert serve.status().applications["default"].status == "DEPLOY_FAILED"
        assert {answer["version"] for answer in load.seen()} == {1}
        assert pids() == before
        with pytest.raises(RuntimeError, match="a bad configuration"):
            serve.run(Versioned.options(user_config={"fail": 1}).bind(1))
        load.wait_for_more()
        serve.run(Versioned.bind(3))
        assert {answer["version"] for answer in load.seen()} == {3}

    def test_another_application_comes_and_goes(self, load: Load) -> None:
        for version in (1, 2):
            other = serve.run(Versioned.options(num_replicas=1).bind(version), name="other", route_prefix="/other")
            assert other.remote().result()["version"] == version
            serve.delete("other")
        load.wait_for_more()


class TestFrozenReplicas:
    def test_one_leaves_the_rotation_and_returns(self, ports: Ports) -> None:
        handle = serve.run(Versioned.bind(1), name="frozen", route_prefix=None)
        victim = min(pids("frozen"))
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_until(lambda: "no sign of life" in deployment("frozen").message, lambda: deployment("frozen"))
            assert serve.status().applications["frozen"].status == "UNHEALTHY"
            assert str(victim) in deployment("frozen").message
            answers = [handle.remote().result(timeout_s=PATIENCE_S) for _ in range(20)]
            assert victim not in {answer["pid"] for answer in answers}
        finally:
            os.kill(victim, signal.SIGCONT)
        wait_until(lambda: serve.status().applications["frozen"].status == "RUNNING", lambda: deployment("frozen"))
        assert victim in pids("frozen")
        wait_until(lambda: handle.remote().result(timeout_s=PATIENCE_S)["pid"] == victim)
        serve.delete("frozen")

    def test_one_that_stays_frozen_is_replaced(self, ports: Ports) -> None:
        handle = serve.run(
            Versioned.options(num_replicas=1, health_check_timeout_s=1).bind(1), name="frozen", route_prefix=None
        )
        (victim,) = pids("frozen")
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: "no sign of life" in deployment("frozen").message, lambda: deployment("frozen"))
        # It waits for the replica that takes its place.
        assert handle.remote().result(timeout_s=PATIENCE_S)["pid"] != victim
        serve.delete("frozen")

    @pytest.mark.parametrize(("method", "argument"), [("spin", 4.0), ("hold_the_lock", 150_000_000)])
    def test_one_that_works_hard_is_left_alone(self, method: str, argument: float, ports: Ports) -> None:
        handle = serve.run(Versioned.options(num_replicas=1).bind(1), name="busy", route_prefix=None)
        working = getattr(handle, method).remote(argument)
        seen = set()
        while not working_is_done(working):
            seen.add(serve.status().applications["busy"].status.value)
        assert seen == {"RUNNING"}
        assert {working.result()} == pids("busy")
        serve.delete("busy")


def working_is_done(response: Any) -> bool:
    try:
        response.result(timeout_s=0.05)
    except TimeoutError:
        return False
    return True


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)


class TestTraffic:
    @pytest.fixture(autouse=True)
    def applications(self, ports: Ports, tmp_path: Path) -> Iterator[None]:
        self.copies = tmp_path / "copies"
        self.copies.touch()
        serve.run(Named.bind("stable"), name="stable", route_prefix="/named")
        serve.run(Named.bind("canary"), name="canary", route_prefix=None)
        yield
        for name in list(serve.status().applications):
            serve.delete(name)

    def answers(self, ports: Ports, count: int = 100) -> Counter[str]:
        handle = serve.get_app_handle("stable")
        with httpx.Client(timeout=PATIENCE_S) as client:
            found = [client.get(f"{ports.http}/named").text for _ in range(count // 2)]
        return Counter([*found, *(handle.remote().result(timeout_s=PATIENCE_S) for _ in range(count // 2))])

    def test_a_canary_by_the_command_line(self, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAIRLEAD_ADDRESS", api.address())
        assert self.answers(ports) == {"stable": 100}
        done = command("traffic", "stable", "stable=80", "canary=20")
        assert done.returncode == 0, done.stderr
        assert 2 <= self.answers(ports, 200)["canary"] <= 90
        shown = command("traffic", "stable", "--json")
        assert json.loads(shown.stdout) == {"Named": {"backends": {"stable": 0.8, "canary": 0.2}, "shadows": {}}}
        assert command("traffic", "stable", "canary=100").returncode == 0
        assert self.answers(ports) == {"canary": 100}
        assert command("traffic", "stable", "--clear").returncode == 0
        assert self.answers(ports) == {"stable": 100}

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["stable", "stable=80", "canary=10"], "must sum up to 100, not 90"),
            (["stable", "stable"], "not TARGET=PERCENT"),
            (["stable", "canry=100"], "did you mean 'canary'?"),
            (["stabel"], "did you mean 'stable'?"),
            (["stable", "canary/Nobody=100"], "no deployment 'Nobody'"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(
        self, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_ADDRESS", api.address())
        done = command("traffic", *arguments)
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert told in line

    def test_no_call_fails_while_shares_change(self, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAIRLEAD_ADDRESS", api.address())
        found: list[str] = []
        stopping = threading.Event()
        handle = serve.get_app_handle("stable")

        def call() -> None:
            while not stopping.is_set():
                try:
                    found.append(handle.remote().result(timeout_s=PATIENCE_S))
                except Exception as error:
                    found.append(repr(error))

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for canary in (0, 50, 100, 10):
            assert command("traffic", "stable", f"stable={100 - canary}", f"canary={canary}").returncode == 0
        serve.delete("canary")
        before = len(found)
        wait_until(lambda: len(found) > before + 50)
        stopping.set()
        for thread in threads:
            thread.join()
        assert set(found) == {"stable", "canary"}

    def test_a_shadow_gets_copies_and_nobody_hears_of_it(self, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAIRLEAD_ADDRESS", api.address())
        serve.run(Named.bind("broken", str(self.copies)), name="shadow", route_prefix=None)
        assert command("traffic", "stable", "stable=100", "--shadow", "shadow=100").returncode == 0
        assert self.answers(ports, 40) == {"stable": 40}
        wait_until(lambda: len(self.copies.read_text()) == 40, lambda: self.copies.read_text())
