"""The command line as it is typed."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairlead
from fairlead.cli.commands import COMMANDS
from tests.typist import PATIENCE_S, PROGRAM, ROOT, Typist


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    state = Path(f"/tmp/fl-cli-{os.getpid()}")
    given = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLEAD_")}
    yield {**given, "FAIRLEAD_STATE_DIR": str(state), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    assert [path.name for path in state.rglob("*")] == []
    if state.exists():
        state.rmdir()


def test_version(environment: dict[str, str]) -> None:
    said = subprocess.run([PROGRAM, "version"], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said.strip() == fairlead.__version__


def test_help_has_an_example_that_works(environment: dict[str, str], typist: Typist) -> None:
    shown = typist("run", "--help", env=environment).stdout
    example = re.search(r"Example: fairlead (run .*?--grpc-port \d+)", re.sub(r"\s+", " ", shown))
    assert example
    typed = re.sub(r"port \d+", "port 0", example.group(1)).split()
    process = subprocess.Popen([PROGRAM, *typed], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        found = re.search(r"HTTP +(http://[0-9.:]+)/", line)
        if found:
            address = found.group(1)
            break
    with urllib.request.urlopen(f"{address}/-/healthz", timeout=60) as answer:
        assert answer.read() == b"success"
    both = " ".join(typist("--help", env=environment).stdout.split()).partition("Example: fairlead ")[2]
    first, _, second = both.partition(", then in another terminal fairlead ")
    assert typed[: len(first.split())] == first.split()
    said = typist(*second.split(), env=environment)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, 130)
    assert json.loads(said.stdout)["digit"] == 7


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [
        ("app(['--help'])", ["pydantic", "yaml", "grpc", "fairlead.serve"]),
        ("app(['version'])", ["yaml", "grpc", "fairlead.serve", "rich"]),
        # Newer typers use pydantic themselves, to read any command line: what the commands import is what counts.
        *((f"COMMANDS[{name!r}].function()", ["pydantic", "yaml"]) for name in ("status", "call", "scale", "traffic")),
    ],
)
def test_a_command_loads_what_it_needs(program: str, unneeded: list[str]) -> None:
    run = (
        f"import contextlib, sys\nfrom fairlead.cli.commands import COMMANDS, app\n"
        f"with contextlib.suppress(SystemExit):\n  {program}\n"
        f"print([name for name in {unneeded} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help == inspect.cleandoc(command.function().__doc__).splitlines()[0]


def test_every_help_has_an_example(environment: dict[str, str], typist: Typist) -> None:
    """Those that need an instance are typed where there is one."""
    for name in ("version", *COMMANDS):
        shown = " ".join(typist(name, "--help", env=environment).stdout.split())
        example = shown.partition("Example: fairlead ")[2].split()
        assert example[:1] == [name]
        if name in ("version", "build"):
            assert typist(*example, env=environment).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "fairlead: 'nothing' is not an import path"),
        (["run", "no_such_module_here:app"], "fairlead: there is no module 'no_such_module_here'"),
        (["run", "examples.digits.app:ap"], "Did you mean 'app'?"),
        (["run", "examples.digits.app:app", "--http-port", "99999"], "--http-port"),
        (["run", "examples.digits.app:app", "--http-host", "0.0.0.0", "--http-port", "0"], "--insecure"),
        (["run", "examples.digits.app:app", "oops"], "'oops' is not a key=value pair"),
        (["rum"], "No such command"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    environment: dict[str, str], typist: Typist, arguments: list[str], message: str
) -> None:
    ended = typist(*arguments, env=environment)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
