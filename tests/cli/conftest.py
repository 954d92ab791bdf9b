"""Standing instances: one per module, and none for tests that start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.typed import COUNTER, Typed, typing_in_a_directory
from tests.typist import Typist


@pytest.fixture
def fresh(typist: Typist) -> Iterator[Typed]:
    """No instance."""
    with typing_in_a_directory(typist) as typed:
        yield typed


@pytest.fixture(scope="module")
def running(typist: Typist) -> Iterator[Typed]:
    """A standing instance with two gateway workers."""
    with typing_in_a_directory(typist) as typed:
        started = typed.value("start", "--http-port", "0", "--grpc-port", "0", "--gateways", "2", "--json")
        assert len({gateway["http"] for gateway in started["gateways"]}) == 1
        yield typed
        typed.well("shutdown", "--yes")
        assert typed.processes() == []


@pytest.fixture(scope="module")
def counter(running: Typed) -> None:
    """An application that is there."""
    running.well("deploy", running.file(COUNTER))
