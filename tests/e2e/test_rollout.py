"""Updates, frozen replicas and traffic while calls come in by every door: real processes, and no call fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.traffic import set_traffic
from fairlead.v1 import control_pb2
from tests.e2e.conftest import Ports
from tests.e2e.load import Load
from tests.e2e.rollout_app import (
    Checked,
    CheckedByInheritance,
    CheckedSynchronously,
    Flavoured,
    Front,
    Named,
    Versioned,
)
from tests.e2e.stage import PATIENCE_S, wait_until
from tests.typist import Typist

Command = Callable[..., subprocess.CompletedProcess[str]]


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

    def test_only_the_deployment_that_changed_restarts(self, ports: Ports) -> None:
        serve.run(Front.bind(Versioned.bind(1)), name="two", route_prefix="/two")
        with Load(ports, "two", "/two", streams=False) as load:
            (front,) = {answer["front"] for answer in load.seen()}
            serve.run(Front.bind(Versioned.bind(2)), name="two", route_prefix="/two")
            answers = load.seen()
        assert load.errors == []
        assert {answer["version"] for answer in answers} == {2}
        assert {answer["front"] for answer in answers} == {front}
        serve.delete("two")

    def test_another_environment_restarts_the_deployment_that_has_it(self) -> None:
        def flavoured(flavour: str) -> Any:
            options = {"runtime_env": {"env_vars": {"FLAVOUR": flavour}}}
            return serve.run(Flavoured.options(ray_actor_options=options).bind(), name="flavoured", route_prefix=None)

        assert tuple(flavoured("vanilla").remote().result()) == ("vanilla", "vanilla")
        before = pids("flavoured")
        flavoured("vanilla")
        assert pids("flavoured") == before
        assert tuple(flavoured("lemon").remote().result()) == ("lemon", "lemon")
        assert not pids("flavoured") & before
        serve.delete("flavoured")

    def test_another_application_comes_and_goes(self, load: Load) -> None:
        for version in (1, 2):
            other = serve.run(Versioned.options(num_replicas=1).bind(version), name="other", route_prefix="/other")
            assert other.remote().result()["version"] == version
            serve.delete("other")
        load.wait_for_more()

    def test_deleting_without_waiting_for_the_end(self) -> None:
        serve.run(Versioned.options(num_replicas=1).bind(1), name="leaving", route_prefix=None)
        serve.delete("leaving", _blocking=False)
        wait_until(lambda: "leaving" not in serve.status().applications, serve.status)
        serve.delete("leaving", _blocking=False)

    def test_deleting_and_deploying_again_at_any_time(self, ports: Ports) -> None:
        for version in range(1, 4):
            handle = serve.run(Versioned.options(num_replicas=1).bind(version), name="again", route_prefix=None)
            serve.delete("again", _blocking=False)
        handle = serve.run(Versioned.options(num_replicas=1).bind(9), name="again", route_prefix=None)
        assert {handle.remote().result(timeout_s=PATIENCE_S)["version"] for _ in range(10)} == {9}
        wait_until(lambda: len(deployment("again").replicas) == 1, lambda: deployment("again"))
        serve.delete("again")


class TestHealthChecks:
    @pytest.mark.parametrize("kind", [Checked, CheckedSynchronously, CheckedByInheritance])
    def test_three_failures_in_a_row_replace_a_replica(self, kind: Any, ports: Ports, tmp_path: Path) -> None:
        sick = tmp_path / "sick"
        target = kind.options(health_check_period_s=0.1).bind(str(sick))
        handle = serve.run(target, name="checked", route_prefix=None)
        pid = handle.remote().result(timeout_s=PATIENCE_S)
        sick.write_text(str(pid))
        wait_until(lambda: pid not in pids("checked") and pids("checked"), lambda: deployment("checked"))
        assert handle.remote().result(timeout_s=PATIENCE_S) != pid
        wait_until(lambda: serve.status().applications["checked"].status == "RUNNING")
        assert sick.read_text() == str(pid)
        serve.delete("checked")

    def test_the_status_says_what_the_check_said(self, ports: Ports, tmp_path: Path) -> None:
        sick = tmp_path / "sick"
        sick.write_text("all")
        with pytest.raises(RuntimeError, match="I am sick"):
            serve.run(Checked.options(max_constructor_retry_count=1).bind(str(sick)), name="sick", route_prefix=None)
        assert serve.status().applications["sick"].deployments["Checked"].status_trigger == "REPLICA_STARTUP_FAILED"
        serve.delete("sick")


class TestFrozenReplicas:
    def test_one_leaves_the_rotation_and_returns(self, ports: Ports) -> None:
        handle = serve.run(Versioned.bind(1), name="frozen", route_prefix=None)
        victim = min(pids("frozen"))
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_until(lambda: "no sign of life" in deployment("frozen").message, lambda: deployment("frozen"))
            assert serve.status().applications["frozen"].status == "UNHEALTHY"
            assert str(victim) in deployment("frozen").message
            wait_until(lambda: answers_in_time(handle))  # one call may have gone there before the gateway heard of it
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
        # It waits for the replica that takes its place; sent before the gateway has heard, it may be sent again.
        assert handle.options(idempotent=True).remote().result(timeout_s=PATIENCE_S)["pid"] != victim
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


def answers_in_time(handle: Any) -> bool:
    """Whether as many calls as there are replicas, and one more, are answered."""
    try:
        for response in [handle.options(timeout_s=5).remote() for _ in range(3)]:
            response.result()
    except TimeoutError:
        return False
    return True


def working_is_done(response: Any) -> bool:
    try:
        response.result(timeout_s=0.05)
    except TimeoutError:
        return False
    return True


@pytest.fixture
def command(typist: Typist, ports: Ports) -> Command:
    """Types a command for the module's instance."""
    environment = os.environ | {"FAIRLEAD_ADDRESS": api.controller_address()}
    return lambda *arguments: typist(*arguments, env=environment)


