"""Runs programs without waiting for their modules each time: one process has loaded them, and forks.

What is run is a process of its own, with the environment, folder, output and exit status of one. Only the loading of
modules, most of a short program's time, is done once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sys.executable).parent / "fairlead")
"""The program itself."""
ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 180


class Typist:
    """Runs one program at a time. Ends with ``close``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.typist", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket.settimeout(PATIENCE_S)

    def __call__(self, *arguments: str, env: Mapping[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Types a ``fairlead`` command."""
        return self.run("fairlead.cli.main:main", PROGRAM, *arguments, env=env, cwd=cwd)

    def run(
        self, function: str, *arguments: str, env: Mapping[str, str], cwd: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Runs "module:function" to its end, in a program with these arguments (``sys.argv``)."""
        if self._process is None:
            self._start()
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        request = json.dumps({"run": function, "arguments": arguments, "env": dict(env), "cwd": str(cwd)}).encode()
        try:
            socket.send_fds(self._socket, [len(request).to_bytes(4, "big")], [theirs_out, theirs_err])
            self._socket.sendall(request)
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        outputs = [_Output(out), _Output(err)]
        try:
            status = int.from_bytes(_exactly(self._socket, 4), "big", signed=True)
        except BaseException:
            self._give_up()
            raise
        stdout, stderr = (output.text() for output in outputs)
        return subprocess.CompletedProcess([function, *arguments], status, stdout, stderr)

    def _give_up(self) -> None:
        """Ends what runs; the next program gets another process to fork from."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.wait(PATIENCE_S)
            self._process = None


class _Output:
    """Reads a pipe to its end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with open(self._descriptor, encoding="utf-8") as stream:
            self._text = stream.read()

    def text(self) -> str:
        """All of it, when whoever writes has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "a process that the command has left behind holds its output"
        return self._text


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _become(request: Any, out: int, err: int) -> None:
    """Makes this process the program's."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    sys.argv = request["arguments"]
    sys.path[0] = str(Path(PROGRAM).parent)
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ


def serve(connection: socket.socket) -> Callable[[], object]:
    """Forks for every request; in the child returns what it is to run. Exits when nobody asks any more."""
    while True:
        length, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        if not length:
            sys.exit()
        out, err = descriptors
        request = json.loads(_exactly(connection, int.from_bytes(length, "big")))
        module, _, name = request["run"].partition(":")
        function: Callable[[], object] = getattr(importlib.import_module(module), name)
        child = os.fork()
        if not child:
            connection.close()
            _become(request, out, err)
            return function
        os.close(out)
        os.close(err)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(status.to_bytes(4, "big", signed=True))


if __name__ == "__main__":
    from fairlead.cli.commands import COMMANDS

    for _command in COMMANDS.values():
        _command.function()  # loads what takes the time of a command
    _this = sys.modules["__main__"]  # lives on in the children
    serve(socket.socket(fileno=int(sys.argv[1])))()
