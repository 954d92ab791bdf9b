"""One call with one result: its arguments, its method, what goes wrong, and what it knows of itself."""

from __future__ import annotations

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.codecs import CLOUDPICKLE, CODECS, MSGPACK, ORJSON, Codec
from fairlead.wire.errors import (
    BackPressureError,
    ConnectionLostError,
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
from tests.replica.calling import Answer, Stage
from tests.replica.model import CustomError, Model, Unspeakable

INVALID_ARGUMENT = 3


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


# -- context


@pytest.mark.parametrize("method", ["remember", "remember_sync"])
async def test_context_variables_do_not_leak_between_calls(stage: Stage, method: str) -> None:
    for value in ("one", "two"):
        assert await stage.caller.call(method, value) == "clean"


async def test_the_request_context(stage: Stage) -> None:
    assert await stage.caller.call("request_id") == "r-1"
    assert await stage.caller.call("request_id_sync") == ("r-1", False)
