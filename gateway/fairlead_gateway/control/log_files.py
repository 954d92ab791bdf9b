"""The files that programs of a standing instance write to: one each, bounded in size and number.

Programs write to their files themselves, not to a pipe that would break with the controller. So a file that has grown
too long is copied aside and emptied; what is written between the two is lost.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = "logs"
"""The directory of log files in an instance's directory."""
SUFFIX = ".log"
CONTROLLER = "controller"
"""The name of the controller's own file, which whoever starts it opens."""
LONGEST_BYTES = 10 * 1024 * 1024
"""A longer file is put aside, in place of the one that was put aside before."""
MOST_FILES = 200
"""So many files are kept; of more, those go first that were not written to for longest."""

_TAIL_BYTES = 16 * 1024
_PERIOD_S = 5.0


class LogFiles:
    """The log files in one directory."""

    def __init__(self, directory: Path, *, longest_bytes: int = LONGEST_BYTES, most_files: int = MOST_FILES) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._longest_bytes = longest_bytes
        self._most_files = most_files

    def path(self, name: str) -> Path:
        """The file of the program of that name."""
        return self._directory / (name.replace("/", "_").replace("\0", "_") + SUFFIX)

    def open(self, name: str) -> int:
        """A descriptor to append to a program's file; the caller closes it. Raises OSError."""
        return os.open(self.path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tail(self, name: str, lines: int) -> list[str]:
        """The last lines of a program's file; none if there is no such file."""
        try:
            with open(self.path(name), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode("utf-8", "backslashreplace").splitlines()[-lines:]
        except OSError:
            return []

    def bound(self, running: Iterable[str]) -> None:
        """Puts aside what is too long, and removes what is too much; not the files of programs that run."""
        kept = {self.path(name) for name in running}
        found: list[tuple[float, Path]] = []
        for path in self._directory.glob(f"*{SUFFIX}*"):
            status = path.stat()
            if path.suffix == SUFFIX and status.st_size > self._longest_bytes:
                shutil.copyfile(path, f"{path}.1")
                os.truncate(path, 0)
            found.append((status.st_mtime, path))
        found.sort()
        for _, path in found[: max(0, len(found) - self._most_files)]:
            if path not in kept:
                path.unlink(missing_ok=True)
                Path(f"{path}.1").unlink(missing_ok=True)

    async def keep_bounded(self, running: dict[int, str]) -> None:
        """Does so every few seconds until cancelled; ``running`` changes meanwhile."""
        while True:
            await asyncio.to_thread(self._try_to_bound, [CONTROLLER, *running.values()])
            await asyncio.sleep(_PERIOD_S)

    def _try_to_bound(self, running: list[str]) -> None:
        try:
            self.bound(running)
        except OSError:
            pass  # a full disk, or a file that was removed meanwhile: the next time
