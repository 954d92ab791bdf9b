"""From the first process to the last: an instance starts, changes, and ends with the program that it belongs to."""

from __future__ import annotations

import os
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fairlead
from fairlead import serve
from fairlead.serve import api
from fairlead.serve.exceptions import ApplicationNotFoundError, DeploymentUnavailableError, RayServeException
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2
from tests.e2e.lifecycle_app import Echo, Held
from tests.e2e.peers import body, failure, start
from tests.e2e.stage import Stage, wait_until
from tests.typist import Typist

LIMIT_S = 60
ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "fairlead")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory; nothing may be left in it, and nobody who works there."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as name:
        yield Path(name)
        wait_until(lambda: not processes(Path(name)), lambda: processes(Path(name)))
        assert left_in(Path(name)) == []


@pytest.fixture
def environment(state: Path) -> dict[str, str]:
    cleared = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_ADDRESS"}
    return {**cleared, "FAIRLEAD_STATE_DIR": str(state), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def mine(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state directory of an instance of this process's, which is shut down at the end."""
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(state))
    monkeypatch.delenv("FAIRLEAD_ADDRESS", raising=False)
    yield state
    serve.shutdown()


def processes(state: Path) -> list[list[str]]:
    """The command lines of all processes that work in a state directory."""
    return [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(state) in " ".join(process.info["cmdline"] or ())
    ]


def left_in(state: Path) -> list[str]:
    return [str(path) for path in state.rglob("*") if path.is_dir() or stat.S_ISSOCK(path.lstat().st_mode)]


def result(response: Any) -> Any:
    return response.result(timeout_s=LIMIT_S)


DRIVER = """
import os, signal, sys, threading
from fairlead import serve
from fairlead.v1 import serving_pb2
from tests.e2e.lifecycle_app import Echo

serve.start(http_options={"port": 0}, grpc_options={"port": 0})
handle = serve.run(Echo.bind())
pending = handle.spin.remote()
print(handle.pid.remote().result(), handle.leave_a_child.remote().result(), flush=True)
"""

ENDINGS: dict[str, tuple[str, int]] = {
    "the last line": ("", 0),
    "an exception": ("raise ValueError('the end')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(4)", 4),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "an exit from a thread": ("threading.Thread(target=os._exit, args=(5,)).start(); threading.Event().wait()", 5),
    "serve.shutdown": ("pending.cancel(); serve.shutdown()", 0),
}


class TestDriversThatEnd:
    """One of their replicas spins for ever, and has started a process that never ends."""

    @pytest.mark.parametrize("how", ENDINGS)
    def test_nothing_is_left(self, how: str, state: Path, environment: dict[str, str]) -> None:
        lines, status = ENDINGS[how]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER + lines],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        replica, child = map(int, done.stdout.split())
        wait_until(lambda: not psutil.pid_exists(replica), lambda: processes(state))
        wait_until(lambda: not psutil.pid_exists(child), lambda: "the replica's child")
        if how == "an exception":
            assert "ValueError: the end" in done.stderr

    def test_one_that_ends_while_it_starts(self, state: Path, environment: dict[str, str]) -> None:
        program = (
            "from fairlead.serve.instance_in_use import current\nimport os\ncurrent.found_or_started()\nos._exit(0)"
        )
        subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=True)


def handle_serves(handle: DeploymentHandle[Any]) -> bool:
    """Whether a new call is answered."""
    try:
        handle.options(timeout_s=0.5).remote().result()
    except (RayServeException, TimeoutError):
        return False
    return True


