"""Ending what a killed controller has left."""

import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from fairlead.lifetime import PROCESSES
from fairlead.serve.orphans import end_orphans


@pytest.fixture
def start(tmp_path):
    """Starts a Python program that says when it is there; by default one of the instance in ``tmp_path``."""
    started = []

    def start(code, *arguments):
        arguments = arguments or ("--controller", f"unix:{tmp_path}/controller.sock")
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def record(directory, *pids):
    (directory / PROCESSES).write_text("".join(f"{pid}\n" for pid in pids))


def gone(pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


OBEDIENT = "import time; print(1, flush=True); time.sleep(1000)"
STUBBORN = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    print(child.pid, flush=True)
    time.sleep(1000)
"""


def test_all_that_was_recorded_ends(tmp_path, start):
    one, two = start(OBEDIENT)[0], start(OBEDIENT)[0]
    record(tmp_path, one.pid, two.pid)
    end_orphans(tmp_path, 20)
    assert (one.wait(60), two.wait(60)) == (-15, -15)


def test_what_does_not_end_is_killed_with_what_it_has_started(tmp_path, start):
    process, child = start(STUBBORN)
    record(tmp_path, process.pid)
    end_orphans(tmp_path, 0.1)
    assert process.wait(60) == -9
    assert gone(int(child))


def test_processes_of_others_are_left_alone(tmp_path, start):
    elsewhere = start(OBEDIENT, "--controller", f"unix:{tmp_path}-2/controller.sock")[0]
    other = start(OBEDIENT, "nothing")[0]
    record(tmp_path, elsewhere.pid, other.pid)
    end_orphans(tmp_path, 20)
    assert elsewhere.poll() is None
    assert other.poll() is None


def test_what_has_ended_already_and_what_is_no_number(tmp_path, start):
    process = start(OBEDIENT)[0]
    process.kill()  # and not reaped: as under a first process that reaps nobody
    (tmp_path / PROCESSES).write_text(f"{process.pid}\n\nx\n-1\n0\n99999999999999999999\n12")
    end_orphans(tmp_path, 20)


def test_nothing_was_recorded(tmp_path):
    end_orphans(tmp_path, 20)
    end_orphans(tmp_path / "gone", 20)
