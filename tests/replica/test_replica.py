"""A real process, a real Unix socket, a fake controller."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.dial import dial
from fairlead.wire.errors import ConnectionLostError, ReplicaDrainingError
from fairlead.wire.grpc_link import REPLICA_SESSION
from tests.replica.calling import Caller
from tests.replica.fake_controller import FakeController, serving

SOURCE = """
import asyncio, os, sys, threading, time
from fairlead.serve.context import get_replica_context, get_request_context

class Model:
    def __init__(self, greeting="hello", *, fail=False, gate=None):
        if gate:
            print("waiting", flush=True)
        while gate and not os.path.exists(gate):
            time.sleep(0.005)
        if fail or gate:
            raise ValueError("no weights")
        self.greeting = greeting
        self.config = None
        self.healthy = True
        print("constructed")
    def reconfigure(self, config):
        if config == "bad":
            raise KeyError("bad config")
        self.config = config
    def check_health(self):
        if not self.healthy:
            raise RuntimeError("feverish")
    def greet(self, name):
        return f"{self.greeting} {name}"
    async def info(self):
        context = get_replica_context()
        return (context.app_name, context.deployment, context.replica_id, context.servable_object is self, os.getcwd(),
                os.environ.get("COLOUR"), self.config, get_request_context().request_id,
                context.code_version, context.rank.rank, context.world_size)
    def sicken(self):
        self.healthy = False
    async def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    async def wait(self, seconds):
        await asyncio.sleep(seconds)
        return "waited"
    def exit(self):
        sys.exit(3)
    def __del__(self):
        print("destroyed", flush=True)

class Slow:
    async def __init__(self, greeting):
        await asyncio.sleep(0)
        self.greeting = greeting
    async def greet(self, name):
        return self.greeting + name

class Sick:
    def check_health(self):
        raise RuntimeError("no GPU")

def function(x):
    return x * 2
