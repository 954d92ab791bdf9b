"""For all tests: what Hypothesis tries may take as long as a busy machine needs; ``timeout`` bounds whole tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.typist import Typist

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """What is there before the first test stays: tests that have garbage collected need not look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def typist() -> Iterator[Typist]:
    """Types commands."""
    made = Typist()
    yield made
    made.close()
