"""Handles against real processes: every row of the source page, and what users of Ray Serve rely on beside it."""

from __future__ import annotations

import asyncio
import collections
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.api import RunTarget
from fairlead.serve.exceptions import (
    BackPressureError,
    CardinalityError,
    DeadlineExceededError,
    DeploymentUnavailableError,
    MethodNotFoundError,
    RayServeException,
    ReplicaUnavailableError,
    ResultNotSerializableError,
    UserExceptionError,
)
from fairlead.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)
from tests.e2e import handles_app
from tests.e2e.handles_app import BLOCK, Crowd, Downstream, Exists, Ingress, Kit, Narrow, OutOfTune, function
from tests.e2e.printed import without_progress
from tests.e2e.stage import Stage, wait_until

SERIALIZATIONS = ("cloudpickle", "pickle", "msgpack", "orjson")
LIMIT_S = 60
BUFFERED = 2 * 1024 * 1024
"""Bytes that may be on their way between a generator and a reader that stops: credit of three hops, and pipes."""


class Replicated:
    """What one replica runs may be asked for by name: ``deployed.kit`` and so on."""

    def __init__(self, ingress: DeploymentHandle) -> None:
        self.ingress = ingress
        self.kit = serve.get_deployment_handle("Kit", "handles")
        self.crowd = serve.get_deployment_handle("Crowd", "handles")
        self.narrow = serve.get_app_handle("narrow")
        self.function = serve.get_app_handle("function")
        self.exists = serve.get_app_handle("exists")


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


def running(deployment: str, app: str = "handles") -> int:
    return api.status().applications[app].deployments[deployment].replica_states.get("RUNNING", 0)


def result(response: DeploymentResponse) -> Any:
    return response.result(timeout_s=LIMIT_S)


