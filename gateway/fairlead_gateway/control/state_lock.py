"""One controller for one state: who holds the lock of a state directory may use what is in it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

FILE = "lock"
"""The name of the lock file in an instance's directory."""

_PATIENCE_S = 1.0
"""A controller that has been told to end has that long to do so."""
_POLL_S = 0.02


class StateLockedError(Exception):
    """Another controller uses the state. One line, with its process id."""


class StateLock:
    """Held from its making until :meth:`release`, or the end of the process, however that comes."""

    def __init__(self, directory: Path) -> None:
        """Raises StateLockedError; OSError if the directory cannot be written to."""
        path = directory / FILE
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take()
        except BlockingIOError as error:
            holder = path.read_text().strip() or "another one"
            os.close(self._descriptor)
            raise StateLockedError(
                f"a controller, process {holder}, uses the state in {directory} already; `fairlead status` shows what "
                f"it runs, `fairlead shutdown` ends it"
            ) from error
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _take(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def release(self) -> None:
        """Lets others have it."""
        os.close(self._descriptor)
