from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fairlead.serve.context import get_request_context
from fairlead.serve.response import DeploymentResponse, DeploymentResponseGenerator
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import CLOUDPICKLE, CODECS, MSGPACK, ORJSON, Codec
from fairlead.wire.errors import (
    BackPressureError,
    CardinalityError,
    ConnectionLostError,
    DeadlineExceededError,
    InvalidArgumentsError,
    MessageTooLargeError,
    MethodNotFoundError,
    ReplicaBusyError,
    ReplicaDrainingError,
    ReplicaUnavailableError,
    RequestCancelledError,
    ResultNotSerializableError,
    UnknownSerializationError,
    UserExceptionError,
)
from fairlead.wire.memory import link_pair
from tests.replica.calling import Answer, Caller, Stage, until

INVALID_ARGUMENT = 3
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


class CustomError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"custom {code}")
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (CustomError, (self.code,))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Child:
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class Model:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = asyncio.Event()
        self.finished: list[str] = []
        self.produced = 0
        self.child = Child()

    def __call__(self, value: Any = None) -> Any:
        return value

    async def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    def echo_sync(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            self.produced = number
            yield number
        self.finished.append("numbers")

    def numbers_sync(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                self.produced = number
                yield number
        finally:
            self.finished.append("numbers_sync")

    async def numbers_then_error(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise CustomError(7)

    def numbers_then_error_sync(self, count: int) -> Iterator[int]:
        yield from range(count)
        raise CustomError(7)

    def indirect(self, count: int) -> Any:
        return (number for number in range(count))

    async def indirect_async(self, count: int) -> Any:
        return self.numbers(count)

    def late_coroutine(self, value: Any) -> Any:
        return self.echo(value)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def fail_async(self, text: str) -> None:
        raise ValueError(text)

    def fail_with(self, error: BaseException) -> None:
        raise error

    async def fail_with_async(self, error: BaseException) -> None:
        raise error

    def speechless(self) -> None:
        raise Unspeakable

    async def own_type_error(self) -> None:
        raise TypeError("from within")

    async def unawaited(self) -> Any:
        return object.__new__(DeploymentResponse)

    async def unread(self) -> Any:
        return object.__new__(DeploymentResponseGenerator)

    def unserializable(self) -> Any:
        return threading.Lock()

    async def unserializable_async(self) -> Any:
        return {1: {2}}

    async def large(self, size: int) -> bytes:
        return b"x" * size

    async def hang(self) -> None:
        self.started.set()
        get_request_context().adopt(self.child)
        try:
            await asyncio.Event().wait()
        finally:
            self.finished.append("hang")

    async def swallow(self) -> str:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "went on"

    def block(self) -> str:
        if not self.gate.wait(60):
            raise RuntimeError("never released")
        self.finished.append("block")
        return "released"

    async def endless(self) -> AsyncIterator[str]:
        try:
            while True:
                self.produced += 1
                yield "x" * 1000
        finally:
            self.finished.append("endless")

    def endless_sync(self) -> Iterator[str]:
        try:
            while True:
                self.produced += 1
                yield "x" * 1000
        finally:
            self.finished.append("endless_sync")

    async def total(self, items: AsyncIterator[int], factor: int = 1) -> int:
        return factor * sum([item async for item in items])

    def total_sync(self, items: Iterator[int], factor: int = 1) -> int:
        return factor * sum(items)

    async def running_totals(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        total = 0
        async for item in items:
            total += item
            yield total

    async def remember(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    def remember_sync(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    async def request_id(self) -> str:
        assert asyncio.current_task() is not None
        return get_request_context().request_id

    def request_id_sync(self) -> tuple[str, bool]:
        return get_request_context().request_id, threading.current_thread() is threading.main_thread()

    async def cancels_itself(self) -> None:
        raise asyncio.CancelledError

    def _private(self) -> None: ...


@pytest.fixture
async def model() -> Model:
    return Model()


@pytest.fixture
async def stage(model: Model) -> AsyncIterator[Stage]:
    made = Stage(model, max_ongoing_requests=3)
    yield made
    model.gate.set()
    await made.close()
    await until(lambda: made.runtime.statistics().ongoing == 0)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("method", ["echo", "echo_sync", "late_coroutine"])
async def test_arguments_and_results(stage: Stage, method: str, codec: Codec) -> None:
    assert await stage.caller.call(method, {"k": [1, "two", None]}, codec=codec) == [[{"k": [1, "two", None]}], {}]
    if method != "late_coroutine":
        assert await stage.caller.call(method, 1, codec=codec, word="x") == [[1], {"word": "x"}]


async def test_no_payload_means_no_arguments_and_no_method_means_call(stage: Stage) -> None:
    assert await stage.caller.call("", payload=b"", codec=ORJSON) is None
    assert await stage.caller.call("__call__", 5) == 5


async def test_answers_may_have_another_serialization(stage: Stage) -> None:
    assert await stage.caller.call("echo", (1,), codec=CLOUDPICKLE, answer_codec=ORJSON) == [[[1]], {}]
    answer = await stage.caller.error("fail", "typed all the same", codec=CLOUDPICKLE, answer_codec=MSGPACK)
    assert type(answer) is ValueError


async def test_functions_ignore_the_methods_name() -> None:
    async def double(value: int) -> int:
        return value * 2

    stage = Stage(double)
    assert await stage.caller.call("whatever", 4) == 8
    await stage.close()


# -- what goes wrong


@pytest.mark.parametrize("name", ["nothing", "__class__", "__init__", "finished"])
async def test_unknown_methods(stage: Stage, name: str) -> None:
    error = await stage.caller.error(name)
    assert isinstance(error, MethodNotFoundError)
    prefix = f"Tried to call a method {name!r} that does not exist. Available methods: "
    assert str(error).startswith(prefix + "['_private', 'block', 'cancels_itself'")


async def test_a_class_without_call() -> None:
    class Bare:
        def exists(self) -> None: ...

    stage = Stage(Bare())
    error = await stage.caller.error("")
    assert str(error) == "Tried to call a method '__call__' that does not exist. Available methods: ['exists']."
    await stage.close()


@pytest.mark.parametrize("payload", [b"\x80garbage", b"{", b"[1, 2]", b'[["x"], ["y"]]', b'{"a": 1}'])
async def test_undecodable_arguments(stage: Stage, payload: bytes) -> None:
    for method in ("echo", "echo_sync"):
        assert isinstance(await stage.caller.error(method, payload=payload, codec=ORJSON), InvalidArgumentsError)
        assert isinstance(await stage.caller.error(method, payload=payload), InvalidArgumentsError)


async def test_unknown_serializations(stage: Stage) -> None:
    for field in ("request_serialization", "response_serialization"):
        answer = Answer(stage.caller.link, ORJSON)
        header = session_pb2.CallHeader(method="echo", request_serialization=4, response_serialization=4)
        setattr(header, field, 77)
        answer.stream = stage.caller.link.open(header, b"", answer)
        assert isinstance(await answer.error(), UnknownSerializationError)


@pytest.mark.parametrize("method", ["fail", "fail_async"])
async def test_wrong_arity_is_pythons_type_error(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, 1, 2, 3)
    error = await answer.error()
    assert type(error) is TypeError
    assert str(error) == f"Model.{method}() takes 2 positional arguments but 4 were given"
    assert answer.outcome is not None
    assert answer.outcome.status.code == INVALID_ARGUMENT
    answer = stage.caller.open("own_type_error")
    assert type(await answer.error()) is TypeError
    assert answer.outcome is not None
    assert answer.outcome.status.code != INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["fail", "fail_async"])
async def test_exceptions_come_with_the_users_lines(stage: Stage, method: str) -> None:
    error = await stage.caller.error(method, "bad value")
    assert type(error) is ValueError
    assert str(error) == "bad value"
    text = str(error.__cause__)
    assert "raise ValueError(text)" in text
    assert "fairlead_replica" not in text


@pytest.mark.parametrize("method", ["fail_with", "fail_with_async"])
@pytest.mark.parametrize(
    "error", [CustomError(5), SystemExit(2), KeyboardInterrupt(), StopIteration(1), GeneratorExit()]
)
async def test_any_exception_is_the_calls_error(stage: Stage, method: str, error: BaseException) -> None:
    got = await stage.caller.error(method, error)
    if isinstance(error, StopIteration) and method.endswith("async"):
        assert isinstance(got, RuntimeError)  # as coroutines have it
    elif isinstance(error, CustomError):
        assert isinstance(got, CustomError)
        assert got.code == error.code
    else:
        assert isinstance(got, UserExceptionError)
        assert got.metadata["exception_type"] == f"builtins.{type(error).__name__}"
    assert await stage.caller.call("", 1) == 1


async def test_exceptions_that_cannot_be_described(stage: Stage) -> None:
    answer = stage.caller.open("speechless")
    assert isinstance(await answer.error(), Unspeakable)
    assert answer.outcome is not None
    assert "Unspeakable" in answer.outcome.status.message


async def test_errors_of_calls_made_by_the_method(stage: Stage) -> None:
    passed_on = await stage.caller.error("fail_with", BackPressureError(3, 2))
    assert isinstance(passed_on, BackPressureError)
    # A gateway must not take what happened to a child for what happened to the parent, and send that again.
    for error in (ReplicaBusyError("b"), ReplicaDrainingError("d"), ConnectionLostError("c")):
        got = await stage.caller.error("fail_with_async", error)
        assert type(got) is ReplicaUnavailableError
        assert str(got) == f"a call that the method made failed: {error.message}"


async def test_a_cancelled_error_from_within_does_not_look_like_the_callers_own(stage: Stage) -> None:
    assert isinstance(await stage.caller.error("cancels_itself"), RequestCancelledError)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
async def test_a_call_that_was_not_awaited(stage: Stage, codec: Codec) -> None:
    error = await stage.caller.error("unawaited", codec=codec)
    assert isinstance(error, ResultNotSerializableError)
    assert "'unawaited' returned a DeploymentResponse" in str(error)
    assert "write `return await response`" in str(error)
    error = await stage.caller.error("unread", codec=codec)
    assert "'unread' returned a DeploymentResponseGenerator" in str(error)
    assert "`async for item in response`" in str(error)


async def test_unserializable_results(stage: Stage) -> None:
    error = await stage.caller.error("unserializable")
    assert isinstance(error, ResultNotSerializableError)
    assert "'unserializable', of type _thread.lock, cannot be encoded as cloudpickle" in str(error)
    error = await stage.caller.error("unserializable_async", codec=ORJSON)
    assert "of type builtins.dict, cannot be encoded as orjson" in str(error)
    assert "response_serialization=" in str(error)
    assert await stage.caller.call("", 1) == 1


async def test_large_messages() -> None:
    model = Model()
    stage = Stage(model, max_message=2_000_000)
    assert len(await stage.caller.call("large", 1_500_000)) == 1_500_000
    assert isinstance(await stage.caller.error("large", 2_000_001), MessageTooLargeError)
    big = "y" * 1_500_000
    assert await stage.caller.call("", big) == big
    assert isinstance(await stage.caller.error("", "y" * 3_000_000), MessageTooLargeError)
    assert stage.runtime.statistics().ongoing == 0
    await stage.close()


# -- streams


@pytest.mark.parametrize("method", ["numbers", "numbers_sync", "indirect", "indirect_async"])
@pytest.mark.parametrize("count", [0, 1, 3000])
async def test_streams(stage: Stage, method: str, count: int) -> None:
    assert await stage.caller.open(method, count, stream=True).all() == list(range(count))


@pytest.mark.parametrize("method", ["numbers", "numbers_sync", "indirect", "indirect_async"])
async def test_generators_called_without_stream(stage: Stage, method: str) -> None:
    error = await stage.caller.error(method, 1)
    assert isinstance(error, CardinalityError)
    assert isinstance(error, TypeError)
    assert str(error) == (
        f"Method '{method}' returned a generator. You must use `handle.options(stream=True)` to call generators on a "
        "deployment."
    )


@pytest.mark.parametrize("method", ["echo", "echo_sync"])
async def test_stream_of_what_is_no_generator(stage: Stage, method: str) -> None:
    error = await stage.caller.error(method, 1, stream=True)
    assert str(error) == (
        f"Called method '{method}' with `handle.options(stream=True)` but it did not return a generator."
    )


@pytest.mark.parametrize("method", ["numbers_then_error", "numbers_then_error_sync"])
async def test_items_before_an_error_arrive(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, 1000, stream=True)
    for number in range(1000):
        assert await answer.next() == number
    with pytest.raises(CustomError):
        await answer.next()


@pytest.mark.parametrize("method", ["endless", "endless_sync"])
async def test_slow_readers_stop_generators_and_cancelling_closes_them(stage: Stage, model: Model, method: str) -> None:
    answer = stage.caller.open(method, stream=True)
    for _ in range(50):
        await answer.next()
    seen = -1
    while seen != model.produced:
        seen = model.produced
        for _ in range(20):
            await stage.caller.call("", 1)
    assert model.produced < 1000
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == [method]


@pytest.mark.parametrize("method", ["total", "total_sync"])
async def test_client_streams(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, last=False, factor=10)
    for number in range(100):
        answer.send(number)
    answer.send(100, last=True)
    assert await answer.next() == 50500
    empty = stage.caller.open(method, last=False)
    empty.half_close()
    assert await empty.next() == 0


@pytest.mark.parametrize("method", ["total", "total_sync"])
async def test_a_client_that_streams_may_expect_a_stream_of_one(stage: Stage, method: str) -> None:
    answer = stage.caller.open(method, last=False, stream=True)
    answer.send(3)
    answer.send(4, last=True)
    assert await answer.all() == [7]


async def test_streams_both_ways(stage: Stage) -> None:
    answer = stage.caller.open("running_totals", last=False, stream=True, codec=MSGPACK)
    total = 0
    for number in range(10):
        answer.send(number)
        total += number
        assert await answer.next() == total
    answer.half_close()
    assert await answer.all() == []


async def test_an_undecodable_item(stage: Stage) -> None:
    answer = stage.caller.open("total", last=False, codec=ORJSON)
    stage.caller.link.send(answer.stream, b"{nonsense", last=True)
    assert isinstance(await answer.error(), InvalidArgumentsError)


# -- limits, deadlines, cancellation


async def test_more_than_the_limit_is_refused(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    refused = await stage.caller.error("echo")
    assert isinstance(refused, ReplicaBusyError)
    assert refused.never_started
    model.gate.set()
    assert [await call.next() for call in running] == ["released"] * 3
    assert await stage.caller.call("", 1) == 1


async def test_who_was_refused_hears_of_the_free_slot(stage: Stage, model: Model) -> None:
    other, accepting = link_pair(stage.runtime.accept, load=stage.runtime.load)
    reports: asyncio.Queue[session_pb2.Load] = asyncio.Queue()
    other._on_load = reports.put_nowait
    running = [stage.caller.open("block") for _ in range(3)]
    await until(lambda: stage.runtime.statistics().ongoing == 3)
    assert isinstance(await Caller(other).error("echo"), ReplicaBusyError)
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing == 3
    model.gate.set()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing < 3
    assert [await call.next() for call in running] == ["released"] * 3
    await other.close()
    await accepting.close()


async def test_who_was_told_that_it_is_full_hears_of_the_free_slot(stage: Stage, model: Model) -> None:
    """Another gateway's calls took the slots: this one has nothing under way here, and waits without asking."""
    other, accepting = link_pair(stage.runtime.accept)
    stage.runtime.opened(accepting)
    reports: asyncio.Queue[session_pb2.Load] = asyncio.Queue()
    other._on_load = reports.put_nowait
    running = [stage.caller.open("block") for _ in range(3)]
    await until(lambda: stage.runtime.statistics().ongoing == 3)
    accepting.report_load()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing == 3
    model.gate.set()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing < 3
    assert [await call.next() for call in running] == ["released"] * 3
    await other.close()
    await accepting.close()


async def test_broadcasts_wait_for_a_slot(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    waiting = [stage.caller.open("", number, broadcast=True) for number in range(3)]
    given_up = stage.caller.open("", 9, broadcast=True)
    late = stage.caller.open("", 9, broadcast=True, timeout_s=0.05)
    given_up.cancel()
    assert isinstance(await given_up.error(), RequestCancelledError)
    assert isinstance(await late.error(), DeadlineExceededError)
    assert stage.runtime.statistics().waiting == 3
    assert stage.runtime.load().ongoing == 6
    model.gate.set()
    assert [await call.next() for call in waiting] == [0, 1, 2]
    assert [await call.next() for call in running] == ["released"] * 3


async def test_a_call_with_a_reservation_waits_rather_than_going_elsewhere(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    waiting = stage.caller.open("", 1, reservation_id="used")
    assert isinstance(await stage.caller.error("", 2), ReplicaBusyError)
    model.gate.set()
    assert await waiting.next() == 1
    assert [await call.next() for call in running] == ["released"] * 3


async def test_the_queue_of_broadcasts_is_bounded() -> None:
    model = Model()
    stage = Stage(model, max_ongoing_requests=1, max_waiting=1)
    running = stage.caller.open("block")
    waiting = stage.caller.open("", 1, broadcast=True)
    assert isinstance(await stage.caller.error("", 1, broadcast=True), ReplicaBusyError)
    model.gate.set()
    assert await running.next() == "released"
    assert await waiting.next() == 1
    await stage.close()


async def test_cancelling_reaches_the_coroutine_and_its_children(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("hang")
    await model.started.wait()
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == ["hang"]
    assert model.child.cancelled.is_set()


@pytest.mark.parametrize("method", ["echo", "echo_sync", "hang", "late_coroutine", "numbers", "numbers_sync"])
async def test_cancelled_before_it_could_start(stage: Stage, model: Model, method: str) -> None:
    answer = stage.caller.open(method, 5, stream=method.startswith("numbers"))
    answer.cancel()  # in the same packet
    assert isinstance(await answer.error(), RequestCancelledError)
    assert stage.runtime.statistics().ongoing == 0
    assert model.finished == []


async def test_a_swallowed_cancellation_is_a_cancellation_still(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("swallow")
    await model.started.wait()
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)


async def test_a_cancelled_thread_keeps_its_slot_until_it_returns(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("block")
    await stage.caller.call("", 1)
    answer.cancel()
    await stage.caller.call("", 1)
    assert stage.runtime.statistics().ongoing == 1
    assert not answer.ended.is_set()
    model.gate.set()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == ["block"]
    assert stage.runtime.statistics().ongoing == 0


async def test_a_deadline_that_passes_ends_the_call(stage: Stage, model: Model) -> None:
    error = await stage.caller.error("hang", timeout_s=0.05)
    assert isinstance(error, DeadlineExceededError)
    assert isinstance(error, TimeoutError)
    assert (
        str(error)
        == "the deadline of the call to app#Model.hang passed while it was running on app#Model#a, after 0.05 s"
    )
    assert model.finished == ["hang"]


async def test_a_deadline_that_has_passed_starts_nothing(stage: Stage, model: Model) -> None:
    class Blocking:
        async def spin(self) -> None:
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass

        async def work(self) -> None:
            model.finished.append("worked")

    stage = Stage(Blocking())
    spinning = stage.caller.open("spin")
    late = stage.caller.open("work", timeout_s=0.01)
    error = await late.error()
    assert isinstance(error, DeadlineExceededError)
    assert "#Blocking.work passed before it could start on app#Blocking#a, after 0.01 s" in str(error)
    assert await spinning.next() is None
    assert model.finished == []
    await stage.close()


async def test_a_lost_link_cancels_its_calls(model: Model) -> None:
    stage = Stage(model)
    stage.caller.open("hang")
    streaming = stage.caller.open("endless_sync", stream=True)
    await model.started.wait()
    await streaming.next()
    await stage.close()
    await until(lambda: sorted(model.finished) == ["endless_sync", "hang"])
    await until(lambda: stage.runtime.statistics().ongoing == 0)


async def test_draining(stage: Stage, model: Model) -> None:
    running = stage.caller.open("block")
    await stage.caller.call("", 1)
    stage.runtime.drain()
    refused = await stage.caller.error("echo")
    assert isinstance(refused, ReplicaDrainingError)
    idle = asyncio.create_task(stage.runtime.wait_idle())
    await asyncio.sleep(0)
    assert not idle.done()
    model.gate.set()
    assert await running.next() == "released"
    await asyncio.wait_for(idle, 60)


async def test_resizing(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    stage.runtime.resize(4)
    running.append(stage.caller.open("block"))
    assert isinstance(await stage.caller.error("echo"), ReplicaBusyError)
    model.gate.set()
    assert [await call.next() for call in running] == ["released"] * 4


# -- context


@pytest.mark.parametrize("method", ["remember", "remember_sync"])
async def test_context_variables_do_not_leak_between_calls(stage: Stage, method: str) -> None:
    for value in ("one", "two"):
        assert await stage.caller.call(method, value) == "clean"


async def test_the_request_context(stage: Stage) -> None:
    assert await stage.caller.call("request_id") == "r-1"
    assert await stage.caller.call("request_id_sync") == ("r-1", False)