class TestSourcePage:
    """Rows A1 to A30 of the classic page's table. A9, the whole sample, is in test_source_page.py."""

    def test_a1_names(self) -> None:
        from fairlead.serve import handle

        for name in (
            "DeploymentHandle",
            "DeploymentResponse",
            "DeploymentResponseGenerator",
            "DeploymentBroadcastResponse",
        ):
            assert isinstance(getattr(handle, name), type)

    def test_a2_one_class_for_drivers_and_deployments(self, ingress: DeploymentHandle) -> None:
        assert isinstance(ingress, DeploymentHandle)
        assert set(result(ingress.types_of_arguments.remote())) == {"DeploymentHandle"}

    def test_a3_a_class_without_call(self, deployed: Replicated) -> None:
        downstream = serve.get_deployment_handle("Downstream", "handles")
        assert result(downstream.say_hi.remote("x")) == "Hello x!"
        with pytest.raises(MethodNotFoundError, match=r"'__call__'.*\['say_hi'\]"):
            result(downstream.remote("x"))

    def test_a4_bound_deployments_arrive_as_handles(self, ingress: DeploymentHandle) -> None:
        assert result(ingress.types_of_arguments.remote()) == ["DeploymentHandle"] * 3

    def test_a5_run_returns_when_it_serves(self, deployed: Replicated) -> None:
        handle = serve.run(Exists.bind(), name="a5", route_prefix=None)
        assert result(handle.exists.remote()) == 1
        serve.delete("a5")

    def test_a6_remote_returns_a_response_at_once(self, ingress: DeploymentHandle) -> None:
        assert result(ingress.type_of_response.remote()) == "DeploymentResponse"

    def test_a7_await_gives_the_value(self, ingress: DeploymentHandle) -> None:
        assert result(ingress.remote("world")) == "Hello world!"

    def test_a8_result_gives_the_value(self, ingress: DeploymentHandle) -> None:
        assert ingress.remote("world").result() == "Hello world!"

    def test_a10_options_makes_an_updated_copy(self, kit: DeploymentHandle) -> None:
        other = kit.options(method_name="other_method")
        assert result(kit.remote()) == "called"
        assert result(other.remote()) == "other"
        assert result(other.options(stream=False).remote()) == "other"
        with pytest.raises(TypeError):
            kit.options("other_method")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no_such_option"):
            kit.options(no_such_option=1)

    def test_a11_method_name(self, kit: DeploymentHandle) -> None:
        assert result(kit.options(method_name="other_method").remote()) == result(kit.other_method.remote()) == "other"

    def test_a12_multiplexed_model_id(self, kit: DeploymentHandle, crowd: DeploymentHandle) -> None:
        assert result(kit.options(method_name="model_id", multiplexed_model_id="model:v1").remote()) == "model:v1"
        assert result(kit.model_id.remote()) == ""
        of_model = crowd.options(multiplexed_model_id="model:v1")
        assert len({result(of_model.whoami.remote()) for _ in range(10)}) == 1

    def test_a13_stream(self, kit: DeploymentHandle) -> None:
        streaming = kit.options(stream=True)
        items = streaming.count.remote(3)
        assert type(items) is DeploymentResponseGenerator
        assert list(items) == [0, 1, 2]
        assert list(streaming.acount.remote(3)) == [0, 1, 2]

        async def read() -> list[int]:
            return [item async for item in streaming.count.remote(3)]

        assert asyncio.run(read()) == [0, 1, 2]

    @pytest.mark.parametrize("value", [True, False])
    def test_a14_use_new_handle_api(self, kit: DeploymentHandle, value: bool) -> None:
        assert result(kit.options(use_new_handle_api=value).remote()) == "called"

    @pytest.mark.parametrize("value", [True, False])
    def test_a15_prefer_local_routing(self, kit: DeploymentHandle, value: bool) -> None:
        assert result(kit.options(_prefer_local_routing=value).remote()) == "called"

    def test_a16_by_reference(self, kit: DeploymentHandle) -> None:
        with pytest.warns(UserWarning, match="_by_reference=True has no effect"):
            by_reference = kit.options(_by_reference=True)
        assert result(by_reference.remote()) == result(kit.options(_by_reference=False).remote()) == "called"

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_a17_request_serialization(self, kit: DeploymentHandle, name: str) -> None:
        value = {"a": [1, 2.5, "x", None, True]}
        chosen = kit.options(request_serialization=name)
        assert result(chosen.echo.remote(value)) == value
        assert result(chosen.options(request_serialization=name.upper()).echo.remote(value)) == value
        call = chosen.call.remote(lambda: 5)
        if name == "cloudpickle":
            assert result(call) == 5
        else:
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                result(call)
        with pytest.raises(ValueError, match="cloudpickle, pickle, msgpack, orjson"):
            kit.options(request_serialization="yaml")

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_a18_response_serialization(self, kit: DeploymentHandle, name: str) -> None:
        value = {"a": [1, 2.5, "x", None, True]}
        chosen = kit.options(response_serialization=name)
        assert result(chosen.echo.remote(value)) == value
        call = chosen.make_lambda.remote()
        if name == "cloudpickle":
            assert result(call)() == 5
        else:
            with pytest.raises(ResultNotSerializableError, match=r"make_lambda.*function"):
                result(call)
        with pytest.raises(ValueError, match="cloudpickle, pickle, msgpack, orjson"):
            kit.options(response_serialization="yaml")

    def test_a17_a18_all_mixtures(self, kit: DeploymentHandle) -> None:
        value = {"a": [1, 2.5, "x", None, True]}
        for request in SERIALIZATIONS:
            for response in SERIALIZATIONS:
                mixed = kit.options(request_serialization=request, response_serialization=response)
                assert result(mixed.echo.remote(value)) == value, (request, response)

    def test_a19_two_options_at_once(self, kit: DeploymentHandle) -> None:
        response = kit.options(method_name="other_method", multiplexed_model_id="model:v1").remote()
        assert type(response) is DeploymentResponse
        assert result(response) == "other"

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_a20_arguments_arrive_unchanged(self, kit: DeploymentHandle, name: str) -> None:
        chosen = kit.options(request_serialization=name)
        assert result(chosen.seen.remote(1, 2, 3, 4, d=5, e=6)) == [1, 2, [3, 4], {"d": 5, "e": 6}]
        assert result(chosen.seen.remote("x", b=None)) == ["x", None, [], {}]
        assert result(chosen.seen.remote(a=1)) == [1, 0, [], {}]

    def test_a22_the_users_exception(self, kit: DeploymentHandle) -> None:
        with pytest.raises(ValueError, match="boom"):
            result(kit.fail.remote("value"))

        async def call() -> None:
            await kit.fail.remote("value")

        with pytest.raises(ValueError, match="boom"):
            asyncio.run(call())

    def test_a21_a23_a_response_as_an_argument(self, ingress: DeploymentHandle, kit: DeploymentHandle) -> None:
        one = kit.echo.remote(1)
        assert result(kit.types.remote(one, x=one)) == ["int", "int"]
        assert result(kit.add.remote(one, b=kit.add.remote(one, one))) == 3
        assert result(ingress.chained.remote()) == [["int"], 2, 4]

    def test_a24_broadcast_calls_every_replica(self, crowd: DeploymentHandle) -> None:
        response = crowd.broadcast("pid")
        assert type(response) is DeploymentBroadcastResponse
        pids = response.results()
        assert len(pids) == len(set(pids)) == 3

    def test_a25_remote_calls_one(self, crowd: DeploymentHandle) -> None:
        before = sum(crowd.broadcast("call_count").results())
        result(crowd.count_call.remote())
        assert sum(crowd.broadcast("call_count").results()) == before + 1
        crowd.broadcast("count_call").results()
        assert sum(crowd.broadcast("call_count").results()) == before + 4

    def test_a26_state_changes_in_every_replica(self, crowd: DeploymentHandle) -> None:
        crowd.broadcast("reset_cache").results()
        assert crowd.broadcast("cache_size").results() == [0, 0, 0]

    def test_a27_broadcast_passes_a_full_queue(self, deployed: Replicated, stage: Stage, key: str) -> None:
        narrow = deployed.narrow
        running = narrow.hold.remote(key)
        stage.wait_for(f"held {key}")
        queued = narrow.hold.remote(key)
        with pytest.raises(BackPressureError) as caught:
            result(narrow.hold.remote(key))
        assert caught.value.message.startswith("Request dropped due to backpressure")
        assert (caught.value.num_queued_requests, caught.value.max_queued_requests) == (1, 1)
        assert (caught.value.status_code, caught.value.retry_after_s) == (503, None)
        marked = narrow.broadcast("mark")
        stage.open(key)
        assert marked.results(timeout_s=LIMIT_S) == ["marked"]
        assert result(running) == result(queued) == key

    def test_a28_get_deployment_handle(self, ingress: DeploymentHandle) -> None:
        handle = serve.get_deployment_handle("Downstream", "handles")
        assert result(handle.say_hi.remote("you")) == "Hello you!"
        assert serve.get_deployment_handle("Downstream", "handles") is handle
        assert result(ingress.asks_by_name.remote()) == "Hello Hello you!!"
        with pytest.raises(KeyError, match="Nobody"):
            serve.get_deployment_handle("Nobody", "handles")
        with pytest.raises(RayServeException, match="application name"):
            serve.get_deployment_handle("Downstream")
        with pytest.raises(RayServeException, match="'nowhere' does not exist"):
            serve.get_app_handle("nowhere")

    def test_a29_results(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        ids = crowd.broadcast("whoami").results()
        held = crowd.broadcast("hold_on", ids[0], key)
        with pytest.raises(TimeoutError):
            held.results(timeout_s=0.05)
        wait_until(lambda: self.late(held) == [ids[0]], lambda: held.results_by_replica(timeout_s=0))
        stage.open(key)
        assert sorted(held.results(timeout_s=LIMIT_S)) == sorted(ids)
        failed = crowd.broadcast("fail_on", ids[1])
        with pytest.raises(ValueError, match="not here"):
            failed.results()
        outcomes = failed.results(return_exceptions=True)
        assert collections.Counter(map(str, outcomes)) == {"fine": 2, "not here": 1}

    @staticmethod
    def late(response: DeploymentBroadcastResponse) -> list[str]:
        outcomes = response.results_by_replica(timeout_s=0.01)
        return [replica for replica, outcome in outcomes.items() if isinstance(outcome, TimeoutError)]

    def test_a29_results_async(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        async def broadcast() -> None:
            ids = await crowd.broadcast("whoami").results_async()
            held = crowd.broadcast("hold_on", ids[0], key)
            with pytest.raises(TimeoutError):
                await held.results_async(timeout_s=0.05)
            stage.open(key)
            assert sorted(await held.results_async(timeout_s=LIMIT_S)) == sorted(ids)
            with pytest.raises(ValueError, match="not here"):
                await crowd.broadcast("fail_on", ids[1]).results_async()
            outcomes = await crowd.broadcast("fail_on", ids[1]).results_async(return_exceptions=True)
            assert collections.Counter(map(str, outcomes)) == {"fine": 2, "not here": 1}

        asyncio.run(broadcast())

    def test_a29_stream_does_not_count(self, crowd: DeploymentHandle) -> None:
        assert len(crowd.options(stream=True).broadcast("pid").results()) == 3

    def test_a30_arguments_reach_every_replica(self, crowd: DeploymentHandle) -> None:
        assert crowd.broadcast("update_config", new_value=42).results() == [42, 42, 42]
        assert crowd.broadcast("add", 1, b=2).results() == [3, 3, 3]


class TestErrors:
    """The table of section 1.4: raised when the result is fetched, not by ``remote()``."""

    def test_no_such_method(self, deployed: Replicated) -> None:
        response = deployed.exists.nothing.remote()
        with pytest.raises(RayServeException) as caught:
            result(response)
        assert str(caught.value) == (
            "Tried to call a method 'nothing' that does not exist. Available methods: ['exists']."
        )

    def test_functions_answer_to_every_method(self, deployed: Replicated) -> None:
        assert result(deployed.function.anything.remote("it")) == result(deployed.function.remote("it"))

    def test_a_generator_without_stream(self, kit: DeploymentHandle) -> None:
        message = r"Method 'count' returned a generator. You must use `handle.options\(stream=True\)` to call"
        with pytest.raises(TypeError, match=message) as caught:
            result(kit.count.remote(3))
        assert isinstance(caught.value, CardinalityError)

    def test_stream_without_a_generator(self, kit: DeploymentHandle) -> None:
        message = r"Called method 'add' with `handle.options\(stream=True\)` but it did not return a generator."
        with pytest.raises(TypeError, match=message):
            list(kit.options(stream=True).add.remote(1))

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_exceptions_keep_their_type_under_every_serialization(self, kit: DeploymentHandle, name: str) -> None:
        chosen = kit.options(request_serialization=name, response_serialization=name)
        with pytest.raises(ValueError, match="boom") as caught:
            result(chosen.fail.remote("value"))
        assert type(caught.value) is ValueError
        remote_traceback = str(caught.value.__cause__)
        assert "handles_app.py" in remote_traceback
        assert 'raise ValueError("boom")' in remote_traceback
        with pytest.raises(OutOfTune) as own:
            result(chosen.fail.remote("own"))
        assert own.value.pitch == 440
        with pytest.raises(UserExceptionError, match="TakesTwo: this and that") as two:
            result(chosen.fail.remote("two"))
        assert "handles_app.py" in str(two.value.__cause__)
        stream = chosen.options(stream=True).fails_at.remote(2)
        assert [next(stream), next(stream)] == [0, 1]
        with pytest.raises(ValueError, match="boom") as late:
            next(stream)
        assert "handles_app.py" in str(late.value.__cause__)

    @pytest.mark.parametrize("kind", ["exit", "stop"])
    def test_what_would_end_a_loop_is_an_error_like_any_other(self, kit: DeploymentHandle, kind: str) -> None:
        with pytest.raises(UserExceptionError, match=r"SystemExit|StopIteration"):
            result(kit.fail.remote(kind))
        assert result(kit.remote()) == "called"

    def test_the_application_failed_to_deploy(self, deployed: Replicated) -> None:
        @serve.deployment(max_constructor_retry_count=1)
        class Broken:
            def __init__(self) -> None:
                raise ValueError("out of order")

            def __call__(self) -> None: ...

        with pytest.raises(RuntimeError, match=r"Deploying application broken failed[\s\S]*out of order"):
            serve.run(Broken.bind(), name="broken", route_prefix=None)
        with pytest.raises(DeploymentUnavailableError):
            result(serve.get_app_handle("broken").remote())
        with pytest.raises(DeploymentUnavailableError):
            serve.get_app_handle("broken").broadcast("x").results()
        serve.delete("broken")

    def test_a_replica_that_dies(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        response = crowd.hold_then_die.remote(key)
        stage.wait_for(f"held {key}")
        stage.open(key)
        with pytest.raises(ReplicaUnavailableError, match="lost while it had the call; not sent again"):
            result(response)

    def test_a_replica_that_dies_within_a_stream(self, crowd: DeploymentHandle) -> None:
        stream = crowd.options(stream=True).item_and_die.remote()
        seen = []
        with pytest.raises(ReplicaUnavailableError):
            seen.extend(stream)
        assert seen in ([], ["before"])

    def test_an_argument_whose_replica_died(
        self, kit: DeploymentHandle, crowd: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        response = kit.echo.remote(crowd.hold_then_die.remote(key))
        stage.wait_for(f"held {key}")
        stage.open(key)
        with pytest.raises(RayServeException, match=r"Kit\.echo.*Crowd\.hold_then_die"):
            result(response)

    def test_an_argument_whose_call_failed(self, kit: DeploymentHandle) -> None:
        with pytest.raises(ValueError, match="boom"):
            result(kit.echo.remote(kit.fail.remote("value")))

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_a_nested_response(self, kit: DeploymentHandle, name: str) -> None:
        response = kit.options(request_serialization=name).echo.remote([kit.remote()])
        with pytest.raises(RayServeException, match="`DeploymentResponse` is not serializable"):
            result(response)

    def test_nothing_is_raised_by_remote_itself(self, kit: DeploymentHandle) -> None:
        response = kit.options(request_serialization="orjson").echo.remote(object())
        with pytest.raises(TypeError):
            result(response)

    def test_an_idempotent_call_is_sent_again(self, crowd: DeploymentHandle, key: str) -> None:
        assert result(crowd.options(idempotent=True).die_the_first_time.remote(key)) == "the second time"

    def test_timeout_s(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        with pytest.raises(DeadlineExceededError) as caught:
            result(kit.options(timeout_s=0.2).hold.remote(key))
        assert isinstance(caught.value, TimeoutError)
        assert result(kit.options(timeout_s=LIMIT_S).remote()) == "called"


class TestResponses:
    """Section 1.5."""

    def test_may_be_fetched_again_and_again(self, kit: DeploymentHandle) -> None:
        response = kit.echo.remote([1])
        assert result(response) is result(response)

        async def fetch() -> Any:
            return await response, await response

        for _ in range(2):
            assert asyncio.run(fetch()) == ([1], [1])

    def test_a_timeout_leaves_the_call_alone(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        response = kit.hold.remote(key)
        with pytest.raises(TimeoutError):
            response.result(timeout_s=0.02)
        stage.open(key)
        assert result(response) == key

    def test_calls_are_sent_without_anybody_waiting(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        kit.hold.remote(key)
        stage.wait_for(f"held {key}")
        stage.open(key)

    def test_result_in_an_event_loop(self, ingress: DeploymentHandle, kit: DeploymentHandle) -> None:
        message = "Sync methods should not be called from within an `asyncio` event loop. Use `await response` instead."

        async def fetch() -> None:
            response = kit.remote()
            with pytest.raises(RuntimeError) as caught:
                response.result()
            assert str(caught.value) == message
            with pytest.raises(RuntimeError, match="async for"):
                next(kit.options(stream=True).count.remote(1))
            broadcast = kit.broadcast("other_method")
            with pytest.raises(RuntimeError, match="await response"):
                broadcast.results()
            assert await broadcast == ["other"]

        asyncio.run(fetch())
        assert result(ingress.result_in_loop.remote()) == message

    def test_what_it_tells(self, kit: DeploymentHandle) -> None:
        response = kit.request_ids.remote()
        assert result(response) == [response.request_id]
        assert response.by_reference is False
        assert not response.cancelled()
        with pytest.raises(RuntimeError):
            response._to_object_ref_sync()

    def test_generators_step_by_step(self, kit: DeploymentHandle) -> None:
        stream = kit.options(stream=True).count.remote(2)
        assert [next(stream), next(stream)] == [0, 1]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(stream)

    def test_async_generators_step_by_step(self, kit: DeploymentHandle) -> None:
        async def read() -> None:
            stream = kit.options(stream=True).acount.remote(1)
            assert await anext(stream) == 0
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)

        asyncio.run(read())

    def test_an_exception_before_the_first_item(self, kit: DeploymentHandle) -> None:
        stream = kit.options(stream=True).fails_at.remote(0)
        with pytest.raises(ValueError, match="boom"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)

    def test_generators_are_no_results(self, kit: DeploymentHandle) -> None:
        stream = kit.options(stream=True).count.remote(2)
        with pytest.raises(TypeError, match="cannot be awaited"):
            stream.__await__()
        with pytest.raises(TypeError, match="result"):
            stream.result()
        with pytest.raises(RuntimeError, match="Streaming deployment handle results cannot be passed"):
            kit.echo.remote(stream)
        assert list(stream) == [0, 1]

    def test_a_response_for_many_calls(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        """It resolves once for all of them, and they wait for it without holding a place anywhere."""
        awaited = kit.hold.remote(key)
        responses = [kit.seen.remote(awaited, b=awaited) for _ in range(50)]
        stage.wait_for(f"held {key}")
        assert not any(response._call.opened for response in responses)
        stage.open(key)
        assert [result(response) for response in responses] == [[key, key, [], {}]] * 50
        assert stage.events().count(f"held {key}") == 1

    def test_a_response_for_a_broadcast(self, kit: DeploymentHandle, crowd: DeploymentHandle) -> None:
        assert crowd.broadcast("add", kit.echo.remote(1), b=kit.echo.remote(2)).results() == [3, 3, 3]

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_a_response_may_have_another_serialization(self, kit: DeploymentHandle, name: str) -> None:
        inner = kit.options(request_serialization=name, response_serialization=name).echo.remote({"a": 1})
        assert result(kit.options(request_serialization="orjson").echo.remote(inner)) == {"a": 1}


class TestWhereHandlesAreUsed:
    def test_threads(self, kit: DeploymentHandle) -> None:
        def calls(number: int) -> list[int]:
            return [result(kit.add.remote(number, b=i)) for i in range(20)]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(calls, range(8))) == [[n + i for i in range(20)] for n in range(8)]

    def test_many_event_loops_at_once(self, kit: DeploymentHandle) -> None:
        shared = kit.echo.remote("shared")
        together = threading.Barrier(4)

        async def calls(number: int) -> list[Any]:
            together.wait()
            mine = await asyncio.gather(*(kit.add.remote(number, b=i) for i in range(20)))
            items = [item async for item in kit.options(stream=True).count.remote(5)]
            return [*mine, items, await shared]

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: asyncio.run(calls(n)), range(4)))
        assert answers == [[*(n + i for i in range(20)), [0, 1, 2, 3, 4], "shared"] for n in range(4)]

    def test_one_response_in_many_loops(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        response = kit.hold.remote(key)

        async def fetch() -> str:
            stage.note(f"waiting {key}")
            return await response

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(lambda: asyncio.run(fetch())) for _ in range(3)]
            answers.append(pool.submit(response.result))
            stage.wait_for(f"waiting {key}", 3)
            stage.open(key)
            assert [answer.result(LIMIT_S) for answer in answers] == [key] * 4

    def test_a_loop_that_ended_is_not_missed(self, kit: DeploymentHandle, stage: Stage, key: str) -> None:
        response = kit.hold.remote(key)

        async def give_up() -> None:
            async with asyncio.timeout(0.02):
                await response

        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
        stage.open(key)
        assert result(response) == key

    def test_in_another_process(self, kit: DeploymentHandle) -> None:
        streaming = kit.options(stream=True, response_serialization="msgpack").count
        program = (
            "import pickle, sys\n"
            "add, streaming = pickle.load(sys.stdin.buffer)\n"
            "print(add.remote(1, b=2).result(timeout_s=30), list(streaming.remote(3)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps((kit.add, streaming)),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == (b"3 [0, 1, 2]\n", b"", 0)

    def test_after_pickling_in_this_one(self, kit: DeploymentHandle) -> None:
        for copy in (pickle.loads(pickle.dumps(kit.add)), cloudpickle.loads(cloudpickle.dumps(kit.add))):
            assert result(copy.remote(1, b=1)) == 2
            assert repr(copy) == "DeploymentHandle(deployment='Kit')"

    def test_inside_replicas(self, ingress: DeploymentHandle) -> None:
        assert result(ingress.blocks.remote("sync")) == "Hello sync!"
        assert result(ingress.reads_stream_blocking.remote(3)) == [0, 1, 2]
        assert list(ingress.options(stream=True).forwards_stream.remote(3)) == [0, 10, 20]
        assert len(set(result(ingress.broadcasts.remote()))) == 3

    def test_passed_to_a_replica(self, ingress: DeploymentHandle) -> None:
        handle = serve.get_deployment_handle("Downstream", "handles")
        assert result(ingress.calls_handle.remote(handle, "you")) == "Hello you!"

    def test_calls_between_deployments_carry_the_request_id(self, ingress: DeploymentHandle) -> None:
        response = ingress.request_ids.remote()
        assert result(response) == [response.request_id] * 2

    def test_a_session_keeps_its_replica(self, crowd: DeploymentHandle) -> None:
        homes = {}
        for number in range(12):
            of_session = crowd.options(session_id=f"s{number}")
            seen = {result(of_session.whoami.remote()) for _ in range(4)}
            assert len(seen) == 1, f"s{number}"
            homes[number] = seen.pop()
        assert len(set(homes.values())) > 1

    def test_in_a_forked_child(self, deployed: Replicated) -> None:
        """In a program of its own, because what runs here has threads that a fork may catch in anything."""
        program = (
            "import os, sys\n"
            "from fairlead import serve\n"
            "from tests.e2e.handles_app import Exists\n"
            "serve.start(proxy_location='Disabled')\n"
            "handle = serve.run(Exists.bind(), route_prefix=None)\n"
            "if '--used' in sys.argv: handle.exists.remote().result()\n"
            "if (child := os.fork()) == 0:\n"
            "    code = handle.exists.remote().result(timeout_s=30) - 1\n"
            "    os._exit(code)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "assert handle.exists.remote().result() == 1\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
        assert (without_progress(done.stderr.decode()), done.returncode) == ("", 0)


class TestStreams:
    """A generator runs only as far ahead of its reader as the credit of the hops between them allows."""

    @pytest.mark.parametrize("method", ["endless", "aendless"])
    def test_a_reader_that_stops_stops_the_generator(self, kit: DeploymentHandle, method: str) -> None:
        result(kit.reset_produced.remote())
        stream = getattr(kit.options(stream=True), method).remote()
        assert [next(stream) for _ in range(3)] == [BLOCK] * 3
        stopped_at = self.where_it_stops(kit)
        assert stopped_at * len(BLOCK) < BUFFERED
        for _ in range(stopped_at):
            assert next(stream) == BLOCK
        assert self.where_it_stops(kit) > stopped_at
        assert result(kit.add.remote(1, b=1)) == 2, "and nobody else is kept waiting"
        stream.cancel()

    @staticmethod
    def where_it_stops(kit: DeploymentHandle) -> int:
        """How many items were made when further calls to the same replica see none come any more."""
        produced, unchanged = -1, 0
        while unchanged < 40:
            now = result(kit.produced_so_far.remote())
            unchanged = unchanged + 1 if now == produced else 0
            produced = now
            assert produced * len(BLOCK) < 100 * BUFFERED, "nothing stops it"
        return produced

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_each_item_is_serialized_by_itself(self, kit: DeploymentHandle, name: str) -> None:
        assert list(kit.options(stream=True, response_serialization=name).count.remote(1000)) == list(range(1000))

    def test_an_iterator_as_the_first_argument(self, deployed: Replicated) -> None:
        async def numbers() -> Any:
            for number in range(5):
                yield number

        async def call() -> Any:
            return await deployed.function.remote(numbers())

        assert asyncio.run(call()).startswith("function of <fairlead_replica")


class TestBroadcasts:
    """Section 3, and what goes beyond it."""

    def test_results_by_replica(self, crowd: DeploymentHandle) -> None:
        response = crowd.broadcast("whoami")
        results = response.results_by_replica()
        assert len(results) == 3
        assert all(replica == answer for replica, answer in results.items())
        assert sorted(response.replica_ids) == sorted(results)
        assert response.results() == response.results()

    def test_is_sent_without_anybody_waiting(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        (first, *_) = crowd.broadcast("whoami").results()
        crowd.broadcast("hold_on", first, key)
        stage.wait_for(f"held {key}")
        stage.open(key)

    def test_a_dead_replica_is_reported(self, crowd: DeploymentHandle) -> None:
        (victim, *others) = crowd.broadcast("whoami").results()
        response = crowd.broadcast("die_on", victim)
        results = response.results_by_replica(timeout_s=LIMIT_S)
        assert isinstance(results.pop(victim), ReplicaUnavailableError)
        assert results == dict.fromkeys(others, "alive")
        with pytest.raises(ReplicaUnavailableError):
            response.results()
        outcomes = response.results(return_exceptions=True)
        assert len(outcomes) == 3
        assert outcomes.count("alive") == 2
        wait_until(lambda: self.whole(crowd))  # the tests after this one need three

    @staticmethod
    def whole(crowd: DeploymentHandle) -> bool:
        outcomes = crowd.broadcast("whoami").results(timeout_s=LIMIT_S, return_exceptions=True)
        return len(outcomes) == 3 and all(isinstance(outcome, str) for outcome in outcomes)

    def test_a_late_replica_is_reported(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        (victim, *others) = crowd.broadcast("whoami").results()
        response = crowd.broadcast("hold_on", victim, key)
        wait_until(lambda: TestSourcePage.late(response) == [victim])
        results = response.results_by_replica(timeout_s=0.01)
        assert isinstance(results.pop(victim), TimeoutError)
        assert results == {replica: replica for replica in others}
        outcomes = response.results(timeout_s=0.01, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(TimeoutError) == 1
        stage.open(key)
        assert sorted(response.results(timeout_s=LIMIT_S)) == sorted([victim, *others])

    def test_a_deadline_reports_late_replicas_too(self, crowd: DeploymentHandle, stage: Stage, key: str) -> None:
        (victim, *_) = crowd.broadcast("whoami").results()
        results = crowd.options(timeout_s=1.0).broadcast("hold_on", victim, key).results_by_replica()
        assert isinstance(results[victim], DeadlineExceededError)
        assert len(results) == 3

    def test_nobody_is_there(self, deployed: Replicated) -> None:
        with pytest.raises(RayServeException, match="nowhere"):
            DeploymentHandle("Nobody", "nowhere").broadcast("x").results()

    def test_unknown_methods_and_bad_times(self, crowd: DeploymentHandle) -> None:
        with pytest.raises(MethodNotFoundError, match="whoami"):
            crowd.broadcast("nothing").results()
        with pytest.raises(ValueError, match="timeout_s"):
            crowd.broadcast("whoami").results(timeout_s=-1)

    @pytest.mark.parametrize("name", SERIALIZATIONS)
    def test_keeps_the_handles_serializations(self, crowd: DeploymentHandle, name: str) -> None:
        chosen = crowd.options(request_serialization=name, response_serialization=name)
        assert chosen.broadcast("add", 1, b=2).results() == [3, 3, 3]
        if name in ("cloudpickle", "pickle"):
            assert [str(each) for each in chosen.broadcast("returns_an_exception").results()] == [
                "a value like any other"
            ] * 3


class TestSerializations:
    """What section 2's table says of each."""

    @pytest.mark.parametrize("name", ["msgpack", "orjson"])
    def test_tuples_become_lists(self, kit: DeploymentHandle, name: str) -> None:
        assert result(kit.options(response_serialization=name).tuple_of.remote()) == [1, 2]
        assert result(kit.options(request_serialization=name).types.remote((1, 2))) == ["list"]

    @pytest.mark.parametrize("name", ["cloudpickle", "pickle"])
    def test_pickles_keep_types(self, kit: DeploymentHandle, name: str) -> None:
        chosen = kit.options(request_serialization=name, response_serialization=name)
        value = {"t": (1, 2), "s": {1}, "c": 1j, "b": b"\xff", 3: 2**70, "e": OutOfTune("a", 1).pitch}
        assert result(chosen.echo.remote(value)) == value

    def test_bytes(self, kit: DeploymentHandle) -> None:
        assert result(kit.options(request_serialization="msgpack").echo.remote(b"\xff")) == b"\xff"
        with pytest.raises(ResultNotSerializableError, match=r"bytes.*orjson.*response_serialization"):
            result(kit.options(response_serialization="orjson").echo.remote(b"\xff"))

    def test_numpy(self, kit: DeploymentHandle) -> None:
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(6).reshape(2, 3)
        for name in ("cloudpickle", "pickle"):
            chosen = kit.options(request_serialization=name, response_serialization=name)
            assert (result(chosen.echo.remote(array)) == array).all()
        for name in ("msgpack", "orjson"):
            with pytest.raises(ResultNotSerializableError, match="ndarray"):
                result(kit.options(response_serialization=name).echo.remote(array))

    def test_large_values(self, kit: DeploymentHandle) -> None:
        value = b"x" * 5_000_000
        for name in ("cloudpickle", "pickle", "msgpack"):
            chosen = kit.options(request_serialization=name, response_serialization=name)
            assert result(chosen.echo.remote(value)) == value


def test_the_responses_class_is_one(deployed: Replicated) -> None:
    assert handles_app.response_type() is DeploymentResponse
