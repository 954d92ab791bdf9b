"""An application for handles alone, with a deployment of three replicas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.api import RunTarget
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.handles.deployed import Replicated, running
from tests.e2e.handles_app import Crowd, Downstream, Exists, Ingress, Kit, Narrow, function
from tests.e2e.stage import Stage, wait_until


@pytest.fixture(scope="module")
def deployed(closed_instance: None, stage: Stage) -> Replicated:
    downstream = Downstream.bind()
    app = Ingress.bind(downstream, Kit.bind(stage, downstream), Crowd.bind(stage))
    targets = {"handles": app, "narrow": Narrow.bind(stage), "function": function.bind(), "exists": Exists.bind()}
    handles = serve.run_many(
        [RunTarget(target=target, name=name, route_prefix=None) for name, target in targets.items()]
    )
    return Replicated(handles[0])


@pytest.fixture
def ingress(deployed: Replicated) -> DeploymentHandle:
    return deployed.ingress


@pytest.fixture
def kit(deployed: Replicated) -> DeploymentHandle:
    return deployed.kit


@pytest.fixture
def crowd(deployed: Replicated) -> Iterator[DeploymentHandle]:
    """Three replicas; a test that kills some leaves them to be restarted."""
    wait_until(lambda: running("Crowd") == 3, api.status)
    yield deployed.crowd
    wait_until(lambda: running("Crowd") == 3, api.status)
