"""One instance per test module: real controller, gateway worker and replicas, in a state directory of its own."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fairlead import serve
from fairlead.serve import api
from tests.e2e.stage import Stage


@dataclass(frozen=True)
class Ports:
    """Where an instance can be called from outside."""

    http: str
    """The base URL."""
    grpc: str
    """host:port."""
    trusted: str
    """The owner's Unix socket, as gRPC names it."""


@pytest.fixture(scope="module")
def state_directory() -> Iterator[Path]:
    """A short path, since those of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", name)
        for name_of_another in ("FAIRLEAD_ADDRESS", "FAIRLEAD_TOKEN"):
            patch.delenv(name_of_another, raising=False)
        yield Path(name)


@pytest.fixture(scope="module")
def closed_instance(state_directory: Path) -> Iterator[None]:
    """An instance for handles only: no ports."""
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()


@pytest.fixture(scope="module")
def ports(state_directory: Path) -> Iterator[Ports]:
    """An instance with both ports."""
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    (gateway,) = api.instance_status().gateways
    yield Ports(f"http://{gateway.http_address}", gateway.grpc_address, gateway.trusted_address)
    serve.shutdown()


@pytest.fixture
def channel(ports: Ports) -> Iterator[grpc.Channel]:
    """A connection to the gRPC port."""
    with grpc.insecure_channel(ports.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The module's deployments tell the tests through it."""
    return Stage(tmp_path_factory.mktemp("stage"))


_numbers = itertools.count(1)


@pytest.fixture
def key() -> str:
    """A name for this test's events and gates, which no other test uses."""
    return f"k{next(_numbers)}"
