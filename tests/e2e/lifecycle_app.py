"""What test_lifecycle.py starts and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from fairlead import serve
from tests.e2e.stage import Stage


@serve.deployment(max_ongoing_requests=10, graceful_shutdown_timeout_s=0.5)
class Echo:
    def __init__(self, version: int = 1) -> None:
        self.version = version

    def __call__(self) -> str:
        return f"version {self.version}"

    def pid(self) -> int:
        return os.getpid()

    def spin(self) -> None:
        print("spinning", flush=True)
        while True:
            pass

    def leave_a_child(self) -> int:
        """A process that nobody ends."""
        return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid


@serve.deployment(max_ongoing_requests=10)
class Held:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __call__(self) -> str:
        return "here"

    async def hold(self, key: str) -> str:
        self.stage.note(f"held {key}")
        await self.stage.pass_gate(key)
        return key

    def __del__(self) -> None:
        self.stage.note("destroyed")


app = Echo.bind()


def build(arguments: dict[str, str]) -> Any:
    return Echo.bind(int(arguments["version"]))


not_an_app = 5
