"""Existing web servers in front of a standing instance, by the examples: programs that call it through handles.

Row C27 of the classic pages. ``deploy.py`` starts the instance, deploys and exits. Then servers are started that know
nothing but handles' names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "web_servers"
AIOHTTP = "aiohttp_app:app --worker-class aiohttp.GunicornWebWorker --workers 2 --no-control-socket"
FASTAPI = "fastapi_app:app --worker-class asgi --workers 2 --no-control-socket"
PATIENCE_S = 60
ANSWER = "Model received data: dummy input"


class Instance:
    """What ``deploy.py`` leaves behind."""

    def __init__(self, state: Path) -> None:
        self.state = state
        given = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLEAD_")}
        self.environment = {**given, "FAIRLEAD_STATE_DIR": str(state), "COLUMNS": "200", "NO_COLOR": "1"}

    def run(self, *command: str) -> str:
        """What a program prints that ends well."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def deploy(self) -> str:
        return self.run(sys.executable, str(EXAMPLES / "deploy.py"))

    def processes(self) -> list[psutil.Process]:
        """Controller, gateway worker and replicas: who works in the state directory."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and str(self.state) in " ".join(process.info["cmdline"] or ())
        ]

    @contextmanager
    def server(self, *command: str, says: str) -> Iterator[str]:
        """A web server while it runs: the base URL that it says it listens at, by a pattern of host and port."""
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                command, cwd=EXAMPLES, env=self.environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )

            def said() -> str:
                return os.pread(log.fileno(), 1 << 20, 0).decode()

            try:
                wait_until(lambda: re.search(says, said()) is not None or process.poll() is not None, said)
                found = re.search(says, said())
                assert found is not None, said()
                yield f"http://127.0.0.1:{found[1]}"
                assert process.poll() is None, said()
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)
            assert "Traceback" not in said(), said()


def wait_until(true: Callable[[], bool], what: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_at, what()
        time.sleep(0.05)


def script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def get(url: str, **query: str) -> httpx.Response:
    """On a connection of its own, as each client has one."""
    answer = httpx.get(url, params=query, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    state = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    one = Instance(state)
    try:
        assert one.deploy() == "deployed\n"
        yield one
    finally:
        subprocess.run(
            [script("fairlead"), "shutdown", "--yes"], env=one.environment, capture_output=True, timeout=PATIENCE_S
        )
        try:
            wait_until(lambda: one.processes() == [], one.processes)
        finally:
            for process in one.processes():
                process.kill()
            shutil.rmtree(state)


def test_the_instance_outlives_the_program_that_deployed(instance: Instance) -> None:
    """Two replicas of each model; another program gets a handle by name, and the state of what runs."""
    roles = [" ".join(process.cmdline()) for process in instance.processes()]
    assert sum("-m fairlead_replica" in role for role in roles) == 4
    program = (
        "import fairlead as ray\n"
        "from fairlead import serve\n"
        "print(ray.get(serve.get_handle('my_endpoint').remote('dummy input')))\n"
        "print(serve.get_app_handle('generator').remote('Hello').result())\n"
    )
    classic, modern = instance.run(sys.executable, "-c", program).splitlines()
    assert classic == ANSWER
    assert modern.startswith("[{'generated_text': 'hello ")


def test_no_port_is_open(instance: Instance) -> None:
    for process in instance.processes():
        assert [each.laddr for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN] == []


def test_deploying_again_changes_nothing(instance: Instance) -> None:
    before = {process.pid for process in instance.processes()}
    assert instance.deploy() == "deployed\n"
    assert {process.pid for process in instance.processes()} == before


@pytest.mark.parametrize("preload", ["", " --preload"])
def test_c27_aiohttp_under_gunicorn(preload: str, instance: Instance) -> None:
    """With ``--preload``, handles are made before the workers are forked."""
    command = [script("gunicorn"), *(AIOHTTP + preload).split(), "--bind", "127.0.0.1:0"]
    with instance.server(*command, says=r"Listening at: http://127\.0\.0\.1:(\d+)") as url:
        check_two_workers(url)


def test_c27_fastapi_under_gunicorn(instance: Instance) -> None:
    command = [script("gunicorn"), *FASTAPI.split(), "--bind", "127.0.0.1:0"]
    with instance.server(*command, says=r"Listening at: http://127\.0\.0\.1:(\d+)") as url:
        check_two_workers(url)


def check_two_workers(url: str) -> None:
    workers: set[str] = set()

    def both_answer() -> bool:
        answer = get(f"{url}/dummy-model")
        assert answer.text == ANSWER
        workers.add(answer.headers["X-Worker"])
        return len(workers) == 2

    wait_until(both_answer, lambda: workers)
    (generated,) = get(f"{url}/generate", query="Hello friend, how").json()
    assert generated["generated_text"].startswith("hello friend , how ")


def test_c27_fastapi_under_uvicorn(instance: Instance) -> None:
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", "0"]
    with instance.server(*command, says=r"running on http://127\.0\.0\.1:(\d+)") as url:
        assert get(f"{url}/dummy-model").text == ANSWER


def test_c27_a_server_of_the_standard_library(instance: Instance) -> None:
    with instance.server(sys.executable, "plain_server.py", "0", says=r"listening on port (\d+)") as url:
        assert [get(url).text for _ in range(5)] == [ANSWER] * 5


FORKS = """
import os, sys, signal
import fairlead as ray
from fairlead import serve

handle, generator = serve.get_handle("my_endpoint"), serve.get_app_handle("generator")
if "used" in sys.argv:
    ray.get(handle.remote("before"))
children = []
for number in range(4):
    if (child := os.fork()) == 0:
        signal.alarm(60)
        assert ray.get(handle.remote("after")) == "Model received data: after"
        assert generator.remote("hello").result()
        assert ray.get(serve.get_handle("my_endpoint").remote("new")) == "Model received data: new"
        assert serve.status().applications["generator"].status == "RUNNING"
        sys.exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children], ray.get(handle.remote("parent")))
"""


@pytest.mark.parametrize("used", ["", "used"])
def test_handles_work_after_forks(used: str, instance: Instance) -> None:
    """Those of before in calls, and all else that a program may ask: in each child, and in the parent."""
    assert instance.run(sys.executable, "-c", FORKS, used) == "[0, 0, 0, 0] Model received data: parent\n"
