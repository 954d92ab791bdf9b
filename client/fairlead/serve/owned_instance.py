"""Starting and ending an instance that belongs to this process: its controller as a subprocess."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.serve import environment
from fairlead.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.orphans import end_orphans
from fairlead.variables import HTTP_KEY_PASSWORD, TOKEN
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

_CONTROLLER = "fairlead_gateway.control"
_POLL_S = 0.2
_ORPHANS_S = 5.0
"""What a controller that was killed has left behind has that long to drain."""
_NEEDED = (
    "fairlead_gateway",
    "fairlead_replica",
    "uvicorn",
    "starlette",
    "httptools",
    "grpc_health",
    "grpc_reflection",
)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Where an instance can be called from outside this user's Unix sockets."""

    http: HTTPOptions | None = field(default_factory=HTTPOptions)
    """None: no HTTP."""
    grpc: gRPCOptions | None = field(default_factory=gRPCOptions)
    """None: no gRPC port."""
    insecure: bool = False
    """Whether doors that other hosts can reach may be open to everybody."""

    @classmethod
    def of(
        cls,
        proxy_location: ProxyLocation | str | None,
        http: HTTPOptions,
        grpc: gRPCOptions | None,
        insecure: bool,
    ) -> Doors:
        """The doors that a user's options ask for. Where proxies are disabled there is neither of them."""
        grpc = grpc or gRPCOptions()
        if grpc.grpc_servicer_functions:
            logger.warning("grpc_options: grpc_servicer_functions has no effect yet.")
        disabled = ProxyLocation.Disabled in (ProxyLocation.of(proxy_location), http.location)
        return cls(
            http=None if disabled or http.host is None else http,
            grpc=None if disabled or grpc.host is None else grpc,
            insecure=insecure,
        )

    def arguments(self) -> list[str]:
        """For the controller's command line; what follows ``--`` is for gateway workers."""
        arguments = []
        for name, door in (("http", self.http), ("grpc", self.grpc)):
            if door is None or door.host is None:
                arguments.append(f"--no-{name}")
            else:
                arguments += [f"--{name}-host", door.host, f"--{name}-port", str(door.port)]
        return [*arguments, "--", *self._worker_options()]

    def _worker_options(self) -> list[str]:
        options = ["--insecure"] if self.insecure else []
        for name, door in (("http", self.http), ("grpc", self.grpc)):
            if door is not None and door.ssl_certfile is not None and door.ssl_keyfile is not None:
                options += [f"--{name}-tls-cert", _absolute(door.ssl_certfile)]
                options += [f"--{name}-tls-key", _absolute(door.ssl_keyfile)]
                if door.ssl_ca_certs is not None:
                    options += [f"--{name}-tls-client-ca", _absolute(door.ssl_ca_certs)]
        if http := self.http:
            options += ["--http-keep-alive-timeout", str(http.keep_alive_timeout_s), "--http-root-path", http.root_path]
            if http.request_timeout_s is not None:
                options += ["--http-request-timeout", str(http.request_timeout_s)]
        if grpc := self.grpc:
            if grpc.request_timeout_s is not None:
                options += ["--grpc-request-timeout", str(grpc.request_timeout_s)]
            if not grpc.enable_reflection:
                options.append("--no-grpc-reflection")
        return options

    def secrets(self) -> dict[str, str]:
        """What goes to the processes by their environment, which only this user can read."""
        found = {TOKEN: environment.token(), HTTP_KEY_PASSWORD: self.http and self.http.ssl_keyfile_password}
        return {name: value for name, value in found.items() if value}


