"""For all tests: what Hypothesis and HTTP clients do may take as long as a busy machine needs; tests are bounded."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings

from tests.typist import Typist

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
for part in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, part, 60.0)

LONGEST_FIRST = (
    "tests/cli/",
    "tests/test_docs.py",
    "tests/serve/test_instance.py",
    "tests/e2e/",
    "tests/source_pages/",
    "tests/replica/test_replica.py",
    "tests/wire/",
)
"""Where files take long, most of them because they start processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker has one left when the others have nothing to do any more."""

    def place(item: pytest.Item) -> int:
        return next((at for at, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=place)


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
