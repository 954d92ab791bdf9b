"""``@serve.batch`` on an event loop: who is handled together, and what each caller gets."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve.batching.callers import MAX_AHEAD
from fairlead.serve.context import (
    RequestContext,
    _get_serve_batch_request_context,
    get_multiplexed_model_id,
    get_request_context,
    reset_request_context,
    set_request_context,
)
from fairlead.serve.exceptions import RayServeException
from fairlead.v1 import session_pb2

NEVER_S = 1000
"""A wait that no test sees the end of: batches start because they are full."""
TIMEOUT_S = 60


class Unequal:
    """As an array: comparing it gives nothing that is true or false."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> Any:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


async def gather(*calls: Any) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), TIMEOUT_S)


async def spin(times: int = 5) -> None:
    """Lets everything run that is ready to run."""
    for _ in range(times):
        await asyncio.sleep(0)


async def drain(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


@contextmanager
def call(request_id: str, model_id: str = ""):
    token = set_request_context(
        RequestContext(session_pb2.CallHeader(request_id=request_id, multiplexed_model_id=model_id))
    )
    yield
    reset_request_context(token)


class TestDecorator:
    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({"max_batch_size": 0}, ValueError),
            ({"max_batch_size": 1.1}, TypeError),
            ({"max_batch_size": "1"}, TypeError),
            ({"max_batch_size": True}, TypeError),
            ({"batch_wait_timeout_s": -0.1}, ValueError),
            ({"batch_wait_timeout_s": "a"}, TypeError),
            ({"max_concurrent_batches": 0}, ValueError),
            ({"max_concurrent_batches": None}, TypeError),
            ({"batch_size_fn": 3}, TypeError),
        ],
    )
    def test_settings_that_cannot_be(self, settings, error):
        with pytest.raises(error):
            serve.batch(**settings)

    def test_settings_that_can(self):
        assert serve.batch(max_batch_size=2.0, batch_wait_timeout_s=0)(self.double)._get_max_batch_size() == 2
        assert serve.batch(self.double)._get_max_batch_size() == 10
        assert serve.batch(self.double)._get_batch_wait_timeout_s() == 0.01

    def test_only_asynchronous_functions(self):
        for target in (lambda items: items, print, TestDecorator, serve.batch(self.double)):
            with pytest.raises(TypeError, match="async def"):
                serve.batch(target)
            with pytest.raises(TypeError, match="async def"):
                serve.batch(max_batch_size=2)(target)

    def test_it_keeps_the_name(self):
        made = serve.batch(self.double)
        assert (made.__name__, made.__doc__, made.__wrapped__) == ("double", "Doubles.", self.double)

    @staticmethod
    async def double(items):
        """Doubles."""
        return [item * 2 for item in items]


