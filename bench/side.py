"""A program of the benchmark in a process of its own, ruled by JSON lines."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import psutil

READY_S = 60.0
SLACK_S = 60.0
LAST_LINES = 15


class SideError(Exception):
    """A program could not be started, died, or answered with an error."""


class Side:
    """A running program. ``facts`` is what it said when it was ready.

    Raises SideError at once if the program ends or says nothing; the error holds the end of what it logged. As a
    context manager it ends the program.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = module.rpartition(".")[2]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
        )
        self._pending = b""
        try:
            self.facts = self._read(READY_S)
        except SideError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """Seconds of CPU that the program and the processes it started have used."""
        program = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (program, *program.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Has the program run a command and gives its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise SideError(f"{self.name} has ended") from error
        return self._read(SLACK_S + arguments.get("seconds", 0))

    def _read(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(timeout):
                    raise SideError(f"{self.name} said nothing for {timeout:.0f} s{self._last_words()}")
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    raise SideError(f"{self.name} ended{self._last_words()}")
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise SideError(f"{self.name} said {line!r}") from None
        if "error" in answer:
            raise SideError(f"{self.name}: {answer['error']}{self._last_words()}")
        return answer

    def _last_words(self) -> str:
        """The end of what the program logged."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines)

    def close(self) -> None:
        """Ends the program, by force if it does not end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:  # it is gone
            pass
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
