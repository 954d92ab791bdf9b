"""Multiplexed models against real processes: every door, two replicas."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc
import pytest

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from fairlead.wire.errors import DeadlineExceededError, InvalidCallError
from tests.e2e.conftest import Ports
from tests.e2e.multiplexing_app import Models
from tests.e2e.stage import Stage

LIMIT_S = 60


@pytest.fixture
def models(ports: Ports, stage: Stage, key: str) -> Iterator[DeploymentHandle]:
    yield serve.run(Models.bind(stage), name=key, route_prefix=f"/{key}")
    serve.delete(key)


def ask(models: DeploymentHandle, model_id: str) -> tuple[str, str]:
    """The model that answered, and the replica."""
    model, _, replica = models.options(multiplexed_model_id=model_id).remote().result(timeout_s=LIMIT_S).partition(" ")
    return model, replica


def test_each_door_finds_the_replica_that_has_the_model(
    models: DeploymentHandle, ports: Ports, channel: grpc.Channel, key: str, stage: Stage
) -> None:
    homes = {}
    for model_id in (f"{key}a", f"{key}b"):
        model, homes[model_id] = ask(models, model_id)
        assert model == model_id
    assert len(set(homes.values())) == 2  # the second one went where there were fewer
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    for model_id, home in homes.items():
        for _ in range(5):
            assert ask(models, model_id) == (model_id, home)
            request = urllib.request.Request(f"{ports.http}/{key}", headers={"serve_multiplexed_model_id": model_id})
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                assert answer.read().decode() == f"{model_id} {home}"
            target = serving_pb2.Target(application=key, multiplexed_model_id=model_id)
            result = stub.Call(serving_pb2.CallRequest(target=target), timeout=LIMIT_S)
            assert json.loads(result.payload.data) == f"{model_id} {home}"
    assert [event for event in stage.events() if event.startswith(f"load {key}")] == [f"load {key}a", f"load {key}b"]


def test_followers_go_where_the_model_is_being_loaded(models: DeploymentHandle, key: str, stage: Stage) -> None:
    model_id = f"slow-{key}"
    of_model = models.options(multiplexed_model_id=model_id)
    responses = [of_model.remote() for _ in range(8)]
    stage.wait_for(f"load {model_id}")
    responses += [of_model.remote() for _ in range(2)]
    ask(models, f"{key}-other")  # another model loads meanwhile
    stage.open(model_id)
    assert len({response.result(timeout_s=LIMIT_S) for response in responses}) == 1
    assert stage.events().count(f"load {model_id}") == 1


def test_models_are_evicted_and_at_the_end_unloaded(models: DeploymentHandle, key: str, stage: Stage) -> None:
    ids = [f"{key}-{number}" for number in range(5)]
    for model_id in ids:
        assert ask(models, model_id)[0] == model_id
    evicted = [event for event in stage.events() if event.startswith(f"unloaded {key}-")]
    assert len(evicted) == 1
    serve.delete(key)
    for model_id in ids:
        stage.wait_for(f"unloaded {model_id}")
    assert len([event for event in stage.events() if event.startswith(f"unloaded {key}-")]) == 5


def test_a_load_that_fails_fails_its_caller_alone(models: DeploymentHandle, key: str) -> None:
    with pytest.raises(ValueError, match="no weights"):
        ask(models, "broken")
    assert ask(models, key)[0] == key


def test_a_call_that_names_no_model(
    models: DeploymentHandle, ports: Ports, channel: grpc.Channel, key: str, stage: Stage
) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        models.remote().result(timeout_s=LIMIT_S)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{ports.http}/{key}", timeout=LIMIT_S)
    with refused.value as answer:
        assert (answer.code, "must not be empty" in json.load(answer)["message"]) == (400, True)
    with pytest.raises(grpc.RpcError, match="must not be empty") as failed:
        request = serving_pb2.CallRequest(target=serving_pb2.Target(application=key))
        serving_pb2_grpc.ServingServiceStub(channel).Call(request, timeout=LIMIT_S)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_loader_that_hangs_meets_its_callers_deadline(models: DeploymentHandle, key: str, stage: Stage) -> None:
    of_model = models.options(multiplexed_model_id=f"slow-{key}", timeout_s=0.3)
    with pytest.raises(DeadlineExceededError):
        of_model.remote().result(timeout_s=LIMIT_S)
    for number in range(4):  # every place is free for others
        assert ask(models, f"{key}-{number}")[0] == f"{key}-{number}"


def test_a_model_id_that_is_huge(models: DeploymentHandle, key: str) -> None:
    for length in (1_025, 100_000):
        with pytest.raises((InvalidCallError, ValueError), match=r"(?i)limit"):
            models.options(multiplexed_model_id="m" * length).remote().result(timeout_s=LIMIT_S)
    longest = f"{key}-" + "m" * (1_024 - len(key) - 1)
    assert ask(models, longest)[0] == longest
