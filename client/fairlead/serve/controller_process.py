"""A controller that this process has started, and what it says of itself until it serves."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.wire.errors import FairleadError

MODULE = "fairlead_gateway.control"
"""What a controller runs."""
_NEEDED = (
    "fairlead_gateway",
    "fairlead_replica",
    "uvicorn",
    "starlette",
    "httptools",
    "websockets",
    "grpc_health",
    "grpc_reflection",
)


_CANNOT_LISTEN = "cannot listen on "
"""How a gateway worker's reason begins if a host or a port is not to be had."""


class ListenError(RuntimeError, ValueError):
    """The instance cannot start since it cannot listen where its options say: that is the options' fault, too."""


class ControllerProcess:
    """The process, and the pipe that it reports on. One thread at a time."""

    def __init__(
        self, arguments: Sequence[str], secrets: Mapping[str, str], *, log: int | None = None, cwd: Path | None = None
    ) -> None:
        """Starts it, and does not wait for it. ``log``: a descriptor for its output; None: this process's stderr."""
        self.failed = False
        """Whether :meth:`raise_failure` has said that the instance cannot run."""
        self._said = b""
        self._report, theirs = os.pipe()
        try:
            self.popen = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, "--ready-fd", str(theirs), *arguments],
                env={**os.environ, **secrets},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if log is None else log,
                stderr=log,
                pass_fds=(theirs,),
                cwd=cwd,
                # Ctrl-C in a terminal is for this process, which then ends the instance in order.
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def wait_for(self, line: str, timeout_s: float) -> None:
        """Blocks until the controller has said ``listening`` or ``ready``.

        Raises RuntimeError with the reason if it has failed instead, TimeoutError if it has said neither in time.
        """
        deadline = time.monotonic() + timeout_s
        while line not in self._lines():
            self.raise_failure()
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self._report], [], [], remaining)[0]:
                raise TimeoutError(f"the controller was not {line} within {timeout_s:g} s")
            said = os.read(self._report, 4096)
            self._said += said
            if not said:
                self.raise_failure()
                if line in self._lines():
                    return
                status = self.popen.wait()
                raise RuntimeError(f"the controller ended with exit status {status}; see its log")

    def raise_failure(self) -> None:
        """Raises RuntimeError with the reason if the controller has said that the instance cannot run.

        It is a ListenError if the reason is an address.
        """
        while select.select([self._report], [], [], 0)[0] and (said := os.read(self._report, 4096)):
            self._said += said
        for line in self._lines():
            if line.startswith("failed "):
                self.failed = True
                reason = line.removeprefix("failed ")
                kind = ListenError if reason.startswith(_CANNOT_LISTEN) else RuntimeError
                raise kind(f"Starting Fairlead failed: {reason}") from None  # a lost connection is no reason

    def close(self) -> None:
        """Hears no more of it."""
        os.close(self._report)

    def _lines(self) -> list[str]:
        return self._said.decode(errors="replace").splitlines()


def check_installation() -> None:
    """Raises FairleadError if this installation is the light client."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise FairleadError(
            f"this installation of Fairlead is the light client ({', '.join(missing)} missing) and cannot start an "
            f"instance: run `pip install 'fairlead[serve]'`, or set FAIRLEAD_ADDRESS to one that runs"
        )
