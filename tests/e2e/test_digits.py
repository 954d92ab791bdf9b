"""The example as a newcomer meets it: start it, then type what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.digits.app import prepare

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


@dataclass(frozen=True)
class Running:
    """The example, serving."""

    process: subprocess.Popen[str]
    printed: str
    environment: dict[str, str]

    def commands(self) -> list[str]:
        """What it says to type: indented lines that are no comments; a backslash joins two."""
        joined = self.printed.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if re.match(r"  [^ #]", line)]

    def type(self, command: str) -> str:
        """Runs a command in a shell, from the repository's folder."""
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def digits() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as state:
        environment = {**os.environ, "FAIRLEAD_STATE_DIR": state, "PYTHONUNBUFFERED": "1"}
        environment.pop("FAIRLEAD_ADDRESS", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.digits", "--http-port", "0", "--grpc-port", "0"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("Ctrl-C"):
                break
        try:
            yield Running(process, "".join(printed), environment)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            process.stdout.close()
        assert process.returncode == 0
        assert [path.name for path in Path(state).rglob("*.sock")] == []


def test_the_model_is_good(digits: Running) -> None:
    found = re.search(r"right on ([0-9.]+)% of unseen ones", digits.printed)
    assert found
    assert float(found.group(1)) > 97


def test_there_is_a_command_for_each_door(digits: Running) -> None:
    commands = digits.commands()
    assert [command.split()[0].rpartition("/")[2] for command in commands] == [
        "curl",
        Path(sys.executable).name,
        Path(sys.executable).name,
        "buf",
    ]


def test_curl(digits: Running) -> None:
    answer = json.loads(digits.type(digits.commands()[0]))
    assert answer["digit"] == 7


@pytest.mark.parametrize("which", [1, 2], ids=["handle", "stub"])
def test_python(digits: Running, which: int) -> None:
    lines = digits.type(digits.commands()[which]).splitlines()
    assert len(lines) == 4
    assert all("'digit': 7" in line for line in lines)
    assert lines[0].startswith("one image:")
    assert [line.partition("'image': ")[2][:1] for line in lines[1:]] == ["0", "1", "2"]


def test_buf_curl_by_reflection(digits: Running) -> None:
    answer = json.loads(digits.type(digits.commands()[3]))
    assert answer["result"] > 0.97


@pytest.mark.parametrize("body", ['{"image": [[1]]}', '{"image": "x"}', "{}", "{bad", "[]"])
def test_a_bad_image_is_the_callers_error_and_has_no_traceback(digits: Running, body: str) -> None:
    url = digits.commands()[0].split()[2]
    answer = digits.type(f"curl -s -w '%{{http_code}}' {url} -d '{body}'")
    assert answer.endswith("400")
    assert "Traceback" not in answer


def test_images_are_scaled_down_and_stretched() -> None:
    image = [[0.0] * 16 for _ in range(16)]
    image[0][0] = image[0][1] = image[1][0] = image[1][1] = 255.0
    pixels = prepare(image)
    assert len(pixels) == 64
    assert pixels[0] == 16.0
    assert sum(pixels) == 16.0


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 rows of 8 pixels, not 1 x 1"):
        prepare([[1.0]])
