"""Knowing when another process has ended, without being its parent.

Every process of a driver-owned instance watches its owner this way and ends with it, also with one that was killed.
At the top of the package because programs need it that do not need the rest of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

PROCESSES = "processes"
"""The file in an instance's directory that says what the controller has started: a line each, id and name."""

_POLL_S = 0.2


async def process_ended(pid: int) -> None:
    """Returns when the process has ended; at once if there is none.

    On Linux by a pidfd: no polling, and no confusion with a later process of the same id. Elsewhere the process is
    looked for every 0.2 s. A process that has ended counts as ended before its parent reaps it on Linux, after it
    elsewhere. Any process may be watched, of whichever parent. Cancelling leaves nothing behind.
    """
    if not hasattr(os, "pidfd_open"):
        while process_exists(pid):  # noqa: ASYNC110 - nothing here tells of another process
            await asyncio.sleep(_POLL_S)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    try:
        loop.add_reader(descriptor, _settle, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def process_exists(pid: int) -> bool:
    """Whether there is a process with this id, of whichever user; one that its parent has not reaped counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_processes(path: Path, processes: Mapping[int, str]) -> None:
    """Writes down which processes run, by id, with their names. Whole, also if this process is killed in its midst."""
    written = path.with_suffix(".new")
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{pid} {name.encode('unicode_escape').decode()}\n" for pid, name in processes.items())
    written.replace(path)


def recorded_processes(path: Path) -> dict[int, str]:
    """What was written down, whether it still runs or not; empty if nothing was."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.partition(" ") for line in lines)
    return {
        int(pid): name.encode().decode("unicode_escape") for pid, _, name in parts if pid.isdecimal() and int(pid) > 1
    }


def runs_with(pid: int, *arguments: str) -> bool:
    """Whether the process runs and has these among its command line; one that has ended and is not reaped has none.

    That tells it from another process that took over its id.
    """
    try:
        found = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        if Path("/proc/self").exists():
            return False
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return all(argument in listed for argument in arguments)
    return all(argument.encode() in found for argument in arguments)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
