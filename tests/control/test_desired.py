"""What is refused before it is anybody's goal."""

import pytest

from fairlead.v1 import control_pb2
from fairlead.wire.errors import DeployFailedError, InvalidCallError
from tests.control.application_specs import application, deployment


def test_a_prefix_belongs_to_one_application(world):
    world.deploy(name="a")
    with pytest.raises(DeployFailedError, match='Prefix / is being used by application "a"'):
        world.deploy(name="b")
    world.deploy(name="b", route_prefix="/b")
    world.deploy(name="c", route_prefix=None)
    world.deploy(name="d", route_prefix=None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (application(name=""), "needs a name"),
        (application(deployment(), deployment()), "each its own"),
        (control_pb2.ApplicationSpec(name="a", ingress_deployment="X"), "no deployment 'X'"),
        (application(deployment(num_replicas=0)), "at least 1"),
        (application(deployment(code=None)), "no code"),
    ],
)
def test_nonsense_is_refused(world, spec, message):
    with pytest.raises(InvalidCallError, match=message):
        world.accept(spec)
    assert not world.core.desired.applications
