"""Handles against real processes: every row of the source page, and where handles are used."""

from __future__ import annotations

import asyncio
import collections
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve.exceptions import (
    BackPressureError,
    MethodNotFoundError,
    RayServeException,
    ResultNotSerializableError,
)
from fairlead.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)
from tests.e2e import handles_app
from tests.e2e.handles.deployed import LIMIT_S, SERIALIZATIONS, Replicated, late, result
from tests.e2e.handles_app import Exists
from tests.e2e.printed import without_progress
from tests.e2e.stage import Stage, wait_until


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
        wait_until(lambda: late(held) == [ids[0]], lambda: held.results_by_replica(timeout_s=0))
        stage.open(key)
        assert sorted(held.results(timeout_s=LIMIT_S)) == sorted(ids)
        failed = crowd.broadcast("fail_on", ids[1])
        with pytest.raises(ValueError, match="not here"):
            failed.results()
        outcomes = failed.results(return_exceptions=True)
        assert collections.Counter(map(str, outcomes)) == {"fine": 2, "not here": 1}

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


def test_the_responses_class_is_one(deployed: Replicated) -> None:
    assert handles_app.response_type() is DeploymentResponse
