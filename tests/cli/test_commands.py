"""The command line as it is typed."""

from __future__ import annotations

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

PROGRAM = str(Path(sys.executable).parent / "fairlead")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    state = Path(f"/tmp/fl-cli-{os.getpid()}")
    given = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLEAD_")}
    yield {**given, "FAIRLEAD_STATE_DIR": str(state), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    assert [path.name for path in state.rglob("*")] == []
    if state.exists():
        state.rmdir()


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_version(environment: dict[str, str]) -> None:
    assert run(environment, "version").stdout.strip() == fairlead.__version__


def test_help_has_an_example_that_works(environment: dict[str, str]) -> None:
    shown = run(environment, "run", "--help").stdout
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
    with urllib.request.urlopen(f"{address}/-/healthz", timeout=10) as answer:
        assert answer.read() == b"success"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, 130)


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
def test_what_is_wrong_is_said_in_a_line(environment: dict[str, str], arguments: list[str], message: str) -> None:
    ended = run(environment, *arguments)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
