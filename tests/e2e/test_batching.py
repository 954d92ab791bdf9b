"""Batches in a real replica: filled by calls of many callers, with the slots that a deployment gets by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fairlead import serve
from fairlead.serve.exceptions import RequestCancelledError
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.batching_app import Model, shout
from tests.e2e.stage import Stage

LIMIT_S = 60


@pytest.fixture
def model(closed_instance: None, stage: Stage) -> Iterator[DeploymentHandle]:
    config = {"size": 8, "wait_s": 20}
    yield serve.run(Model.options(user_config=config).bind(stage), name="model", route_prefix=None)
    serve.delete("model")


def test_a_batch_fills_and_everybody_gets_their_row(model: DeploymentHandle, stage: Stage, key: str) -> None:
    stage.open(key)
    rows = [np.full(4, float(number)) for number in range(8)]
    responses = [model.remote(row, key) for row in rows]
    for row, response in zip(rows, responses, strict=True):
        assert np.array_equal(response.result(timeout_s=LIMIT_S), row)
    assert stage.events().count(f"{key} batch of 8") == 1
    (batch,) = model.about.remote().result(timeout_s=LIMIT_S)
    assert batch["own"].request_id == ""
    assert len({context.request_id for context in batch["callers"]} - {""}) == 8


def test_a_cancelled_caller_is_dropped(model: DeploymentHandle, stage: Stage, key: str) -> None:
    stage.open(key)
    row = np.ones(4)
    gone = model.remote(row, key)
    stage.wait_for(f"{key} came")
    gone.cancel()
    with pytest.raises(RequestCancelledError):
        gone.result(timeout_s=LIMIT_S)
    for response in [model.remote(row, key) for _ in range(8)]:
        assert np.array_equal(response.result(timeout_s=LIMIT_S), row)
    assert [event for event in stage.events() if event.startswith(f"{key} batch")] == [f"{key} batch of 8"]


def test_limits_change_while_it_runs(model: DeploymentHandle, stage: Stage, key: str) -> None:
    stage.open(key)
    assert model.size.remote().result(timeout_s=LIMIT_S) == 8
    changed = Model.options(user_config={"size": 1, "wait_s": 20}).bind(stage)
    handle = serve.run(changed, name="model", route_prefix=None)
    assert handle.size.remote().result(timeout_s=LIMIT_S) == 1
    assert np.array_equal(handle.remote(np.ones(4), key).result(timeout_s=LIMIT_S), np.ones(4))


def test_streams(model: DeploymentHandle) -> None:
    short, long = (model.options(stream=True).count.remote(end) for end in (2, 4))
    assert (list(short), list(long)) == ([0, 1], [0, 1, 2, 3])


def test_a_function(closed_instance: None) -> None:
    handle = serve.run(shout.bind(), name="shout", route_prefix=None)
    responses = [handle.remote(word) for word in "abc"]
    assert [response.result(timeout_s=LIMIT_S) for response in responses] == ["a! (3)", "b! (3)", "c! (3)"]
