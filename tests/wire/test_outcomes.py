"""Exceptions on their way: to an Outcome and back."""

from __future__ import annotations

import asyncio
import builtins
import threading

import pytest
from google.rpc import error_details_pb2

from fairlead.v1 import session_pb2
from fairlead.wire import errors
from fairlead.wire.errors import BackPressureError, FairleadError, InternalError, UserExceptionError
from fairlead.wire.outcomes import (
    MAX_EXCEPTION,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    RemoteTraceback,
    error_info,
    error_of,
    outcome_of,
    without_secrets,
)
from tests.wire.test_errors import OWN, example


class NeedsTwoError(Exception):
    def __init__(self, first: int, *, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.first = first
        self.second = second


class HoldsALockError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class SealedError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not today")


def travelled(error: BaseException, **options: object) -> BaseException:
    """The error after a trip over the wire."""
    data = outcome_of(error, **options).SerializeToString()
    trusted = bool(options.get("trusted", True))
    return error_of(session_pb2.Outcome.FromString(data), trusted=trusted)


# -- the user's exceptions


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3),
        KeyError("missing"),
        OSError(2, "No such file", "name"),
        ZeroDivisionError(),
        SealedError(7),
    ],
    ids=repr,
)
def test_an_exception_reaches_a_trusted_peer_as_itself(error: Exception):
    again = travelled(error)
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)


def test_an_exception_group_reaches_a_trusted_peer_with_its_members():
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])
    again = travelled(group)
    assert type(again) is ExceptionGroup
    assert [type(each) for each in again.exceptions] == [ValueError, ExceptionGroup]


def test_the_remote_traceback_is_the_cause():
    again = travelled(ValueError("x"), traceback="Traceback: line 1")
    assert isinstance(again.__cause__, RemoteTraceback)
    assert "line 1" in str(again.__cause__)
    assert travelled(ValueError("x")).__cause__ is None


def test_a_traceback_on_an_exception_that_forbids_attributes():
    again = travelled(SealedError(3), traceback="line 1")
    assert type(again) is SealedError
    assert isinstance(again.__cause__, RemoteTraceback)


def test_of_a_long_traceback_the_end_is_kept():
    outcome = outcome_of(ValueError(), traceback="x" * MAX_TRACEBACK + "the end")
    assert len(outcome.traceback) == MAX_TRACEBACK
    assert outcome.traceback.endswith("the end")


@pytest.mark.parametrize(
    "error",
    [NeedsTwoError(1, second="b"), HoldsALockError("held")],
    ids=["args", "lock"],
)
def test_an_exception_that_cannot_travel_is_named(error: Exception):
    again = travelled(error)
    assert isinstance(again, UserExceptionError)
    kind = type(error)
    assert again.metadata["exception_type"] == f"{kind.__module__}.{kind.__qualname__}"
    assert again.message.startswith(f"{kind.__qualname__}: ")


def test_an_exception_larger_than_a_frame_is_named():
    outcome = outcome_of(ValueError("x" * (MAX_EXCEPTION + 1)), traceback="t" * (2 * MAX_TRACEBACK))
    assert outcome.exception == b""
    assert outcome.ByteSize() < MAX_EXCEPTION
    again = error_of(outcome)
    assert type(again) is ValueError  # made again by name
    assert len(str(again)) == MAX_MESSAGE


