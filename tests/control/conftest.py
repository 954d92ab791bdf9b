"""What tests of the controller's decisions share."""

import pytest

from tests.control.world import World


@pytest.fixture
def world():
    return World()