class TestOneProcess:
    def test_shutdown_then_run_again(self, mine: Path) -> None:
        serve.start(proxy_location="Disabled")
        before = serve.run(Echo.bind(1), route_prefix=None)
        assert result(before.remote()) == "version 1"
        serve.shutdown()
        assert left_in(mine) == []
        assert processes(mine) == []
        assert serve.status().applications == {}
        with pytest.raises(RayServeException, match=r"serve\.run"):
            result(before.remote())
        with pytest.raises(RayServeException, match=r"serve\.run"):
            serve.get_app_handle("default")
        serve.shutdown()
        serve.start(proxy_location="Disabled")
        after = serve.run(Echo.bind(2), route_prefix=None)
        assert result(after.remote()) == "version 2"
        assert result(before.remote()) == "version 2", "handles name what they call"

    def test_shutdown_lets_the_calls_of_this_program_finish_and_says_so(
        self, mine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage = Stage(tmp_path)
        serve.start(proxy_location="Disabled")
        handle = serve.run(Held.bind(stage), route_prefix=None)
        under_way = handle.hold.remote("last")
        stage.wait_for("held last")
        ending = threading.Thread(target=serve.shutdown)
        ending.start()
        wait_until(lambda: not handle_serves(handle), lambda: "the application serves on")
        wait_until(lambda: "Waiting for what still runs" in caplog.text, lambda: caplog.text)
        stage.open("last")
        assert result(under_way) == "last"
        ending.join(LIMIT_S)
        assert not ending.is_alive()

    def test_applications_come_and_go(self, mine: Path) -> None:
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        url = f"http://{api.instance_status().gateways[0].http_address}"
        one = serve.run(Echo.bind(1), name="one", route_prefix="/one")
        two = serve.run(Echo.bind(2), name="two", route_prefix="/two")
        assert [result(handle.remote()) for handle in (one, two)] == ["version 1", "version 2"]
        assert httpx.get(f"{url}/-/routes").json() == {"/one": "one", "/two": "two"}
        assert [httpx.get(f"{url}/{name}").text for name in ("one", "two")] == ["version 1", "version 2"]
        pid = result(two.pid.remote())
        serve.delete("one")
        serve.delete("one")
        serve.delete("never there")
        with pytest.raises((ApplicationNotFoundError, DeploymentUnavailableError)):
            result(one.remote())
        assert httpx.get(f"{url}/one").status_code == 404
        assert result(two.pid.remote()) == pid
        assert list(serve.status().applications) == ["two"]
        again = serve.run(Echo.bind(3), name="one", route_prefix="/one")
        assert result(again.remote()) == result(one.remote()) == httpx.get(f"{url}/one").text == "version 3"
        serve.run(Echo.bind(4), name="one", route_prefix="/elsewhere")
        assert httpx.get(f"{url}/elsewhere").text == "version 4"
        assert httpx.get(f"{url}/one").status_code == 404
        with pytest.raises((ValueError, RuntimeError, RayServeException), match="/two"):
            serve.run(Echo.bind(), name="three", route_prefix="/two")
        assert httpx.get(f"{url}/two").text == "version 2"

    @pytest.mark.parametrize("door", ["http", "grpc"])
    def test_a_port_that_is_taken(self, door: str, mine: Path) -> None:
        other = "grpc" if door == "http" else "http"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(RuntimeError, match=rf"127\.0\.0\.1:{port}.*[Aa]ddress already in use") as refused:
                serve.start(**{f"{door}_options": {"port": port}, f"{other}_options": {"port": 0}})
            assert isinstance(refused.value, ValueError)  # as in classic Ray Serve
            wait_until(lambda: not processes(mine), lambda: processes(mine))

    def test_the_default_ports_of_run(self, mine: Path) -> None:
        """Whoever holds them: ``serve.run`` says which port it is, and what to do about it."""
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", 8000))
                taken.listen()
            except OSError:
                pass  # somebody holds it already, which does as well
            with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:8000"):
                serve.run(Echo.bind())
            serve.shutdown()
            assert serve.status().applications == {}

    def test_draining(self, mine: Path, tmp_path: Path) -> None:
        """What is under way ends well; health turns to NOT_SERVING, at once and on every door."""
        stage = Stage(tmp_path)
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        (gateway,) = api.instance_status().gateways
        serve.run(Held.bind(stage), name="held", route_prefix="/")
        with grpc.insecure_channel(gateway.grpc_address) as channel:
            held = start(channel, "Call", serving_pb2.Target(application="held", method="hold"), body("k"))
            stage.wait_for("held k")
            health = health_pb2_grpc.HealthStub(channel)
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "held")]
            assert [next(watch).status for watch in watches] == [health_pb2.HealthCheckResponse.SERVING] * 2
            ending = threading.Thread(target=serve.shutdown)
            ending.start()
            assert [next(watch).status for watch in watches] == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2
            for watch in watches:
                watch.cancel()
            assert httpx.get(f"http://{gateway.http_address}/-/healthz").status_code == 503
            assert httpx.get(f"http://{gateway.http_address}/").status_code in (404, 503)
            refused = start(channel, "Call", serving_pb2.Target(application="held"), body())
            assert failure(refused)[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
            stage.open("k")
            (answer,) = held
            assert answer.payload.data == b'"k"'
        ending.join(LIMIT_S)
        assert not ending.is_alive()
        stage.wait_for("destroyed")


BASE = ("grpc", "google", "cloudpickle", "orjson", "ormsgpack", "typing_extensions.py")


class TestTheBaseInstall:
    """Without the extra [serve]: nothing but the client's own dependencies can be imported."""

    @pytest.fixture
    def run(self, tmp_path: Path, environment: dict[str, str]) -> Callable[[str], subprocess.CompletedProcess[str]]:
        packages = Path(site.getsitepackages()[0])
        for name in BASE:
            if (packages / name).exists():
                (tmp_path / name).symlink_to(packages / name)
        (tmp_path / "fairlead").symlink_to(ROOT / "client" / "fairlead")

        def run(program: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-S", "-c", program],
                env={**environment, "PYTHONPATH": str(tmp_path)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        return run

    def test_serving_says_what_is_missing(self, run: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
        done = run(
            "from fairlead import serve\n"
            "@serve.deployment\n"
            "class A: pass\n"
            "try: serve.run(A.bind())\n"
            "except serve.exceptions.RayServeException as error: print(error)\n"
        )
        assert done.returncode == 0, done.stderr
        assert "pip install 'fairlead[serve]'" in done.stdout
        assert "uvicorn" in done.stdout

    def test_the_command_line_says_so_too(self, run: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
        done = run("from fairlead.cli.main import main; main()")
        assert done.returncode == 1
        assert done.stderr == "fairlead: the command line needs the extra [serve]: pip install 'fairlead[serve]'\n"

    def test_handles_work(self, mine: Path, run: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
        serve.start(http_options={"host": None}, grpc_options={"port": 0})
        serve.run(Echo.bind(7), route_prefix=None)
        address = api.instance_status().gateways[0].grpc_address
        done = run(
            "import os\n"
            f"os.environ['FAIRLEAD_ADDRESS'] = {address!r}\n"
            "from fairlead import serve\n"
            "handle = serve.get_app_handle('default').options(\n"
            "    request_serialization='orjson', response_serialization='orjson')\n"
            "print(handle.remote().result(timeout_s=30))\n"
        )
        assert (done.stdout, done.stderr) == ("version 7\n", "")


class TestTheCommand:
    @pytest.fixture
    def command(self, environment: dict[str, str], typist: Typist) -> Callable[..., subprocess.CompletedProcess[str]]:
        return lambda *arguments: typist(*arguments, env=environment)

    def test_version(self, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        done = command("version")
        assert (done.stdout, done.stderr, done.returncode) == (f"{fairlead.__version__}\n", "", 0)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["tests.e2e.lifecycle_app"], "write package.module:application"),
            (["tests.e2e.no_such:app"], "no module 'tests.e2e.no_such'"),
            (["tests.e2e.lifecycle_app:ap"], "has no 'ap'. Did you mean 'app'?"),
            (["tests.e2e.lifecycle_app:Echo"], "bind"),
            (["tests.e2e.lifecycle_app:app", "--route-prefix", "no-slash"], "route_prefix"),
        ],
    )
    def test_what_a_user_can_mend_is_one_line(
        self, arguments: list[str], told: str, command: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        done = command("run", "--grpc-port", "0", *arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert lines[-1].startswith("fairlead: ")
        assert told in lines[-1]
        assert len(lines) == 1, done.stderr

    @pytest.mark.parametrize(
        ("host", "told"), [(("0.0.0.0",), "--insecure"), (("192.0.2.1", "--insecure"), "192.0.2.1:8000")]
    )
    def test_ports_that_are_not_to_be_had(
        self, host: tuple[str, ...], told: str, command: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        done = command("run", "tests.e2e.lifecycle_app:app", "--grpc-port", "0", "--http-host", *host)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("fairlead: Starting Fairlead failed: ")
        assert told in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr

    def test_unknown_commands_and_options(self, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        for arguments in (("no-such-command",), ("run", "a:b", "--no-such-option"), ("run",)):
            done = command(*arguments)
            assert done.returncode == 2
            (line,) = done.stderr.splitlines()
            assert line.startswith("fairlead: ")
            assert "--help` says more" in line

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_run(self, number: int, environment: dict[str, str]) -> None:
        target = "tests.e2e.lifecycle_app:build"
        process = subprocess.Popen(
            [COMMAND, "run", target, "version=9", "--http-port", "0", "--grpc-port", "0"],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr as printed:
            said = ""
            while "gRPC " not in said:
                line = printed.readline()
                assert line, said
                said += line
            (url,) = (word for word in said.split() if word.startswith("http://"))
            assert httpx.get(url).text == "version 9"
            process.send_signal(number)
            rest = printed.read()
        assert process.wait(LIMIT_S) in (0, 130, -number)
        assert "Traceback" not in rest


def test_handles_are_of_one_class(mine: Path) -> None:
    serve.start(proxy_location="Disabled")
    assert type(serve.run(Echo.bind(), route_prefix=None)) is DeploymentHandle
