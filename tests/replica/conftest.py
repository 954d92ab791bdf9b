"""What tests of calls in a replica share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.replica.calling import Stage, until
from tests.replica.model import Model


@pytest.fixture
async def model() -> Model:
    return Model()


@pytest.fixture
async def stage(model: Model) -> AsyncIterator[Stage]:
    made = Stage(model, max_ongoing_requests=3)
    yield made
    model.gate.set()
    await made.close()
    await until(lambda: made.runtime.statistics().ongoing == 0)