@pytest.mark.parametrize(
    "error",
    [
        ValueError("\ud800 \udcff.txt"),
        SilentError(),
        ValueError("ü" * 10_000),
        type("Odd", (Exception,), {"__module__": None})(),
    ],
    ids=["surrogates", "silent", "long", "no module"],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_every_exception_has_an_outcome(error: Exception, trusted: bool):
    outcome = outcome_of(error, trusted=trusted, traceback="\udcff")
    assert outcome.status.code == 13
    assert len(outcome.status.message) <= MAX_MESSAGE
    assert isinstance(travelled(error, trusted=trusted), Exception)


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        GeneratorExit(),
        StopIteration(1),
        StopAsyncIteration(),
        BaseExceptionGroup("", [KeyboardInterrupt()]),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("trusted", [False, True])
async def test_what_would_end_the_caller_is_not_raised_there(error: BaseException, trusted: bool):
    again = travelled(error, trusted=trusted)
    assert isinstance(again, UserExceptionError)
    assert type(error).__name__ in again.message
    future = asyncio.get_running_loop().create_future()
    future.set_exception(again)
    with pytest.raises(UserExceptionError):
        await future


# -- peers that are not trusted


def test_a_peer_that_is_not_trusted_gets_neither_the_exception_nor_the_traceback():
    outcome = outcome_of(NeedsTwoError(1, second="b"), trusted=False, traceback="secret path")
    assert outcome.exception == b""
    assert outcome.traceback == ""
    full = outcome_of(ValueError("x"), traceback="secret path")
    assert full.exception
    stripped = without_secrets(full)
    assert (stripped.exception, stripped.traceback, stripped.status) == (b"", "", full.status)
    assert full.exception
    assert without_secrets(stripped) is stripped


class Canary(Exception):
    sang = False

    def __reduce__(self):
        return _sing, ()


def _sing() -> Exception:
    Canary.sang = True
    return Canary()


def test_nothing_is_unpickled_from_a_peer_that_is_not_trusted():
    outcome = outcome_of(Canary(), trusted=True, traceback="their text")
    assert outcome.exception
    Canary.sang = False
    again = error_of(outcome, trusted=False)
    assert not Canary.sang
    assert isinstance(again, UserExceptionError)
    assert again.__cause__ is None
    error_of(outcome)
    assert Canary.sang  # it can


def named(name: str, text: str = "text") -> session_pb2.Outcome:
    outcome = session_pb2.Outcome()
    outcome.status.code = 13
    outcome.status.message = "message"
    info = error_details_pb2.ErrorInfo(
        domain="fairlead", reason="USER_EXCEPTION", metadata={"exception_type": name, "exception_message": text}
    )
    outcome.status.details.add().Pack(info)
    return outcome


@pytest.mark.parametrize("name", ["ValueError", "TimeoutError", "RuntimeError", "BlockingIOError", "UserWarning"])
@pytest.mark.parametrize("trusted", [False, True])
def test_builtin_exceptions_are_made_again_by_name(name: str, trusted: bool):
    again = error_of(named(f"builtins.{name}"), trusted=trusted)
    assert type(again) is getattr(builtins, name)
    assert str(again) == "text"


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "builtins.exec",
        "builtins.__import__",
        "builtins.open",
        "builtins.print",
        "builtins.object",
        "builtins.BaseException",
        "builtins.SystemExit",
        "builtins.KeyboardInterrupt",
        "builtins.StopIteration",
        "builtins.UnicodeDecodeError",
        "builtins.ExceptionGroup",
        "builtins.",
        "builtins",
        "",
        ".",
        "os.system",
        "builtins.ValueError.__class__",
        "x.builtins.ValueError",
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_other_names_call_nothing(name: str, trusted: bool, monkeypatch):
    called: list[object] = []
    for function in ("eval", "exec", "open", "print"):
        monkeypatch.setattr(builtins, function, lambda *args, **options: called.append(args))
    again = error_of(named(name, "raise SystemExit"), trusted=trusted)
    monkeypatch.undo()
    assert called == []
    assert type(again) is UserExceptionError


@pytest.mark.parametrize("data", [b"garbage", b"\x80\x05N.", b"\x80\x05cos\nno_such_name\n."])
def test_bytes_that_are_no_exception(data: bytes):
    outcome = named("somewhere.SomeError")
    outcome.exception = data
    again = error_of(outcome)
    assert type(again) is UserExceptionError
    assert again.message == "message"


# -- errors of our own


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("trusted", [False, True])
def test_our_errors_travel_by_reason(kind: type[FairleadError], trusted: bool):
    error = example(kind)
    outcome = outcome_of(error, trusted=trusted)
    assert outcome.exception == b""
    assert outcome.status.code == kind.code.value[0]
    again = travelled(error, trusted=trusted)
    assert type(again) is kind
    assert (again.message, again.metadata) == (error.message, error.metadata)


def test_back_pressure_keeps_its_fields():
    again = travelled(BackPressureError(7, 5, 429, 1.5), trusted=False)
    assert isinstance(again, BackPressureError)
    assert (again.num_queued_requests, again.max_queued_requests) == (7, 5)
    assert (again.status_code, again.retry_after_s) == (429, 1.5)
    assert travelled(BackPressureError(1, 1)).retry_after_s is None


def test_backpressure_says_when_to_come_back_as_grpc_clients_expect_it():
    _, detail = outcome_of(BackPressureError(7, 5, 429, 1.5)).status.details
    wait = error_details_pb2.RetryInfo()
    assert detail.Unpack(wait)
    assert wait.retry_delay.ToMilliseconds() == 1500
    assert len(outcome_of(BackPressureError(1, 1)).status.details) == 1


def test_an_error_raised_by_the_user_that_is_one_of_ours():
    class TheirsError(errors.InvalidCallError):
        pass

    assert type(travelled(TheirsError("x"))) is errors.InvalidCallError


@pytest.mark.parametrize("trusted", [False, True])
def test_statuses_of_others_are_internal_errors(trusted: bool):
    outcome = session_pb2.Outcome()
    assert isinstance(error_of(outcome, trusted=trusted), InternalError)
    outcome.status.code = 7
    outcome.status.message = "theirs"
    info = error_details_pb2.ErrorInfo(domain="elsewhere", reason="QUEUE_FULL")
    outcome.status.details.add().Pack(info)
    assert error_info(outcome.status) is None
    again = error_of(outcome, trusted=trusted)
    assert type(again) is InternalError
    assert again.message == "theirs"


@pytest.mark.parametrize("value", [b"\xff\xff", b"\x0a\xff"])
def test_malformed_details_are_skipped(value: bytes):
    outcome = session_pb2.Outcome()
    outcome.status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=value)
    outcome.status.details.add().Pack(error_details_pb2.ErrorInfo(domain="fairlead", reason="CANCELLED"))
    assert isinstance(error_of(outcome), errors.RequestCancelledError)


@pytest.mark.parametrize(
    ("reason", "metadata", "kind"),
    [
        ("QUEUE_FULL", {"num_queued_requests": "many"}, InternalError),
        ("QUEUE_FULL", {"retry_after_s": "soon"}, InternalError),
        ("QUEUE_FULL", {}, BackPressureError),
        ("A_REASON_OF_LATER", {}, InternalError),
        ("", {}, InternalError),
    ],
)
def test_what_another_version_sends_is_an_error_too(reason: str, metadata: dict[str, str], kind: type[FairleadError]):
    outcome = session_pb2.Outcome()
    outcome.status.message = "text"
    outcome.status.details.add().Pack(error_details_pb2.ErrorInfo(domain="fairlead", reason=reason, metadata=metadata))
    assert type(error_of(outcome, trusted=False)) is kind
