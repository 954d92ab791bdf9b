"""Ending the processes of an instance whose controller was killed.

They serve on without it and keep their ports; nobody else would end them before the owner itself ends.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fairlead.lifetime import PROCESSES, recorded_processes, runs_with

_POLL_S = 0.01


def end_orphans(directory: Path, patience_s: float) -> None:
    """Ends what the controller of the instance in ``directory`` has started and not ended; blocks until it has.

    They are asked to, all at once; what still runs after ``patience_s`` seconds is killed with its process group. A
    process that took over the id of one that has ended is recognized by its command line and left alone.
    """
    address = f"unix:{directory / 'controller.sock'}"
    running = [pid for pid in recorded_processes(directory / PROCESSES) if runs_with(pid, address)]
    for pid in running:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    for pid in running:
        while runs_with(pid, address) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        # Also where the process itself has ended: what it had started may be left in its group.
        _kill_group(pid)
    for pid in running:
        while runs_with(pid, address):  # until its ports and sockets are free
            time.sleep(_POLL_S)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