class Recorder:
    """Batched methods, and what their batches were."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def double(self, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [item * 2 for item in items]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
    async def count(self, ends: list[int]) -> AsyncIterator[list[Any]]:
        self.batches.append(list(ends))
        try:
            for number in range(max(ends)):
                await self.gate.wait()
                yield [StopIteration if number >= end else number for end in ends]
        finally:
            self.batches.append(["closed"])

    @serve.batch(max_batch_size=1)
    async def __call__(self, items: list[int]) -> list[int]:
        return [item + 1 for item in items]


class TestBatches:
    async def test_results_by_position(self):
        recorder = Recorder()
        assert await gather(*(recorder.double(n) for n in range(6))) == [0, 2, 4, 6, 8, 10]
        assert recorder.batches == [[0, 1], [2, 3], [4, 5]]
        assert await recorder(1) == 2

    async def test_the_wait_ends(self):
        recorder = Recorder()
        recorder.double.set_batch_wait_timeout_s(0)
        assert await asyncio.wait_for(recorder.double(1), TIMEOUT_S) == 2
        recorder.double.set_batch_wait_timeout_s(0.001)
        assert await asyncio.wait_for(recorder.double(1), TIMEOUT_S) == 2

    async def test_functions_and_arguments(self):
        @serve.batch(max_batch_size=3, batch_wait_timeout_s=NEVER_S)
        async def pairs(a, b):
            return list(zip(a, b, strict=True))

        assert await gather(pairs(1, 2), pairs(b=4, a=3), pairs(5, b=6)) == [(1, 2), (3, 4), (5, 6)]
        with pytest.raises(TypeError):
            await pairs(1)

    async def test_objects_do_not_share(self):
        one, other = Recorder(), Recorder()
        one.double.set_max_batch_size(1)
        assert other.double._get_max_batch_size() == 2
        assert Recorder.double._get_max_batch_size() == 2
        pending = asyncio.create_task(other.double(1))
        assert await gather(one.double(5)) == [10]
        assert await gather(other.double(2), pending) == [4, 2]
        assert (one.batches, other.batches) == ([[5]], [[1, 2]])

    async def test_equal_objects_are_two(self):
        @dataclass
        class Model:
            name: str

            @serve.batch(max_batch_size=1)
            async def names(self, items):
                return [self.name] * len(items)

        one, other = Model("a"), Model("a")
        other.names.set_max_batch_size(7)
        assert (one.names._get_max_batch_size(), other.names._get_max_batch_size()) == (1, 7)
        assert await one.names(1) == "a"

    async def test_an_object_is_not_kept(self):
        recorder = Recorder()
        assert await gather(recorder.double(1), recorder.double(2)) == [2, 4]
        assert await gather(drain(recorder.count(1)), drain(recorder.count(2))) == [[0], [0, 1]]
        held = len(Recorder.double._definition.of_objects)
        gone = weakref.ref(recorder)
        del recorder
        gc.collect()
        assert gone() is None
        assert len(Recorder.double._definition.of_objects) == held - 1

    async def test_through_the_class(self):
        recorder = Recorder()
        assert await gather(Recorder.double(recorder, 1), recorder.double(2)) == [2, 4]

    async def test_concurrent_batches(self):
        running = 0
        most = 0
        gate = asyncio.Event()

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0, max_concurrent_batches=2)
        async def work(items):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return items

        calls = [asyncio.create_task(work(n)) for n in range(8)]
        await spin()
        assert running == 2
        assert len(work._get_curr_iteration_start_times().start_times) == 2
        assert "work" in await work._get_handling_task_stack()
        gate.set()
        assert await gather(*calls) == list(range(8))
        assert most == 2
        await spin()
        statistics = work._get_curr_iteration_start_times()
        assert (statistics.start_times, statistics.min_start_time, statistics.mean_start_time) == ([], None, None)
        assert await work._get_handling_task_stack() == ""
        assert await work._is_batching_task_alive()

    async def test_objects_that_cannot_be_compared(self):
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def same(items):
            yield items

        first, second = await gather(drain(same(Unequal(1))), drain(same(Unequal(2))))
        assert (first[0].value, second[0].value) == (1, 2)

    async def test_setters_check(self):
        recorder = Recorder()
        with pytest.raises(ValueError):
            recorder.double.set_max_batch_size(0)
        with pytest.raises(TypeError):
            recorder.double.set_batch_wait_timeout_s("1")

    def test_one_loop_after_another(self):
        @serve.batch(max_batch_size=1)
        async def same(items):
            return items

        assert asyncio.run(same(1)) == 1  # type: ignore[arg-type]
        assert asyncio.run(same(2)) == 2  # type: ignore[arg-type]

    def test_a_batched_class_can_be_sent(self):
        class Local:
            @serve.batch(max_batch_size=3, batch_wait_timeout_s=0)
            async def same(self, items):
                return items

        Local.same.set_batch_wait_timeout_s(0.001)
        copied = cloudpickle.loads(cloudpickle.dumps(Local))
        assert copied.same._get_max_batch_size() == 3
        assert asyncio.run(copied().same(1)) == 1


class TestErrors:
    async def test_every_caller_gets_it(self):
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def fails(items):
            raise KeyError(items[0])

        errors = await gather(fails(1), fails(2))
        assert [type(error) for error in errors] == [KeyError, KeyError]

    @pytest.mark.parametrize(
        ("result", "error"),
        [
            ([1], RayServeException),
            ([1, 2, 3], RayServeException),
            (None, TypeError),
            (iter([1, 2]), TypeError),
            ({1: 2, 3: 4}, TypeError),
            ({1, 2}, TypeError),
            ("no", TypeError),
            (b"no", TypeError),
        ],
    )
    async def test_results_that_do_not_fit(self, result, error):
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def unary(items):
            return result

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def streaming(items):
            yield items
            yield result

        assert [type(one) for one in await gather(unary(1), unary(2))] == [error, error]
        streams = streaming(1), streaming(2)
        assert await gather(*map(anext, streams)) == [1, 2]
        assert [type(one) for one in await gather(*map(anext, streams))] == [error, error]
        assert [type(one) for one in await gather(*map(anext, streams))] == [StopAsyncIteration] * 2

    async def test_errors_that_end_loops(self):
        @serve.batch(max_batch_size=1)
        async def fails(items):
            raise {"stop": StopAsyncIteration, "cancel": asyncio.CancelledError}[items[0]]

        assert isinstance((await gather(fails("stop")))[0], RuntimeError)
        assert isinstance((await gather(fails("cancel")))[0], asyncio.CancelledError)
        assert isinstance((await gather(fails("stop")))[0], RuntimeError)

    async def test_size_functions(self):
        seen: list[list[int]] = []

        @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=sum)
        async def weighed(items):
            seen.append(items)
            return items

        first, monster, bad, second = await gather(weighed(6), weighed(12), weighed("x"), weighed(6))
        assert (first, type(monster), type(bad), second) == (6, RuntimeError, TypeError, 6)
        assert seen == [[6], [6]]


class TestCancelling:
    async def test_before_the_batch(self):
        recorder = Recorder()
        gone = asyncio.create_task(recorder.double(1))
        await spin()
        gone.cancel()
        await asyncio.wait([gone])
        assert await gather(recorder.double(2), recorder.double(3)) == [4, 6]
        assert recorder.batches == [[2, 3]]

    async def test_between_decision_and_start(self):
        recorder = Recorder()
        calls = [asyncio.create_task(recorder.double(n)) for n in (1, 2)]
        asyncio.get_running_loop().call_soon(calls[0].cancel)
        first, second = await gather(*calls)
        assert isinstance(first, asyncio.CancelledError)
        assert second == 4
        assert recorder.batches == [[2]]

    async def test_all_of_a_batch(self):
        recorder = Recorder()
        calls = [asyncio.create_task(recorder.double(n)) for n in (1, 2)]
        for one in calls:
            asyncio.get_running_loop().call_soon(one.cancel)
        await gather(*calls)
        await spin()
        assert recorder.batches == []
        assert await gather(recorder.double(3), recorder.double(4)) == [6, 8]

    async def test_a_running_batch_goes_on(self):
        recorder = Recorder()
        recorder.gate.clear()
        first, second = (asyncio.create_task(recorder.double(n)) for n in (1, 2))
        await spin()
        first.cancel()
        await spin()
        recorder.gate.set()
        assert await gather(second) == [4]

    async def test_a_stream_never_read(self):
        recorder = Recorder()
        waiting = recorder.count(5)
        del waiting
        gc.collect()
        await spin()
        assert await gather(drain(recorder.count(1)), drain(recorder.count(2))) == [[0], [0, 1]]
        assert recorder.batches[0] == [1, 2]


class TestStreams:
    async def test_each_gets_its_own(self):
        recorder = Recorder()
        first, second = recorder.count(2), recorder.count(4)
        assert await drain(first) == [0, 1]
        assert await drain(second) == [0, 1, 2, 3]

    async def test_nothing_yielded(self):
        recorder = Recorder()
        assert await gather(drain(recorder.count(0)), drain(recorder.count(0))) == [[], []]

    async def test_errors_come_behind_the_items(self):
        @serve.batch(max_batch_size=1)
        async def fails(items):
            yield items
            yield items
            raise KeyError("late")

        stream = fails(1)
        assert [await anext(stream), await anext(stream)] == [1, 1]
        with pytest.raises(KeyError):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    async def test_one_that_leaves(self):
        recorder = Recorder()
        first, second = recorder.count(MAX_AHEAD * 3), recorder.count(MAX_AHEAD * 3)
        assert await gather(anext(first), anext(second)) == [0, 0]
        await second.aclose()
        assert await drain(first) == list(range(1, MAX_AHEAD * 3))

    async def test_the_last_one_closes_it(self):
        recorder = Recorder()
        streams = [recorder.count(MAX_AHEAD * 3) for _ in range(2)]
        await gather(*map(anext, streams))
        for stream in streams:
            await stream.aclose()
        await spin()
        assert recorder.batches[-1] == ["closed"]
        assert await gather(drain(recorder.count(1)), drain(recorder.count(1))) == [[0], [0]]

    async def test_a_slow_reader_stops_the_batch(self):
        yielded = 0

        @serve.batch(max_batch_size=1)
        async def many(items):
            nonlocal yielded
            while yielded < MAX_AHEAD * 3:
                yielded += 1
                yield items

        stream = many(1)
        await anext(stream)
        await spin(MAX_AHEAD)
        assert yielded <= MAX_AHEAD + 1
        assert len(await drain(stream)) == MAX_AHEAD * 3 - 1

    async def test_after_everybody_was_told_to_stop_it_runs_to_its_end(self):
        done = asyncio.Event()

        @serve.batch(max_batch_size=1)
        async def stops(items):
            yield [StopAsyncIteration]
            await asyncio.sleep(0)
            done.set()

        assert await drain(stops(1)) == []
        await asyncio.wait_for(done.wait(), TIMEOUT_S)

    async def test_made_outside_of_a_loop(self):
        recorder = Recorder()
        recorder.count.set_max_batch_size(1)
        stream = await asyncio.to_thread(recorder.count, 2)
        assert await drain(stream) == [0, 1]


class TestContexts:
    async def test_the_callers_and_none_of_its_own(self):
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
        async def contexts(items):
            own = get_request_context()
            return [(own.request_id, one.request_id) for one in _get_serve_batch_request_context()]

        async def caller(request_id):
            with call(request_id):
                result = await contexts(1)
                assert get_request_context().request_id == request_id
                return result

        assert await gather(caller("a"), caller("b")) == [("", "a"), ("", "b")]
        assert _get_serve_batch_request_context() == []

    async def test_a_batch_splits_by_model(self):
        seen = []

        @serve.batch(max_batch_size=4, batch_wait_timeout_s=NEVER_S)
        async def work(items):
            seen.append((get_multiplexed_model_id(), items))
            await asyncio.sleep(0)
            return [(get_multiplexed_model_id(), item) for item in items]

        async def caller(number, model_id):
            with call(f"r{number}", model_id):
                return await work(number)

        results = await gather(*(caller(number, "ab"[number % 2]) for number in range(4)))
        assert results == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
        assert sorted(seen) == [("a", [0, 2]), ("b", [1, 3])]

    async def test_a_batch_holds_its_model_and_no_longer(self):
        class Models:
            @serve.multiplexed(max_num_models_per_replica=1)
            async def model(self, model_id):
                return [model_id]

            @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER_S)
            async def names(self, items):
                model = await self.model(get_multiplexed_model_id())
                return model * len(items)

        models = Models()

        async def caller(model_id):
            with call("r", model_id):
                return await models.names(1)

        for model_id in "abc":  # each evicts the one before, which is in use until its batch has ended
            assert await gather(caller(model_id), caller(model_id)) == [model_id, model_id]

    def test_a_context_can_be_sent(self):
        context = RequestContext(session_pb2.CallHeader(request_id="r", application="app"), is_http_request=True)
        copied = pickle.loads(pickle.dumps(context))
        assert (copied.request_id, copied.app_name, copied.is_http_request) == ("r", "app", True)


class TestSlots:
    def test_the_default_rises_to_fit(self, caplog):
        class Two:
            @serve.batch(max_batch_size=8, max_concurrent_batches=2)
            async def one(self, items): ...

            @serve.batch(max_batch_size=4)
            async def other(self, items):
                yield

        class Child(Two): ...

        unset = serve.deployment(Child)
        assert unset.max_ongoing_requests == unset.to_settings().max_ongoing_requests == 20
        assert serve.deployment(num_replicas=2)(Two).options(name="x").max_ongoing_requests == 20
        assert caplog.messages == []
        chosen = serve.deployment(max_ongoing_requests=7)(Two)
        assert chosen.max_ongoing_requests == chosen.to_settings().max_ongoing_requests == 7
        assert "max_ongoing_requests" in caplog.text

    def test_functions_and_weights(self):
        @serve.deployment
        @serve.batch(max_batch_size=2)
        async def small(items):
            return items

        @serve.deployment
        @serve.batch(max_batch_size=8000, batch_size_fn=len)
        async def weighed(items):
            return items

        assert (small.name, small.max_ongoing_requests, weighed.max_ongoing_requests) == ("small", 5, 100)
        assert serve.deployment("package.module:name").max_ongoing_requests == 5
