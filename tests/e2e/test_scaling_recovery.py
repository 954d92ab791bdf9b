"""A controller that is killed takes neither the replicas that calls asked for with it nor how calls are spread."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve import api, standing
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.traffic import set_traffic
from fairlead.v1 import control_pb2
from tests.e2e.autoscaling_app import Held
from tests.e2e.rollout_app import Named
from tests.e2e.stage import PATIENCE_S, Stage, wait_until

RUNNING = control_pb2.REPLICA_STATE_RUNNING


@pytest.fixture(scope="module", autouse=True)
def instance(state_directory: Path) -> Iterator[None]:
    """A standing one; each of its two gateway workers has a part of the calls."""
    serve.start(detached=True, http_options={"port": 0}, grpc_options={"port": 0}, gateways=2)
    yield
    serve.shutdown()


def replicas(name: str) -> set[int]:
    (found,) = (each for each in api.instance_status().applications if each.name == name)
    return {each.pid for each in found.deployments[0].replicas if each.state == RUNNING}


def test_the_next_controller_goes_on(stage: Stage, key: str) -> None:
    scale = {"max_replicas": 3, "target_ongoing_requests": 1, "look_back_period_s": 0.5, "upscale_delay_s": 0}
    handle = serve.run(Held.options(autoscaling_config=scale).bind(stage), name="held", route_prefix=None)
    serve.run(Named.bind("one"), name="one", route_prefix=None)
    serve.run(Named.bind("other"), name="other", route_prefix=None)
    set_traffic("one", {"other": 1.0})
    under_way = [handle.hold.remote(key) for _ in range(3)]
    wait_until(lambda: len(replicas("held")) == 3, lambda: api.instance_status())
    before = replicas("held")

    os.kill(api.instance_status().controller.pid, signal.SIGKILL)
    assert DeploymentHandle[Any]("Named", "one").remote().result(timeout_s=PATIENCE_S) == "other"
    standing.start(None)

    wait_until(lambda: serve.status().applications["held"].status == "RUNNING", lambda: api.instance_status())
    assert replicas("held") == before
    assert DeploymentHandle[Any]("Named", "one").remote().result(timeout_s=PATIENCE_S) == "other"
    set_traffic("one", {})
    assert DeploymentHandle[Any]("Named", "one").remote().result(timeout_s=PATIENCE_S) == "one"
    stage.open(key)
    assert {one.result(timeout_s=PATIENCE_S) for one in under_way} <= before
