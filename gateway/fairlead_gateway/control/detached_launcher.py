"""Processes of a standing instance: they outlive the controller, and the next one takes them over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fairlead.lifetime import process_ended, recorded_processes, runs_with, write_processes
from fairlead_gateway.control import allocation
from fairlead_gateway.control.launcher import Ending, Process, Program
from fairlead_gateway.control.log_files import LogFiles

logger = logging.getLogger("fairlead.controller")

_LAST_LINES = 20


class DetachedLauncher:
    """Starts Python programs, each in a session and with a log file of its own, and takes over those that run.

    ``record``: the file that says which run. ``address``: the controller's, which they have on their command lines.
    """

    def __init__(self, logs: LogFiles, record: Path, address: str) -> None:
        self.running: dict[int, str] = {}
        """Names by process id."""
        self._logs = logs
        self._record = record
        self._address = address
        self._supervisors: dict[_DetachedProcess, asyncio.Task[None]] = {}

    def found(self) -> dict[str, int]:
        """The processes of an earlier controller that run still: ids by name."""
        recorded = recorded_processes(self._record)
        return {name: pid for pid, name in recorded.items() if runs_with(pid, self._address, name)}

    def start(self, program: Program, on_end: Callable[[Ending], None]) -> Process:
        """See :class:`fairlead_gateway.control.launcher.Launcher`."""
        output = self._logs.open(program.name)
        try:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", program.module, *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=program.working_directory,
                env=allocation.environment_of(program.variables),
                start_new_session=True,
            )
        finally:
            os.close(output)
        return self._keep(_DetachedProcess(program.name, popen.pid, popen), on_end)

    def adopt(self, name: str, pid: int, on_end: Callable[[Ending], None]) -> Process | None:
        """See :class:`fairlead_gateway.control.launcher.Launcher`."""
        if not runs_with(pid, self._address, name):
            return None
        return self._keep(_DetachedProcess(name, pid, None), on_end)

    async def close(self) -> None:
        """See :class:`fairlead_gateway.control.launcher.Launcher`."""
        for process in self._supervisors:
            process.kill()
        await asyncio.gather(*self._supervisors.values())

    def _keep(self, process: _DetachedProcess, on_end: Callable[[Ending], None]) -> Process:
        self.running[process.pid] = process.name
        self._supervisors[process] = asyncio.get_running_loop().create_task(self._supervise(process, on_end))
        self._write_record()
        return process

    async def _supervise(self, process: _DetachedProcess, on_end: Callable[[Ending], None]) -> None:
        await process_ended(process.pid)
        status = process.bury()
        del self._supervisors[process]
        del self.running[process.pid]
        self._write_record()
        on_end(Ending(status=status, last_lines=tuple(self._logs.tail(process.name, _LAST_LINES))))

    def _write_record(self) -> None:
        try:
            write_processes(self._record, self.running)
        except OSError as error:
            # The instance serves on. Another controller hears of its processes by their leases.
            logger.warning("which processes run cannot be written to %s: %s", self._record, error)


class _DetachedProcess:
    """A process that this controller has started, or has taken over."""

    def __init__(self, name: str, pid: int, popen: subprocess.Popen[bytes] | None) -> None:
        self.name = name
        self._pid = pid
        self._popen = popen
        self._buried = False

    @property
    def pid(self) -> int:
        return self._pid

    def kill(self) -> None:
        if not self._buried:
            self._kill_group()

    def bury(self) -> int | None:
        """After its end: what it left in its process group is killed. The exit status; None: only a parent knows it."""
        self._kill_group()
        self._buried = True
        return None if self._popen is None else self._popen.wait()

    def _kill_group(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
