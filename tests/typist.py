"""Types ``fairlead`` commands without waiting for its modules each time: one process has loaded them, and forks.

What is typed runs as the program does: a process of its own, with the environment, folder, output and exit status of
one. Only the loading of modules, most of a short command's time, is done once.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sys.executable).parent / "fairlead")
"""The program itself."""
ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 90


class Typist:
    """Types one command at a time. Ends with ``close``."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.typist", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket.settimeout(PATIENCE_S)

    def __call__(self, *arguments: str, env: Mapping[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Runs ``fairlead`` with these arguments to its end."""
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        request = json.dumps({"arguments": arguments, "env": dict(env), "cwd": str(cwd)}).encode()
        try:
            socket.send_fds(self._socket, [len(request).to_bytes(4, "big")], [theirs_out, theirs_err])
            self._socket.sendall(request)
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        outputs = [_Output(out), _Output(err)]
        try:
            status = int.from_bytes(_exactly(self._socket, 4), "big", signed=True)
        except TimeoutError:
            self._process.kill()
            raise
        stdout, stderr = (output.text() for output in outputs)
        return subprocess.CompletedProcess(["fairlead", *arguments], status, stdout, stderr)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(PATIENCE_S)


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


def _type(request: Any, out: int, err: int) -> None:
    """Becomes what was typed."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    sys.argv = [PROGRAM, *request["arguments"]]
    sys.path[0] = str(Path(PROGRAM).parent)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ


def serve(connection: socket.socket) -> None:
    """Forks for every request; returns in the child. Exits when nobody types any more."""
    while True:
        length, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        if not length:
            sys.exit()
        out, err = descriptors
        request = json.loads(_exactly(connection, int.from_bytes(length, "big")))
        child = os.fork()
        if not child:
            connection.close()
            _type(request, out, err)
            return
        os.close(out)
        os.close(err)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(status.to_bytes(4, "big", signed=True))


if __name__ == "__main__":
    import fairlead.cli.commands  # noqa: F401 - what takes the time
    from fairlead.cli.main import main

    serve(socket.socket(fileno=int(sys.argv[1])))
    main()
