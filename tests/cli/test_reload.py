"""``fairlead run --reload``: a changed file restarts the deployments that are made of it, and no others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli import redeploy
from fairlead.cli.redeploy import Redeployment
from fairlead.cli.reload import reloading

PROGRAM = str(Path(sys.executable).parent / "fairlead")
PATIENCE_S = 60

PART = """
import os
from fairlead import serve

@serve.deployment
class {name}:
    def __call__(self):
        return ["{said}", os.getpid()]
"""
APP = """
import os
from fairlead import serve
from left import Left
from right import Right

@serve.deployment
class Front:
    def __init__(self, left, right):
        self.parts = [left, right]

    async def __call__(self, request):
        return [await part.remote() for part in self.parts] + [os.getpid()]

app = Front.bind(Left.bind(), Right.bind())
"""


class Program:
    """``fairlead run --reload`` in a directory."""

    def __init__(self, directory: Path, state: str) -> None:
        self.directory = directory
        self.write("left.py", PART.format(name="Left", said="one"))
        self.write("right.py", PART.format(name="Right", said="one"))
        self.write("parts_app.py", APP)
        given = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLEAD_")}
        self.log = directory / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "run", "parts_app:app", "--reload", "--http-port", "0", "--grpc-port", "0"],
                cwd=directory,
                env={**given, "FAIRLEAD_STATE_DIR": state, "TERM": "dumb", "COLUMNS": "120"},
                stderr=log,
            )
        self.until(lambda: "HTTP" in self.said())
        found = re.search(r"HTTP +(http://[0-9.:]+)/", self.said())
        assert found
        self.url = found.group(1)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def said(self) -> str:
        return self.log.read_text()

    def answer(self) -> Any:
        with urllib.request.urlopen(self.url, timeout=PATIENCE_S) as response:
            return json.load(response)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as state:
        made = Program(tmp_path, state)
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(PATIENCE_S) == 0, made.said()


def test_only_what_changed_restarts(program: Program) -> None:
    (left, left_pid), (right, right_pid), front_pid = program.answer()
    assert (left, right) == ("one", "one")
    program.write("left.py", PART.format(name="Left", said="two"))
    program.until(lambda: program.answer()[0][0] == "two")
    (_, new_pid), *rest = program.answer()
    assert new_pid != left_pid
    assert rest == [[right, right_pid], front_pid]

    program.write("right.py", "this is no Python")
    program.until(lambda: "What ran before goes on" in program.said())
    assert program.answer()[1] == ["one", right_pid], program.said()
    program.write("right.py", PART.format(name="Right", said="three"))
    program.until(lambda: program.answer()[1][0] == "three")
    assert program.answer()[::2] == [["two", new_pid], front_pid]


def test_a_redeployment_is_a_process() -> None:
    made = Redeployment(import_path="nowhere:app", app_dir=".", arguments={"a": "1"})
    done = subprocess.run(made.command(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("fairlead: there is no module 'nowhere'")


class Noted(Redeployment):
    """Makes a file."""

    def command(self) -> list[str]:
        return ["touch", self.name]


@pytest.mark.parametrize("error", [ValueError("max_ongoing_requests must be at least 1"), TypeError("no application")])
def test_a_setting_that_is_wrong_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def deploy(self: Redeployment) -> None:
        raise error

    monkeypatch.setattr(Redeployment, "deploy", deploy)
    monkeypatch.setattr(sys, "argv", Redeployment(import_path="shop:app", app_dir=".").command()[-2:])
    with pytest.raises(SystemExit) as ended:
        redeploy.main()
    assert ended.value.code == f"fairlead: {error}"


def test_what_changes_while_it_is_deployed_first_is_deployed_again(tmp_path: Path) -> None:
    note = tmp_path / "deployed"
    (tmp_path / "watched").mkdir()
    with reloading(str(tmp_path / "watched")) as watch:
        assert watch is not None
        assert watch._watching.wait(PATIENCE_S)
        (tmp_path / "watched" / "app.py").write_text("1")
        watch.follow(Noted(import_path="app:app", app_dir=".", name=str(note)), "")
        deadline = time.monotonic() + PATIENCE_S
        while not note.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
