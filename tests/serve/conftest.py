"""A handle whose process's connection leads to a fake gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairlead.serve.handle import DeploymentHandle
from tests.serve.fake_gateway import FakeGateway


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A fake gateway, which the process's connection leads to for the time of the test."""
    fake = FakeGateway()
    with fake.connected():
        yield fake


@pytest.fixture
def handle(gateway: FakeGateway) -> DeploymentHandle:
    """A handle for the fake gateway."""
    return DeploymentHandle("Echo", "app")
