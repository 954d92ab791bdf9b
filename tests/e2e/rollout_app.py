"""What test_rollout.py updates, freezes and spreads."""

from __future__ import annotations

import os
import time
from typing import Any

from fairlead import serve
from fairlead.serve.exceptions import RayServeException
from fairlead.serve.handle import DeploymentHandle


@serve.deployment(num_replicas=2, max_ongoing_requests=20)
class Versioned:
    """Answers with what it was made and configured with."""

    def __init__(self, version: int) -> None:
        if version < 0:
            raise ValueError("a bad release")
        self.version = version
        self.config: dict[str, Any] = {}

    def reconfigure(self, config: dict[str, Any]) -> None:
        if "fail" in config:
            raise ValueError("a bad configuration")
        self.config = config

    async def __call__(self) -> dict[str, Any]:
        return {"version": self.version, "config": self.config, "pid": os.getpid()}

    async def steps(self) -> Any:
        for step in range(3):
            yield step

    async def spin(self, seconds: float) -> int:
        """Blocks the loop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        return os.getpid()

    async def hold_the_lock(self, size: int) -> int:
        """Blocks every thread of the process, in a single step of C code."""
        sum(range(size))
        return os.getpid()


FLAVOUR = os.environ.get("FLAVOUR")
"""As it is when this module is imported."""


@serve.deployment
class Flavoured:
    """Answers with the environment that it was imported and made in."""

    def __init__(self) -> None:
        self.flavour = os.environ.get("FLAVOUR")

    async def __call__(self) -> tuple[str | None, str | None]:
        return FLAVOUR, self.flavour


@serve.deployment
class Named:
    """Answers with a name; remembers how often it was called."""

    def __init__(self, name: str, path: str = "") -> None:
        self.name = name
        self.path = path

    async def __call__(self) -> str:
        if self.path:
            with open(self.path, "a") as file:
                file.write("x")
        if self.name == "broken":
            raise RayServeException("broken")
        return self.name


@serve.deployment(max_ongoing_requests=50)
class Front:
    """Answers with its process and what the deployment behind it says."""

    def __init__(self, behind: DeploymentHandle[Any]) -> None:
        self.behind = behind

    async def __call__(self) -> dict[str, Any]:
        return {"front": os.getpid(), **(await self.behind.remote())}


class _Sick:
    """Sick, if a file names its process, or all of them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def look(self) -> None:
        if os.path.exists(self.path):
            with open(self.path) as file:
                if file.read() in ("all", str(os.getpid())):
                    raise RuntimeError("I am sick")

    async def __call__(self) -> int:
        return os.getpid()


@serve.deployment
class Checked(_Sick):
    async def check_health(self) -> None:
        self.look()


@serve.deployment
class CheckedSynchronously(_Sick):
    def check_health(self) -> None:
        self.look()


class _Base(_Sick):
    def check_health(self) -> None:
        self.look()


@serve.deployment
class CheckedByInheritance(_Base):
    pass
