"""A server of others in processes of its own, started by its own command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from bench.side import LAST_LINES, READY_S, SideError

_POLL_S = 0.1
_END_S = 10
_ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, for servers that do not say which one they chose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ForeignServer:
    """A HTTP server that is ready when it answers a POST with 200. As a context manager it ends the processes.

    Raises SideError if it does not get that far; the error holds the end of what it logged.
    """

    def __init__(self, name: str, command: Sequence[str], url: str, body: bytes) -> None:
        self.name = name
        self.url = url
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )
        try:
            self._wait_until_ready(body)
        except SideError:
            self.close()
            raise

    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""
        program = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (program, *program.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def _wait_until_ready(self, body: bytes) -> None:
        end = time.monotonic() + READY_S
        opener = build_opener(ProxyHandler({}))
        request = Request(self.url, body, {"content-type": "application/json"})
        problem = "nothing answered"
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise SideError(f"{self.name} ended{self._last_words()}")
            try:
                with opener.open(request, timeout=READY_S) as answer:
                    answer.read()
                    return
            except HTTPError as error:  # 503 while its own server is not there, for example
                problem = f"it answered {error.code}"
                error.close()
            except OSError as error:
                problem = str(error)
            time.sleep(_POLL_S)
        raise SideError(f"{self.name} was not ready after {READY_S:.0f} s: {problem}{self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines)

    def close(self) -> None:
        """Ends the processes, by force if they do not end by themselves. They are a session of their own."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
            except ProcessLookupError:
                break
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
