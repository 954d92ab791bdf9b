"""What a deploy looks like while one waits for it: a line on stderr for each change.

Lines, and nothing that moves the cursor: replicas write to the same terminal by way of their controller.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Self, TextIO

from fairlead.serve.status import deployment_status
from fairlead.v1 import control_pb2

QUIET_S = 1.0
"""A deploy that takes no longer than that says nothing where stderr is no terminal."""

_COLOURS = {"HEALTHY": "32", "UNHEALTHY": "31", "DEPLOY_FAILED": "31"}


class Progress:
    """Shows the states of one application's deployments as they come. A context manager."""

    def __init__(self, stream: TextIO | None = None, *, quiet_s: float = QUIET_S) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._timer = threading.Timer(quiet_s, self._speak)
        self._timer.daemon = True
        self._speaking = self._is_terminal()
        self._started = time.monotonic()
        self._latest: control_pb2.ApplicationStatus | None = None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if not self._speaking:
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def show(self, application: control_pb2.ApplicationStatus) -> None:
        """Writes what has changed: on a terminal at once, elsewhere once the deploy has taken a while."""
        with self._lock:
            self._latest = application
            if self._speaking:
                self._write_changes(application)

    def _speak(self) -> None:
        with self._lock:
            self._speaking = True
            if self._latest is not None:
                self._write_changes(self._latest)

    def _write_changes(self, application: control_pb2.ApplicationStatus) -> None:
        for deployment in application.deployments:
            line = self._line(deployment)
            if self._shown.get(deployment.name) != line:
                self._shown[deployment.name] = line
                self._write(f"{application.name}/{deployment.name}  {line}")
        if application.state == control_pb2.APPLICATION_STATE_RUNNING:
            self._write(f"{application.name} is running after {time.monotonic() - self._started:.1f} s")

    def _line(self, deployment: control_pb2.DeploymentStatus) -> str:
        running = sum(replica.state == control_pb2.REPLICA_STATE_RUNNING for replica in deployment.replicas)
        state = deployment_status(deployment.state).value
        if self._is_terminal() and state in _COLOURS:
            state = f"\x1b[{_COLOURS[state]}m{state}\x1b[0m"
        line = f"{running}/{deployment.target_replicas} replicas  {state}"
        # The end of a traceback says what is wrong.
        reason = _in_a_line(deployment.message)
        return f"{line}  {reason}" if reason else line

    def _is_terminal(self) -> bool:
        return self._stream.isatty()

    def _write(self, line: str) -> None:
        print(f"fairlead: {line}", file=self._stream, flush=True)


def _in_a_line(message: str) -> str:
    """Of a traceback its last line, else the first: after it comes what a process wrote last."""
    told = message.strip().rpartition(" Error:\n")[2]
    return told.rpartition("\n")[2] if "Traceback" in told else told.partition("\n")[0]