@pytest.fixture(scope="class")
def none_left(ports: Ports) -> Iterator[None]:
    """No applications, when the tests of the class have been run."""
    yield
    for name in list(serve.status().applications):
        serve.delete(name)


class TestTraffic:
    @pytest.fixture(autouse=True)
    def applications(self, none_left: None, tmp_path: Path) -> None:
        """Those that are there stay: nothing of them has changed. Their traffic is their own again."""
        self.copies = tmp_path / "copies"
        self.copies.touch()
        serve.run(Named.bind("stable"), name="stable", route_prefix="/named")
        serve.run(Named.bind("canary"), name="canary", route_prefix=None)
        set_traffic("stable", {})

    def answers(self, ports: Ports, count: int = 100) -> Counter[str]:
        handle = serve.get_app_handle("stable")
        with httpx.Client(timeout=PATIENCE_S) as client:
            found = [client.get(f"{ports.http}/named").text for _ in range(count // 2)]
        return Counter([*found, *(handle.remote().result(timeout_s=PATIENCE_S) for _ in range(count // 2))])

    def test_a_canary_by_the_command_line(self, ports: Ports, command: Command) -> None:
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
    def test_what_is_wrong_is_said_in_a_line(self, arguments: list[str], told: str, command: Command) -> None:
        done = command("traffic", *arguments)
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert told in line

    def test_no_call_fails_while_shares_change(self, command: Command) -> None:
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

    def test_a_shadow_gets_copies_and_nobody_hears_of_it(self, ports: Ports, command: Command) -> None:
        serve.run(Named.bind("broken", str(self.copies)), name="shadow", route_prefix=None)
        assert command("traffic", "stable", "stable=100", "--shadow", "shadow=100").returncode == 0
        assert self.answers(ports, 40) == {"stable": 40}
        wait_until(lambda: len(self.copies.read_text()) == 40, lambda: self.copies.read_text())
