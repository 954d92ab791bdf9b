"""How much processor time a process of this machine has used: a sign of life that needs nothing of the process."""

from __future__ import annotations

import os
from pathlib import Path

_USER, _SYSTEM = 11, 12
"""Where the two times are in ``/proc/<pid>/stat``, counted behind the program's name; see proc_pid_stat(5)."""


def processor_time(pid: int) -> float | None:
    """Seconds, of all its threads; None where the system does not tell, and for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        return (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
