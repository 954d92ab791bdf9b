"""Starting and ending an instance that belongs to this process: its controller as a subprocess."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from fairlead.lifetime import process_exists
from fairlead.serve import environment, instance_services
from fairlead.serve.controller_process import ControllerProcess, check_installation
from fairlead.serve.doors import Doors
from fairlead.serve.orphans import end_orphans

logger = logging.getLogger("fairlead.serve")

_POLL_S = 0.2
_SILENT_S = 1.0
"""An end that takes longer than that says what it waits for."""
_ORPHANS_S = 5.0
"""What a controller that was killed has left behind has that long to drain."""


class OwnedInstance:
    """An instance that ends with this process. One thread at a time, except where said otherwise."""

    def __init__(self, doors: Doors) -> None:
        """Starts the controller, and does not wait for it. Raises FairleadError if the installation cannot serve."""
        check_installation()
        secrets_of_doors = doors.secrets()
        state = environment.state_directory()
        _remove_left_over(state)
        self.owner = os.getpid()
        """The process that it belongs to: a forked child of it must leave it alone."""
        self.directory = state / f"i-{self.owner}-{secrets.token_hex(2)}"
        """Holds its sockets."""
        self.directory.mkdir(mode=0o700)
        if doors.grpc is not None:
            instance_services.keep(self.directory, doors.grpc.grpc_servicer_functions)
        doors.keep(self.directory)
        self._ended = False
        self._gateways = doors.gateways
        self._controller = ControllerProcess(
            ["--directory", str(self.directory), "--owner-pid", str(self.owner), *doors.arguments()], secrets_of_doors
        )

    @property
    def address(self) -> str:
        """Where its controller listens."""
        return f"unix:{self.directory / 'controller.sock'}"

    @property
    def gateway_addresses(self) -> list[str]:
        """Where its gateway workers take calls from this user."""
        return [f"wire:{self.directory / f'gateway-{index}.wire'}" for index in range(self._gateways)]

    @property
    def alive(self) -> bool:
        """Whether its controller runs. From any thread."""
        return self._controller.popen.poll() is None

    def wait_for(self, line: str, timeout_s: float) -> None:
        """Blocks until the controller has said ``listening`` or ``ready``.

        Raises RuntimeError with the reason if it has failed instead, TimeoutError if it has said neither in time.
        """
        self._controller.wait_for(line, timeout_s)

    def raise_failure(self) -> None:
        """Raises RuntimeError with the reason if the controller has said that the instance cannot run."""
        self._controller.raise_failure()

    @property
    def failed(self) -> bool:
        """Whether :meth:`raise_failure` has said that it cannot run."""
        return self._controller.failed

    def wait(self) -> None:
        """Blocks until the controller has ended.

        In pieces of a second: a signal that comes just before a system call does not interrupt it.
        """
        if not hasattr(os, "pidfd_open"):
            while self.alive:
                time.sleep(_POLL_S)
            return
        try:
            descriptor = os.pidfd_open(self._controller.popen.pid)
        except ProcessLookupError:
            return
        try:
            while self.alive:
                select.select([descriptor], [], [], 1.0)
        finally:
            os.close(descriptor)

    @property
    def ending(self) -> str:
        """How the controller has ended by itself, in words.

        Empty while it runs, if it was told to end, and if :meth:`raise_failure` has said it already.
        """
        status = self._controller.popen.poll()
        if not status or self._ended or self.failed:
            return ""
        if status > 0:
            return f"The instance's controller has ended with exit status {status}; its log says why"
        return f"The instance's controller was ended by signal {-status} ({_signal_name(-status)})"

    def shut_down(self, timeout_s: float | None = None) -> None:
        """Drains and ends everything; blocks until it has. What takes longer than ``timeout_s`` is killed.

        Also where the controller was killed: what it has left behind has 5 s to drain. What takes longer than a second
        is said; a KeyboardInterrupt cuts it short, and is raised.
        """
        if os.getpid() != self.owner or self._ended:
            return
        self._ended = True
        try:
            if self.alive:
                self._controller.popen.send_signal(signal.SIGTERM)
            self._wait_aloud(timeout_s)
        except subprocess.TimeoutExpired:
            # The second signal ends at once.
            self._controller.popen.send_signal(signal.SIGTERM)
            self._kill_in(2.0)
        except BaseException:
            self._kill_in(2.0)
            raise
        finally:
            self._controller.close()
            end_orphans(self.directory, _ORPHANS_S if timeout_s is None else min(timeout_s, _ORPHANS_S))
            shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_aloud(self, timeout_s: float | None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._controller.popen.wait(_SILENT_S)
            return
        rest = None if timeout_s is None else max(0.0, timeout_s - _SILENT_S)
        bound = "" if rest is None else f", {rest:g} s at most"
        logger.warning("Waiting for what still runs in the instance%s; Ctrl-C ends it at once.", bound)
        self._controller.popen.wait(rest)

    def _kill_in(self, seconds: float) -> None:
        try:
            self._controller.popen.send_signal(signal.SIGTERM)
            self._controller.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._controller.popen.kill()
            self._controller.popen.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _remove_left_over(state: Path) -> None:
    """Removes the directories of instances whose owner and whose controller were both killed."""
    for directory in state.glob("i-*-*"):
        pid = directory.name.split("-")[1]
        if pid.isdigit() and not process_exists(int(pid)) and not answers(directory / "controller.sock"):
            shutil.rmtree(directory, ignore_errors=True)


def answers(path: Path) -> bool:
    """Whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
