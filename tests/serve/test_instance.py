"""How instances that belong to a driver end: with it, however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

DRIVER = """
import os, sys, time
import fairlead.serve.api as api
from fairlead.serve.deployment import deployment

@deployment
class Echo:
    def __call__(self, value):
        return value

api.start(http_options={"port": 0}, grpc_options={"port": 0})
handle = api.run(Echo.bind())
assert handle.remote(1).result() == 1
print("up", flush=True)
"""


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
        return psutil.wait_procs(self.children, timeout=20)[1] == []

    def left(self):
        """What is left of the directory, after a while for it to go."""
        deadline = time.monotonic() + 10
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
    one.process.communicate("\n", timeout=30)
    assert one.process.returncode == 0
    assert one.gone()
    assert one.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_takes_its_instance_along(driver, number):
    one = driver()
    one.process.send_signal(number)
    one.process.wait(30)
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
    one.process.wait(30)
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
    controller = api._current.instance.owned._controller
    controller.kill()
    controller.wait()
    return ports[0]

"""


def test_running_again_after_the_controller_was_killed_starts_anew_on_the_same_ports(driver):
    one = driver(
        AGAIN
        + textwrap.dedent(
            """
            before = api._current.instance.owned.directory
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
    one.process.communicate("\n", timeout=30)
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


def test_ctrl_c_ends_a_blocking_run_in_order(driver):
    one = driver("api.run(Echo.bind(), blocking=True)")
    one.process.send_signal(signal.SIGINT)
    one.process.wait(30)
    assert one.process.returncode in (0, -signal.SIGINT)
    assert one.gone()
    assert one.left() == []
