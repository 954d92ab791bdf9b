"""Processes that outlive whoever started them, and are taken over."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from fairlead.lifetime import recorded_processes, runs_with, write_processes
from fairlead_gateway.control.detached_launcher import DetachedLauncher
from fairlead_gateway.control.launcher import Program
from fairlead_gateway.control.log_files import LogFiles

ADDRESS = "unix:/no/controller.sock"


@pytest.fixture
async def make(tmp_path):
    made = []

    def make(address=ADDRESS):
        launcher = DetachedLauncher(LogFiles(tmp_path / "logs"), tmp_path / "processes", address)
        made.append(launcher)
        return launcher

    yield make
    for launcher in made:
        await launcher.close()


@pytest.fixture
def program(tmp_path):
    """A program that writes what it is told to, and waits to be ended."""
    (tmp_path / "spoken.py").write_text(
        "import sys\nprint(sys.argv[2], flush=True)\nsys.stdin = None\nimport signal\nsignal.pause()\n"
    )

    def program(name, words="hello"):
        return Program(
            name=name, module="spoken", arguments=(ADDRESS, words, name), variables={"PYTHONPATH": str(tmp_path)}
        )

    return program


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_a_program_writes_is_in_its_file_and_its_ending_says_the_last_of_it(make, program, tmp_path):
    launcher = make()
    ended = asyncio.get_running_loop().create_future()
    process = launcher.start(program("a#b#c", "one\ntwo"), ended.set_result)
    log = tmp_path / "logs" / "a#b#c.log"
    await until(lambda: log.exists() and log.read_text() == "one\ntwo\n")
    assert recorded_processes(tmp_path / "processes") == {process.pid: "a#b#c"}
    process.kill()
    ending = await asyncio.wait_for(ended, 60)
    assert (ending.status, ending.last_lines) == (-signal.SIGKILL, ("one", "two"))
    assert recorded_processes(tmp_path / "processes") == {}


async def test_another_launcher_takes_over(make, program, tmp_path):
    first, second = make(), make()
    process = first.start(program("a#b#c"), lambda _: None)
    await until(lambda: second.found() == {"a#b#c": process.pid})
    ended = asyncio.get_running_loop().create_future()
    adopted = second.adopt("a#b#c", process.pid, ended.set_result)
    assert adopted is not None
    adopted.kill()
    assert (await asyncio.wait_for(ended, 60)).how == "an exit status that is not known"
    assert second.found() == {}


async def test_a_process_that_took_over_an_id_is_left_alone(make, tmp_path):
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        write_processes(tmp_path / "processes", {stranger.pid: "a#b#c"})
        launcher = make()
        assert launcher.found() == {}
        assert launcher.adopt("a#b#c", stranger.pid, lambda _: None) is None
        await launcher.close()
        assert stranger.poll() is None
        stranger.kill()


async def test_a_program_outlives_the_process_that_started_it(make, program, tmp_path):
    source = (
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from fairlead_gateway.control.detached_launcher import DetachedLauncher\n"
        "from fairlead_gateway.control.launcher import Program\n"
        "from fairlead_gateway.control.log_files import LogFiles\n"
        "async def main():\n"
        f"    here = Path({str(tmp_path)!r})\n"
        f"    launcher = DetachedLauncher(LogFiles(here / 'logs'), here / 'processes', {ADDRESS!r})\n"
        f"    program = Program(name='n', module='spoken', arguments=({ADDRESS!r}, 'hi', 'n'),\n"
        "        variables={'PYTHONPATH': str(here)})\n"
        "    launcher.start(program, print)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    assert program("n")
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", source], check=False)
    launcher = make()
    log = tmp_path / "logs" / "n.log"
    await until(lambda: log.exists() and log.read_text() == "hi\n")
    (pid,) = launcher.found().values()
    ended = asyncio.get_running_loop().create_future()
    adopted = launcher.adopt("n", pid, ended.set_result)
    assert adopted is not None
    adopted.kill()
    await asyncio.wait_for(ended, 60)
    assert not runs_with(pid, ADDRESS)


def test_a_long_file_is_put_aside_and_old_files_go(tmp_path):
    logs = LogFiles(tmp_path / "logs", longest_bytes=10, most_files=3)
    descriptor = logs.open("busy")
    os.write(descriptor, b"0123456789ab")
    for number in range(4):
        os.close(logs.open(f"old-{number}"))
        os.utime(logs.path(f"old-{number}"), (number, number))
    logs.bound(["busy", "old-0"])
    os.write(descriptor, b"new")
    os.close(descriptor)
    assert logs.path("busy").read_text() == "new"
    assert (tmp_path / "logs" / "busy.log.1").read_text() == "0123456789ab"
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["busy.log", "busy.log.1", "old-0.log", "old-2.log", "old-3.log"]
    assert logs.tail("busy", 5) == ["new"]
    assert logs.tail("nobody", 5) == []


def test_names_make_no_paths(tmp_path):
    logs = LogFiles(tmp_path / "logs")
    assert logs.path("../../x#y#z").parent == tmp_path / "logs"