class OwnedInstance:
    """An instance that ends with this process. One thread at a time, except where said otherwise."""

    def __init__(self, doors: Doors) -> None:
        """Starts the controller, and does not wait for it. Raises FairleadError if the installation cannot serve."""
        _check_installation()
        secrets_of_doors = doors.secrets()
        state = environment.state_directory()
        _remove_left_over(state)
        self.owner = os.getpid()
        """The process that it belongs to: a forked child of it must leave it alone."""
        self.directory = state / f"i-{self.owner}-{secrets.token_hex(2)}"
        """Holds its sockets."""
        self.directory.mkdir(mode=0o700)
        self._said = b""
        self._ended = False
        self.failed = False
        """Whether :meth:`raise_failure` has said that it cannot run."""
        self._report, theirs = os.pipe()
        try:
            self._controller = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", _CONTROLLER),
                    *("--directory", str(self.directory)),
                    *("--owner-pid", str(self.owner)),
                    *("--ready-fd", str(theirs)),
                    *doors.arguments(),
                ],
                env={**os.environ, **secrets_of_doors},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs,),
                # Ctrl-C in a terminal is for this process, which then ends the instance in order.
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    @property
    def address(self) -> str:
        """Where its controller listens."""
        return f"unix:{self.directory / 'controller.sock'}"

    @property
    def gateway_address(self) -> str:
        """Where its gateway worker takes calls from this user."""
        return f"wire:{self.directory / 'gateway-0.wire'}"

    @property
    def alive(self) -> bool:
        """Whether its controller runs. From any thread."""
        return self._controller.poll() is None

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
                raise RuntimeError(f"the controller ended with exit status {self._controller.wait()}; see its log")

    def raise_failure(self) -> None:
        """Raises RuntimeError with the reason if the controller has said that the instance cannot run."""
        while select.select([self._report], [], [], 0)[0] and (said := os.read(self._report, 4096)):
            self._said += said
        for line in self._lines():
            if line.startswith("failed "):
                self.failed = True
                raise RuntimeError(f"Starting Fairlead failed: {line.removeprefix('failed ')}")

    def wait(self) -> None:
        """Blocks until the controller has ended.

        In pieces of a second: a signal that comes just before a system call does not interrupt it.
        """
        if not hasattr(os, "pidfd_open"):
            while self.alive:
                time.sleep(_POLL_S)
            return
        try:
            descriptor = os.pidfd_open(self._controller.pid)
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
        status = self._controller.poll()
        if not status or self._ended or self.failed:
            return ""
        if status > 0:
            return f"The instance's controller has ended with exit status {status}; its log says why"
        return f"The instance's controller was ended by signal {-status} ({_signal_name(-status)})"

    def shut_down(self, timeout_s: float | None = None) -> None:
        """Drains and ends everything; blocks until it has. What takes longer than ``timeout_s`` is killed.

        Also where the controller was killed: what it has left behind has 5 s to drain.
        """
        if os.getpid() != self.owner or self._ended:
            return
        self._ended = True
        try:
            if self.alive:
                self._controller.send_signal(signal.SIGTERM)
            self._controller.wait(timeout_s)
        except subprocess.TimeoutExpired:
            # The second signal ends at once.
            self._controller.send_signal(signal.SIGTERM)
            self._kill_in(2.0)
        except BaseException:
            self._kill_in(2.0)
            raise
        finally:
            os.close(self._report)
            end_orphans(self.directory, _ORPHANS_S if timeout_s is None else min(timeout_s, _ORPHANS_S))
            shutil.rmtree(self.directory, ignore_errors=True)

    def _kill_in(self, seconds: float) -> None:
        try:
            self._controller.send_signal(signal.SIGTERM)
            self._controller.wait(seconds)
        except subprocess.TimeoutExpired:
            self._controller.kill()
            self._controller.wait()

    def _lines(self) -> list[str]:
        return self._said.decode(errors="replace").splitlines()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _absolute(path: str) -> str:
    """Of a file's path, also if this program changes its directory before a gateway worker is started again."""
    return os.path.abspath(path)


def _check_installation() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise FairleadError(
            f"this installation of Fairlead is the light client ({', '.join(missing)} missing) and cannot start an "
            f"instance: run `pip install 'fairlead[serve]'`, or set FAIRLEAD_ADDRESS to one that runs"
        )


def _remove_left_over(state: Path) -> None:
    """Removes the directories of instances whose owner and whose controller were both killed."""
    for directory in state.glob("i-*-*"):
        pid = directory.name.split("-")[1]
        if pid.isdigit() and not _exists(int(pid)) and not answers(directory / "controller.sock"):
            shutil.rmtree(directory, ignore_errors=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def answers(path: Path) -> bool:
    """Whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
