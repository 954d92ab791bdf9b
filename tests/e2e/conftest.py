"""One instance per test module: real controller, gateway worker and replicas, in a state directory of its own."""

from __future__ import annotations

import importlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from fairlead import serve
from fairlead.serve import api
from tests.e2e.stage import Stage
from tests.edge.typed.schema import generate


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


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The library's generated modules, importable here and, since it is this program's sys.path, in replicas."""
    directory = tmp_path_factory.mktemp("generated")
    generate(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        yield importlib.import_module("library_pb2"), importlib.import_module("library_pb2_grpc")
        for name in ("library_pb2", "library_pb2_grpc", "tests.e2e.typed_app"):
            sys.modules.pop(name, None)
