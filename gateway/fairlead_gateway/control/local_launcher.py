"""Processes on this machine, as children of the controller."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fairlead.lifetime import process_ended, write_processes
from fairlead_gateway.control import allocation
from fairlead_gateway.control.launcher import Ending, Process, Program
from fairlead_gateway.control.lines import LineSplitter

_LAST_LINES = 20
_OUTPUT_GRACE_S = 1.0
_POLL_S = 0.05
_JSON_LINE = '{"levelname":'


class LocalLauncher:
    """Starts Python programs, each in a session of its own, and writes their lines to the log.

    ``record``: a file that says which processes run, for whoever has to end them if this process is killed.
    """

    def __init__(self, output: logging.Logger, record: Path | None = None) -> None:
        self._output = output
        self._record = record
        self._supervisors: dict[_LocalProcess, asyncio.Task[None]] = {}

    def start(self, program: Program, on_end: Callable[[Ending], None]) -> Process:
        """See :class:`fairlead_gateway.control.launcher.Launcher`."""
        # -P: a file of the user's named like one of our modules must not stand in its way. sys.path of the user's code
        # comes with its environment.
        reader, writer = os.pipe()
        try:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", program.module, *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd=program.working_directory,
                env=allocation.environment_of(program.variables),
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        process = _LocalProcess(program.name, popen, self._output)
        supervisor = asyncio.get_running_loop().create_task(self._supervise(process, reader, on_end))
        self._supervisors[process] = supervisor
        self._write_record()
        return process

    def adopt(self, name: str, pid: int, on_end: Callable[[Ending], None]) -> Process | None:
        """None: these processes end with their driver, and so does the instance."""
        return None

    async def close(self) -> None:
        """See :class:`fairlead_gateway.control.launcher.Launcher`."""
        for process in self._supervisors:
            process.kill()
        await asyncio.gather(*self._supervisors.values())

    async def _supervise(self, process: _LocalProcess, reader: int, on_end: Callable[[Ending], None]) -> None:
        loop = asyncio.get_running_loop()
        # Closed by the transport.
        pipe = os.fdopen(reader, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: process, pipe)
        try:
            status = await process.wait()
            try:
                await asyncio.wait_for(process.output_ended.wait(), _OUTPUT_GRACE_S)
            except TimeoutError:
                self._output.warning("(%s) its output is held open by a process that it left behind", process.name)
        finally:
            transport.close()
            del self._supervisors[process]
            self._write_record()
        on_end(Ending(status=status, last_lines=tuple(process.last_lines)))

    def _write_record(self) -> None:
        if self._record is None:
            return
        try:
            write_processes(self._record, {process.pid: process.name for process in self._supervisors})
        except OSError as error:
            # It is for who cleans up after this process is killed. Nobody waits for it.
            self._output.warning("which processes run cannot be written to %s: %s", self._record, error)


class _LocalProcess(asyncio.Protocol):
    """A child process, and the reader of its output."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: logging.Logger) -> None:
        self.name = name
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.output_ended = asyncio.Event()
        self._popen = popen
        self._output = output
        self._splitter = LineSplitter()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def kill(self) -> None:
        if self._popen.returncode is None:
            self._kill_group()

    async def wait(self) -> int:
        """The exit status, once it has ended; what it left in its process group is killed then."""
        if hasattr(os, "pidfd_open"):
            await process_ended(self.pid)
            # Before the id is given back: its group is still its own.
            self._kill_group()
            return self._popen.wait()
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110 - nothing here tells of a child
            await asyncio.sleep(_POLL_S)
        return status

    def data_received(self, data: bytes) -> None:
        self._log(self._splitter.feed(data))

    def eof_received(self) -> None:
        self._log(self._splitter.finish())
        self.output_ended.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._log(self._splitter.finish())
        self.output_ended.set()

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            self.last_lines.append(line)
            if line.startswith(_JSON_LINE):  # says itself whose it is, and is for programs to read
                self._output.info("%s", line)
            else:
                self._output.info("(%s) %s", self.name, line)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
