"""Outcomes as gRPC statuses."""

import grpc
import pytest
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import BackPressureError, InvalidCallError
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead_gateway.edge.status import MAX_METADATA_BYTES, code_of, grpc_status


def rich(outcome):
    _, _, ((_, details),) = grpc_status(outcome)
    return status_pb2.Status.FromString(details)


def test_small_ones_pass_as_they_are():
    outcome = outcome_of(BackPressureError(1, 2))
    code, message, _ = grpc_status(outcome)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message == outcome.status.message
    assert rich(outcome) == outcome.status


@pytest.mark.parametrize("text", ["x" * 4000, "ü" * 4000, "\n" * 4000, "🦊" * 4000])
def test_large_ones_fit_into_trailers(text):
    outcome = outcome_of(InvalidCallError(text, metadata={f"key{n}": text for n in range(40)}))
    _, message, ((_, details),) = grpc_status(outcome)
    status = status_pb2.Status.FromString(details)
    assert len(details) * 4 / 3 <= MAX_METADATA_BYTES
    assert status.message == message
    assert message[:50] == text[:50]
    info = error_info(status)
    assert info is not None
    assert info.reason == "INVALID_CALL"


@pytest.mark.parametrize("code", [0, 99, -1])
def test_numbers_that_are_no_error_codes_are_unknown(code):
    assert code_of(status_pb2.Status(code=code)) is grpc.StatusCode.UNKNOWN
    assert grpc_status(session_pb2.Outcome(status=status_pb2.Status(code=code)))[0] is grpc.StatusCode.UNKNOWN
