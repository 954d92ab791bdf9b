"""Results of calls by real processes: errors, responses, streams, broadcasts, serializations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.exceptions import (
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
    DeploymentHandle,
)
from tests.e2e.handles.deployed import LIMIT_S, SERIALIZATIONS, Replicated, late, result
from tests.e2e.handles_app import BLOCK, OutOfTune
from tests.e2e.stage import Stage, wait_until

BUFFERED = 2 * 1024 * 1024
"""Bytes that may be on their way between a generator and a reader that stops: credit of three hops, and pipes."""


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
        with pytest.raises(DeadlineExceededError, match=r"the call to handles#Kit\.hold passed ") as caught:
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
        wait_until(lambda: late(response) == [victim])
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
