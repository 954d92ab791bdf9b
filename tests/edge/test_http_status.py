"""Outcomes as google.rpc.Status in JSON."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf import any_pb2, json_format
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import DeadlineExceededError, DeploymentUnavailableError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.edge import http_status

_Code = grpc.StatusCode


def outcome(code: grpc.StatusCode, message: str = "m") -> session_pb2.Outcome:
    return session_pb2.Outcome(status=status_pb2.Status(code=code.value[0], message=message))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (_Code.CANCELLED, 499),
        (_Code.UNKNOWN, 500),
        (_Code.INVALID_ARGUMENT, 400),
        (_Code.DEADLINE_EXCEEDED, 504),
        (_Code.NOT_FOUND, 404),
        (_Code.ALREADY_EXISTS, 409),
        (_Code.PERMISSION_DENIED, 403),
        (_Code.RESOURCE_EXHAUSTED, 429),
        (_Code.FAILED_PRECONDITION, 400),
        (_Code.ABORTED, 409),
        (_Code.OUT_OF_RANGE, 400),
        (_Code.UNIMPLEMENTED, 501),
        (_Code.INTERNAL, 500),
        (_Code.UNAVAILABLE, 503),
        (_Code.DATA_LOSS, 500),
        (_Code.UNAUTHENTICATED, 401),
    ],
)
def test_codes(code: grpc.StatusCode, status: int) -> None:
    reply = http_status.outcome_reply(outcome(code), "r", None)
    assert (reply.status, json.loads(reply.body)) == (status, {"code": code.value[0], "message": "m", "details": []})


def test_the_body_is_a_status_with_its_details() -> None:
    failed = outcome(_Code.NOT_FOUND)
    failed.status.details.add().Pack(error_details_pb2.ResourceInfo(resource_name="shelves/1"))
    body = http_status.outcome_reply(failed, "r", None).body
    assert json_format.Parse(body, status_pb2.Status()) == failed.status
    assert json.loads(body)["details"][0]["resourceName"] == "shelves/1"


@pytest.mark.parametrize("url", ["type.googleapis.com/nobody.knows.It", "type.googleapis.com/google.rpc.ErrorInfo", ""])
def test_details_that_cannot_be_read_are_shown_as_bytes(url: str) -> None:
    failed = outcome(_Code.ABORTED)
    failed.status.details.append(any_pb2.Any(type_url=url, value=b"\xff\xff"))
    (detail,) = json.loads(http_status.outcome_reply(failed, "r", None).body)["details"]
    assert detail == {"@type": url, "value": "//8="}


def test_reasons_of_our_own_have_their_own_statuses() -> None:
    reply = http_status.outcome_reply(outcome_of(DeadlineExceededError("x"), trusted=False), "r", 0.5)
    assert (reply.status, json.loads(reply.body)["message"]) == (408, "Request r timed out after 0.5s.")
    assert http_status.outcome_reply(outcome_of(DeploymentUnavailableError("x")), "r", None).status == 503


def test_what_the_users_code_raised_is_not_shown() -> None:
    body = http_status.outcome_reply(outcome_of(KeyError("secret"), traceback="secret"), "r", None).body
    assert json.loads(body) == {"code": 13, "message": "Internal Server Error", "details": []}


def test_records() -> None:
    failed = outcome(_Code.ABORTED)
    record = b'{"error":{"code":10,"message":"m","details":[]}}'
    assert http_status.error_record(b"application/x-ndjson", failed) == record + b"\n"
    assert (
        http_status.error_record(b"text/event-stream; charset=utf-8", failed)
        == b"event: error\ndata: " + record + b"\n\n"
    )
    assert http_status.error_record(b"application/json", failed) == b""
