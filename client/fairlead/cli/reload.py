"""``fairlead run --reload``: what has changed is deployed again, and nothing else is restarted.

Which deployments restart is the controller's to decide: by the digest of the source files that each is made of.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairlead.cli.errors import ImportPathError
from fairlead.cli.redeploy import Redeployment
from fairlead.serve import environment

logger = logging.getLogger("fairlead.serve")

_LOOK_MS = 500
"""How often the watch looks whether it shall end, or may begin."""
_END_S = 5.0


class Reloading:
    """Watches a directory for changed Python files in a thread of its own, and redeploys after each change."""

    def __init__(self, directory: str) -> None:
        """Raises ImportPathError if watchfiles is missing."""
        try:
            self._watchfiles: Any = importlib.import_module("watchfiles")
        except ModuleNotFoundError as error:
            raise ImportPathError("--reload needs watchfiles: pip install 'fairlead[serve]'") from error
        self._directory = Path(directory).resolve()
        self._redeployment: Redeployment | None = None
        self._address = ""
        self._watching = threading.Event()
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="fairlead-reload", daemon=True)

    def start(self) -> None:
        """Starts watching, before the first file is read: what changes then is not missed."""
        self._thread.start()

    def follow(self, redeployment: Redeployment, address: str) -> None:
        """Redeploys from now on, to the controller at ``address``; also what has changed since the start."""
        self._watching.wait()
        self._address = address
        self._redeployment = redeployment

    def stop(self) -> None:
        """Ends the watch, and a deployment that is under way."""
        self._stop.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        self._thread.join(_END_S)

    def _run(self) -> None:
        files: set[str] = set()
        try:
            for changed in self._changes():
                self._watching.set()
                files |= {os.path.relpath(path, self._directory) for _, path in changed}
                if files and self._redeployment is not None:
                    self._redeploy(self._redeployment, sorted(files))
                    files.clear()
        finally:
            self._watching.set()

    def _changes(self) -> Iterator[set[tuple[Any, str]]]:
        """What has changed since the last time; nothing, now and then."""
        changes: Iterator[set[tuple[Any, str]]] = self._watchfiles.watch(
            self._directory,
            watch_filter=self._watchfiles.PythonFilter(),
            stop_event=self._stop,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        return changes

    def _redeploy(self, redeployment: Redeployment, files: list[str]) -> None:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        logger.warning("%s%s changed: deploying again", ", ".join(files[:3]), more)
        variables = {**os.environ, environment.ADDRESS: self._address}
        with subprocess.Popen(redeployment.command(), env=variables) as process:
            self._process = process
            status = process.wait()
        self._process = None
        if status and not self._stop.is_set():
            logger.error("What ran before goes on. Waiting for the next change.")


@contextlib.contextmanager
def reloading(directory: str | None) -> Iterator[Reloading | None]:
    """Watches a directory within the block, if there is one to watch."""
    if directory is None:
        yield None
        return
    watch = Reloading(directory)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
