"""For all tests: what Hypothesis tries may take as long as a busy machine needs; ``timeout`` bounds whole tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.typist import Typist

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def typist() -> Iterator[Typist]:
    """Types commands."""
    made = Typist()
    yield made
    made.close()
