"""How instances that belong to a driver end: with it, however it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from fairlead.serve import instance
from fairlead.serve.instance import Instance
from fairlead.wire.errors import FairleadError

DRIVER = """
import os, sys, time
from fairlead.serve import api, instance_in_use, lifecycle
from fairlead.serve.deployment import deployment

@deployment
class Echo:
    def __call__(self, value):
        return value

def wait_for_end(instance, inner=lifecycle._wait_for_end):
    print("waits", flush=True)
    inner(instance)

lifecycle._wait_for_end = wait_for_end
api.start(http_options={"port": 0}, grpc_options={"port": 0})
handle = api.run(Echo.bind())
assert handle.remote(1).result() == 1
print("up", flush=True)
"""


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Driver:
    """A program that has started an instance, and the processes of that."""

    def __init__(self, state: Path, then: str):
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER + textwrap.dedent(then)],
            env={**os.environ, "FAIRLEAD_STATE_DIR": str(state)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "up\n"
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def named(self, module):
        return next(child for child in self.children if module in child.cmdline())

    def gone(self):
        """Whether all of the instance's processes end, within a while."""
        return psutil.wait_procs(self.children, timeout=60)[1] == []

    def until_it_waits(self):
        """Returns when its main thread is in a blocking wait, where signals are for the library."""
        assert self.process.stdout.readline() == "waits\n"

    def left(self):
        """What is left of the directory, after a while for it to go."""
        deadline = time.monotonic() + 60
        while (left := list(self.state.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left


@pytest.fixture
def driver(tmp_path):
    drivers = []

    def start(then="input()"):
        drivers.append(Driver(tmp_path / "s", then))
        return drivers[-1]

    yield start
    for one in drivers:
        one.process.kill()
        one.process.communicate()


def test_a_driver_that_ends_takes_its_instance_along(driver):
    one = driver()
    assert len(one.children) == 3
    one.process.communicate("\n", timeout=60)
    assert one.process.returncode == 0
    assert one.gone()
    assert one.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_takes_its_instance_along(driver, number):
    one = driver()
    one.process.send_signal(number)
    one.process.wait(60)
    assert one.gone()
    assert one.left() == []


def test_gateway_and_replicas_end_with_the_driver_when_the_controller_was_killed(driver):
    one = driver()
    one.named("fairlead_gateway.control").kill()
    one.process.kill()
    assert one.gone()


def test_what_two_kills_left_is_removed_by_the_next_instance(driver):
    one = driver()
    one.named("fairlead_gateway.control").kill()
    one.process.kill()
    one.process.wait(60)
    assert one.gone()
    left = list(one.state.iterdir())
    assert len(left) == 1
    two = driver()
    assert left[0] not in list(two.state.iterdir())


def test_calls_go_on_when_the_controller_was_killed(driver):
    one = driver("input()\nassert handle.remote(2).result() == 2\nprint('answered', flush=True)\ninput()")
    one.named("fairlead_gateway.control").kill()
    one.process.stdin.write("\n")
    one.process.stdin.flush()
    assert one.process.stdout.readline() == "answered\n"


AGAIN = """
def killed():
    status = api.instance_status()
    ports = [int(status.gateways[0].http_address.rpartition(":")[2])]
    controller = instance_in_use.current.instance.owned._controller.popen
    controller.kill()
    controller.wait()
    return ports[0]

"""


def test_running_again_after_the_controller_was_killed_starts_anew_on_the_same_ports(driver):
    one = driver(
        AGAIN
        + textwrap.dedent(
            """
            before = instance_in_use.current.instance.owned.directory
            port = killed()
            api.start(http_options={"port": port}, grpc_options={"port": 0})
            print(before.exists(), api.instance_status().gateways[0].http_address.endswith(f":{port}"), flush=True)
            print(list(api.status().applications), api.run(Echo.bind()).remote(2).result(), flush=True)
            input()
            """
        )
    )
    assert one.process.stdout.readline() == "False True\n"
    assert one.process.stdout.readline() == "[] 2\n"
    assert one.gone(), "what the first controller had started"
    one.process.communicate("\n", timeout=60)
    assert one.left() == []


@pytest.mark.parametrize("looked_first", [False, True])
def test_shutdown_cleans_up_after_a_killed_controller(driver, looked_first):
    one = driver(
        AGAIN
        + textwrap.dedent(
            f"""
            killed()
            if {looked_first}:
                try:
                    api.get_app_handle("default")
                except Exception as error:
                    print(error, flush=True)
            api.shutdown()
            print(api.status().applications, flush=True)
            input()
            """
        )
    )
    if looked_first:
        assert "controller was ended by signal 9 (SIGKILL)" in one.process.stdout.readline()
    assert one.process.stdout.readline() == "{}\n"
    assert one.gone()
    assert one.left() == []


def test_a_blocking_run_whose_controller_is_killed_says_so_and_leaves_nothing(driver):
    one = driver(
        """
        try:
            api.wait()
        except Exception as error:
            print(error, flush=True)
        input()
        """
    )
    one.until_it_waits()
    one.named("fairlead_gateway.control").kill()
    assert "controller was ended by signal 9" in one.process.stdout.readline()
    assert one.gone()
    assert one.left() == []


def test_a_forked_child_leaves_the_instance_alone(driver):
    one = driver(
        """
        import warnings
        warnings.simplefilter("ignore")
        if os.fork() == 0:
            sys.exit(0)
        os.wait()
        print(handle.remote(3).result(), flush=True)
        input()
        """
    )
    assert one.process.stdout.readline() == "3\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("then", ["api.run(Echo.bind(), blocking=True)", "api.wait()"])
def test_a_signal_ends_a_blocking_wait_in_order(driver, then, number):
    one = driver(f"{then}\nprint('after', api.status().applications)")
    one.until_it_waits()  # a deploy it would cut short
    one.process.send_signal(number)
    assert one.process.communicate(timeout=60)[0] == "after {}\n"
    assert one.process.returncode == 0
    assert one.gone()
    assert one.left() == []


def test_a_container_that_is_stopped_answers_what_is_under_way(driver, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    one = driver(
        f"""
        import pathlib

        @deployment
        def held(request):
            pathlib.Path({str(begun)!r}).touch()
            while not pathlib.Path({str(gate)!r}).exists():
                time.sleep(0.01)
            return "held"

        api.run(held.bind(), name="held", route_prefix="/held")
        print(api.instance_status().gateways[0].http_address, flush=True)
        api.wait()
        """
    )
    url = f"http://{one.process.stdout.readline().strip()}"
    answers = []
    caller = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/held", timeout=60)))
    caller.start()
    wait_until(begun.exists)
    one.until_it_waits()
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{url}/-/healthz").status_code == 503)
    gate.touch()
    caller.join()
    assert (answers[0].status_code, answers[0].text) == (200, "held")
    assert one.process.wait(60) == 0
    assert one.gone()
    assert one.left() == []


def test_a_second_signal_does_not_wait_for_the_drain(driver, tmp_path):
    begun = tmp_path / "begun"
    one = driver(
        f"""
        @deployment(graceful_shutdown_timeout_s=1000)
        class Endless:
            async def __call__(self, request):
                import asyncio, pathlib
                pathlib.Path({str(begun)!r}).touch()
                await asyncio.Event().wait()

        api.run(Endless.bind(), name="endless", route_prefix="/endless")
        print(api.instance_status().gateways[0].http_address, flush=True)
        api.wait()
        """
    )
    url = f"http://{one.process.stdout.readline().strip()}"

    def call():
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/endless", timeout=60)

    caller = threading.Thread(target=call)
    caller.start()
    wait_until(begun.exists)
    one.until_it_waits()
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{url}/-/healthz").status_code == 503)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(60) == 143
    caller.join()
    assert one.gone()
    assert one.left() == []


@pytest.mark.parametrize(
    ("address", "warned"),
    [("far.example:9000", True), ("https://far.example:9000", False), ("127.0.0.1:1", False), ("[::1]:1", False)],
)
def test_a_token_in_plain_text_is_warned_of(address, warned, monkeypatch, caplog):
    monkeypatch.setenv("FAIRLEAD_TOKEN", "s3cret")
    Instance(address).gateway()
    assert ("in plain text" in caplog.text) is warned
    assert "s3cret" not in caplog.text


def test_no_handler_is_installed_in_a_program_that_does_not_wait(driver):
    one = driver("import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True); input()")
    assert one.process.stdout.readline() == "True\n"


def test_ending_a_standing_instance_does_not_wait_for_a_frozen_controller(tmp_path, monkeypatch):
    monkeypatch.setattr(instance, "_ANSWER_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "controller.sock"))
        silent.listen()
        standing = Instance(f"unix:{tmp_path}/controller.sock")
        try:
            with pytest.raises(FairleadError, match="does not answer"):
                standing.shut_down()
        finally:
            standing.close()
