"""Children of the controller: their output, their ends, and what is recorded of them."""

import asyncio
import logging
import os
import signal
import textwrap

import pytest

from fairlead.lifetime import process_ended, recorded_processes
from fairlead_gateway.control.launcher import Program
from fairlead_gateway.control.local_launcher import LocalLauncher


@pytest.fixture
async def launch(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    launcher = LocalLauncher(logging.getLogger("output"))

    def launch(code, **changes):
        (tmp_path / "program.py").write_text(textwrap.dedent(code))
        ended = asyncio.get_running_loop().create_future()
        program = Program(
            **{
                "name": "p",
                "module": "program",
                "arguments": (),
                "variables": {"PYTHONPATH": str(tmp_path)},
                **changes,
            }
        )
        return launcher.start(program, ended.set_result), ended

    yield launch
    await launcher.close()


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "output"]


class FirstLine(logging.Handler):
    """Says when the first line was logged."""

    def __init__(self):
        super().__init__()
        self.logged = asyncio.Event()

    def emit(self, record):
        self.logged.set()


@pytest.fixture
def first_line():
    handler = FirstLine()
    logging.getLogger("output").addHandler(handler)
    yield handler.logged
    logging.getLogger("output").removeHandler(handler)


async def test_every_line_up_to_the_end_is_logged(launch, caplog):
    _, ended = launch(
        """
        import os, sys
        for number in range(2000):
            print(number)
        print("to stderr", file=sys.stderr)
        print("no end of line", end="")
        sys.stdout.flush()
        os._exit(5)
        """
    )
    ending = await asyncio.wait_for(ended, 60)
    assert lines(caplog) == [*(f"(p) {number}" for number in range(2000)), "(p) to stderr", "(p) no end of line"]
    assert ending.status == 5
    assert ending.last_lines[-1] == "no end of line"
    assert ending.description.startswith("it ended with exit status 5.\n")


async def test_arguments_variables_and_directory(launch, caplog, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "os.py").write_text("raise ImportError('the wrong os')")
    _, ended = launch(
        "import os, sys; print(sys.argv[1:], os.environ['COLOUR'], os.getcwd(), sys.stdin.read() == '')",
        arguments=("a", "b"),
        variables={"PYTHONPATH": str(tmp_path), "COLOUR": "blue"},
        working_directory=str(tmp_path / "elsewhere"),
    )
    assert (await asyncio.wait_for(ended, 60)).status == 0
    assert lines(caplog) == [f"(p) ['a', 'b'] blue {tmp_path}/elsewhere True"]


async def test_killing_takes_children_along(launch, caplog, first_line):
    process, ended = launch(
        """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print(child.pid, flush=True)
        time.sleep(1000)
        """
    )
    await asyncio.wait_for(first_line.wait(), 60)
    child = int(lines(caplog)[0].split()[1])
    process.kill()
    ending = await asyncio.wait_for(ended, 60)
    assert ending.how == "signal 9 (SIGKILL)"
    await asyncio.wait_for(process_ended(child), 60)
    process.kill()


async def test_output_held_open_by_a_daemon_holds_up_nothing(launch, caplog):
    _, ended = launch(
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "input()"], start_new_session=True, stdin=subprocess.PIPE)
        held = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        print(held.pid, flush=True)
        """
    )
    await asyncio.wait_for(ended, 60)
    assert "held open" in lines(caplog)[-1]
    os.kill(int(lines(caplog)[0].split()[1]), signal.SIGKILL)


async def test_what_runs_is_recorded(tmp_path):
    record = tmp_path / "processes"
    launcher = LocalLauncher(logging.getLogger("output"), record)
    program = Program(name="p", module="http.server", arguments=("0",))
    ended = asyncio.get_running_loop().create_future()
    one, two = launcher.start(program, ended.set_result), launcher.start(program, lambda _: None)
    assert recorded_processes(record) == {one.pid: "p", two.pid: "p"}
    assert record.stat().st_mode & 0o777 == 0o600
    one.kill()
    await asyncio.wait_for(ended, 60)
    assert recorded_processes(record) == {two.pid: "p"}
    await launcher.close()
    assert record.read_text() == ""
    assert list(tmp_path.iterdir()) == [record]


async def test_a_record_that_cannot_be_written_holds_up_nothing(tmp_path, caplog):
    launcher = LocalLauncher(logging.getLogger("output"), tmp_path / "gone" / "processes")
    ended = asyncio.get_running_loop().create_future()
    program = Program(name="p", module="timeit", arguments=("pass",), variables={})
    launcher.start(program, ended.set_result)
    assert (await ended).status == 0
    await launcher.close()
    assert "cannot be written" in caplog.text


async def test_where_there_is_no_pidfd(launch, caplog, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    _, ended = launch("print('here')")
    assert (await asyncio.wait_for(ended, 60)).status == 0
    assert lines(caplog) == ["(p) here"]


async def test_what_cannot_be_started(launch):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="/not/there"):
        launch("", working_directory="/not/there")
    assert len(os.listdir("/proc/self/fd")) == before
