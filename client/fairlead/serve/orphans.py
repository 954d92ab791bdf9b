"""Ending the processes of an instance whose controller was killed.

They serve on without it and keep their ports; nobody else would end them before the owner itself ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from fairlead.lifetime import PROCESSES

_POLL_S = 0.01


def end_orphans(directory: Path, patience_s: float) -> None:
    """Ends what the controller of the instance in ``directory`` has started and not ended; blocks until it has.

    They are asked to, all at once; what still runs after ``patience_s`` seconds is killed with its process group. A
    process that took over the id of one that has ended is recognized by its command line and left alone.
    """
    address = f"unix:{directory / 'controller.sock'}"
    running = [pid for pid in _recorded(directory) if _belongs(pid, address)]
    for pid in running:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    for pid in running:
        while _belongs(pid, address) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        # Also where the process itself has ended: what it had started may be left in its group.
        _kill_group(pid)
    for pid in running:
        while _belongs(pid, address):  # until its ports and sockets are free
            time.sleep(_POLL_S)


def _recorded(directory: Path) -> list[int]:
    try:
        lines = (directory / PROCESSES).read_text().split()
    except OSError:
        return []
    return [int(line) for line in lines if line.isdecimal() and int(line) > 1]


def _belongs(pid: int, address: str) -> bool:
    """Whether the process runs, and was started with the address of that controller. One that is a zombie was not."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists() and address in _listed(pid)
    return address.encode() in arguments


def _listed(pid: int) -> str:
    """The command line where there is no /proc."""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


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
