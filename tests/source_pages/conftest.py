"""One instance per module, as the source pages' readers have one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.classic import Client
from tests.e2e.conftest import state_directory as state_directory


@dataclass(frozen=True)
class Classic:
    """The instance of the classic pages."""

    client: Client
    url: str

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.send("GET", path, **options)

    def send(self, method: str, path: str, **options: object) -> httpx.Response:
        return httpx.request(method, self.url + path, trust_env=False, timeout=30, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def classic(state_directory: Path) -> Iterator[Classic]:
    """Started as the page on HTTP middlewares does it, at a free port."""
    client = serve.start(
        http_options={"port": 0, "middlewares": [Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])]},
        grpc_options={"port": 0},
    )
    (gateway,) = api.instance_status().gateways
    yield Classic(client, f"http://{gateway.http_address}")
    serve.shutdown()


def run(program: str, directory: Path) -> list[str]:
    """The lines that a program prints, which has an instance of its own."""
    start = "import os\nimport fairlead as ray\nfrom fairlead import serve\nfrom fairlead.serve import api\n"
    done = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(program)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "FAIRLEAD_STATE_DIR": str(directory / "s")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