"""


class Setup:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"unix:{directory}/c.sock"
        self.socket = f"{directory}/r.sock"
        (directory / "user_code.py").write_text(SOURCE)
        self.assignment = replica_pb2.ReplicaAssignment(
            application="app",
            deployment=control_pb2.DeploymentSpec(
                name="Model",
                import_path="user_code:Model",
                settings=control_pb2.DeploymentSettings(
                    num_replicas=1,
                    max_ongoing_requests=5,
                    graceful_shutdown_timeout_s=5,
                    health_check_period_s=10,
                    health_check_timeout_s=5,
                ),
            ),
            environment=control_pb2.CodeEnvironment(
                sys_path=[str(directory)], working_directory=str(directory), variables={"COLOUR": "blue"}
            ),
            socket_path=self.socket,
        )
        self.controller = FakeController(self.assignment)
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self, *extra: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "fairlead_replica", "--controller", self.address,
            "--replica-id", "app#Model#abc", *extra, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def caller(self) -> Caller:
        return Caller(await dial(f"wire:{self.socket}", REPLICA_SESSION))


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    directory = Path(tempfile.mkdtemp(prefix="fl-r-"))
    made = Setup(directory)
    yield made
    for process in made.processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        process._transport.close()  # type: ignore[attr-defined]
    shutil.rmtree(directory)


async def test_serves_what_it_was_assigned_and_drains_on_command(setup: Setup) -> None:
    setup.assignment.deployment.settings.user_config = b'{"k": 1}'
    setup.assignment.deployment.settings.num_replicas = 3
    setup.assignment.code_version, setup.assignment.rank = "v1", 2
    setup.assignment.deployment.init_arguments = cloudpickle.dumps((("hi",), {}))
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        ready = (await setup.controller.hear("ready", "failed")).ready
        assert ready.address == f"wire:{setup.socket}"
        assert setup.controller.heard("hello")[0].pid == process.pid
        caller = await setup.caller()
        assert await caller.call("greet", "you") == "hi you"
        info = await caller.call("info")
        assert info[:5] == ("app", "Model", "app#Model#abc", True, str(setup.directory))
        assert info[5:] == ("blue", {"k": 1}, "r-1", "v1", 2, 3)
        report = (await setup.controller.hear("report")).report
        assert report.failed_health_checks == 0

        waiting = caller.open("wait", 0.2)
        await caller.call("info")
        setup.controller.command(replica_pb2.RegisterResponse(drain=replica_pb2.ReplicaDrain(timeout_s=10)))
        assert await waiting.next() == "waited"
        await setup.controller.hear("drained")
        assert await asyncio.wait_for(process.wait(), 60) == 0
        output = await process.stdout.read()  # type: ignore[union-attr]
        assert output.decode().splitlines() == ["constructed", "destroyed"]
        assert not os.path.exists(setup.socket)
        await caller.link.close()


async def test_sessions_over_grpc(setup: Setup) -> None:
    setup.assignment.socket_path = f"unix:{setup.socket}"
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        address = (await setup.controller.hear("ready", "failed")).ready.address
        assert address == f"unix:{setup.socket}"
        assert stat.S_IMODE(os.stat(setup.socket).st_mode) == 0o600
        caller = Caller(await dial(address, REPLICA_SESSION))
        assert await caller.call("greet", "you" * 100_000) == "hello " + "you" * 100_000
        waiting = caller.open("wait", 0.2)
        await caller.call("info")
        setup.controller.command(replica_pb2.RegisterResponse(drain=replica_pb2.ReplicaDrain(timeout_s=10)))
        assert await waiting.next() == "waited"
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert not os.path.exists(setup.socket)
        await caller.link.close()


@pytest.mark.parametrize(("name", "args", "method", "expected"), [
    ("Slow", ("hey ",), "greet", "hey you"),
    ("function", (), "whatever", "youyou"),
])  # fmt: skip
async def test_async_constructors_and_functions(
    setup: Setup, name: str, args: tuple[Any, ...], method: str, expected: str
) -> None:
    setup.assignment.deployment.import_path = f"user_code:{name}"
    setup.assignment.deployment.init_arguments = pickle.dumps((args, {}))
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        assert await caller.call(method, "you") == expected
        await caller.link.close()


async def test_pickled_code_runs(setup: Setup) -> None:
    class Local:
        def __init__(self, handler: Any) -> None:
            self.handler = handler

        def __call__(self, value: int) -> int:
            return int(self.handler(value))

    setup.assignment.deployment.pickled_code = cloudpickle.dumps(Local)
    setup.assignment.deployment.init_arguments = cloudpickle.dumps(((lambda value: value + 1,), {}))
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        assert await caller.call("", 1) == 2
        await caller.link.close()


@pytest.mark.parametrize(("change", "message", "line"), [
    ({"init_arguments": pickle.dumps(((), {"fail": True}))}, "ValueError: no weights", "raise ValueError("),
    ({"import_path": "user_code:Nothing"}, "AttributeError: module 'user_code' has no attribute 'Nothing'", ""),
    ({"import_path": "no_such_module:Nothing"}, "ModuleNotFoundError: No module named 'no_such_module'", ""),
])  # fmt: skip
async def test_a_failing_constructor_is_reported_with_the_users_lines(
    setup: Setup, change: dict[str, Any], message: str, line: str
) -> None:
    for field, value in change.items():
        setattr(setup.assignment.deployment, field, value)
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        failed = (await setup.controller.hear("ready", "failed")).failed
        assert failed.message == message
        assert line in failed.traceback
        assert "fairlead_replica" not in failed.traceback
        assert await asyncio.wait_for(process.wait(), 60) == 1
        said, _ = await process.communicate()
        assert message.encode() not in said, "the controller logs it"


async def test_a_failing_constructor_is_logged_where_no_controller_hears_of_it(setup: Setup) -> None:
    setup.assignment.deployment.init_arguments = pickle.dumps(((), {"gate": str(setup.directory / "gate")}))
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"waiting\n"
    (setup.directory / "gate").touch()
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert b"ValueError: no weights" in said


async def test_a_first_health_check_that_fails_is_reported_with_the_users_lines(setup: Setup) -> None:
    setup.assignment.deployment.import_path = "user_code:Sick"
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        failed = (await setup.controller.hear("ready", "failed")).failed
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert failed.message == "FairleadError: the first health check failed: RuntimeError: no GPU"
    assert 'raise RuntimeError("no GPU")' in failed.traceback
    assert "fairlead_replica" not in failed.traceback
    assert b"no GPU" not in said, "the controller logs it"


async def test_user_config_without_reconfigure_fails(setup: Setup) -> None:
    setup.assignment.deployment.import_path = "user_code:Slow"
    setup.assignment.deployment.init_arguments = pickle.dumps((("x",), {}))
    setup.assignment.deployment.settings.user_config = b"1"
    async with serving(setup.controller, setup.address):
        await setup.start()
        failed = (await setup.controller.hear("ready", "failed")).failed
        assert "user_config specified but deployment Slow missing reconfigure method" in failed.message


async def test_reconfigure(setup: Setup) -> None:
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        settings = control_pb2.DeploymentSettings()
        for config, complaint in ((b'"good"', ""), (b'"bad"', "KeyError: 'bad config'")):
            settings.CopyFrom(setup.assignment.deployment.settings)
            settings.user_config = config
            heard = len(setup.controller.heard("reconfigured"))
            command = replica_pb2.ReplicaReconfigure(settings=settings)
            setup.controller.command(replica_pb2.RegisterResponse(reconfigure=command))
            answer = (await setup.controller.hear("reconfigured", times=heard + 1)).reconfigured
            assert complaint in answer.traceback
            assert bool(complaint) == bool(answer.traceback)
        assert (await caller.call("info"))[6] == "good"
        await caller.link.close()


async def test_reports_go_on_while_a_method_spins_and_health_checks_are_told(setup: Setup) -> None:
    setup.assignment.deployment.settings.health_check_period_s = 0.1
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        reports = len(setup.controller.heard("report"))
        spinning = caller.open("spin", 3.0)
        report = (await setup.controller.hear("report", times=reports + 2)).report
        assert not spinning.ended.is_set()
        assert report.failed_health_checks == 0
        await spinning.next()
        await caller.call("sicken")
        while (report := setup.controller.heard("report")[-1]).failed_health_checks < 3:
            await setup.controller.hear("report", times=len(setup.controller.heard("report")) + 1)
        assert report.health_message == "RuntimeError: feverish"
        await caller.link.close()


async def test_sigterm_drains(setup: Setup) -> None:
    async with serving(setup.controller, setup.address):
        process = await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        waiting = caller.open("wait", 0.3)
        await caller.call("info")
        process.send_signal(signal.SIGTERM)
        assert await waiting.next() == "waited"
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await caller.link.close()


async def test_goes_on_without_its_controller_and_registers_again(setup: Setup) -> None:
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
    caller = await setup.caller()
    assert await caller.call("greet", "you") == "hello you"
    setup.controller = FakeController(setup.assignment)
    async with serving(setup.controller, setup.address):
        await setup.controller.hear("hello")
        ready = (await setup.controller.hear("ready")).ready
        assert ready.address == f"wire:{setup.socket}"
        assert await caller.call("greet", "you") == "hello you"
    await caller.link.close()


async def test_ends_when_no_controller_comes_back(setup: Setup) -> None:
    async with serving(setup.controller, setup.address):
        process = await setup.start("--controller-patience", "0.2")
        await setup.controller.hear("ready", "failed")
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_ends_with_its_owner_even_while_a_method_spins(setup: Setup) -> None:
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    async with serving(setup.controller, setup.address):
        process = await setup.start("--owner-pid", str(owner.pid))
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        spinning = caller.open("spin", 60.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.open("info").ended.wait(), 0.2)
        owner.kill()
        await owner.communicate()
        await asyncio.wait_for(process.wait(), 45)
        assert isinstance(await spinning.error(), ConnectionLostError | ReplicaDrainingError)
        assert not os.path.exists(setup.socket)
        await caller.link.close()


async def test_system_exit_of_a_method_ends_the_call_only(setup: Setup) -> None:
    async with serving(setup.controller, setup.address):
        await setup.start()
        await setup.controller.hear("ready", "failed")
        caller = await setup.caller()
        assert "SystemExit: 3" in str(await caller.error("exit"))
        assert await caller.call("greet", "you") == "hello you"
        await caller.link.close()
