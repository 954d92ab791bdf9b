"""The table of errors."""

from __future__ import annotations

import pickle

import pytest

from fairlead.v1 import error_pb2
from fairlead.wire import errors
from fairlead.wire.errors import BY_REASON, BackPressureError, FairleadError

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FairleadError)]
OWN = [kind for kind in CLASSES if kind is not FairleadError]


def example(kind: type[FairleadError]) -> FairleadError:
    if kind is BackPressureError:
        return BackPressureError(7, 5, 429, 1.5)
    return kind("what happened", metadata={"replica": "a#b#c"})


def test_every_reason_has_exactly_one_class():
    reasons = sorted(int(kind.reason) for kind in OWN)
    assert reasons == sorted(set(error_pb2.ErrorReason.values()) - {error_pb2.ERROR_REASON_UNSPECIFIED})


def test_the_table_knows_every_class_by_its_reason():
    assert set(BY_REASON.values()) == set(OWN)
    for name, kind in BY_REASON.items():
        assert error_pb2.ErrorReason.Value(f"ERROR_REASON_{name}") == kind.reason


@pytest.mark.parametrize("kind", OWN)
def test_statuses_are_errors_and_classes_are_documented(kind: type[FairleadError]):
    assert kind.code.value[0] != 0
    assert 400 <= kind.http_status < 600
    assert kind.__doc__


@pytest.mark.parametrize("kind", OWN)
def test_errors_can_be_pickled_and_restored(kind: type[FairleadError]):
    error = example(kind)
    for again in (pickle.loads(pickle.dumps(error)), kind.restore(error.message, error.metadata)):
        assert type(again) is kind
        assert (again.message, again.metadata, str(again)) == (error.message, error.metadata, str(error))


def test_errors_that_are_also_builtin_ones():
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.CardinalityError, TypeError)


def test_what_may_be_sent_again():
    assert {kind.__name__ for kind in OWN if kind.never_started} == {
        "BackPressureError",
        "DeploymentUnavailableError",
        "GatewayDrainingError",
        "ReplicaBusyError",
        "ReplicaDrainingError",
        "TooManyCallsError",
    }


def test_metadata_is_not_shared():
    FairleadError().metadata["a"] = "b"
    assert FairleadError().metadata == {}
