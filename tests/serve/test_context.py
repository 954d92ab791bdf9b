"""What user code learns of its call and replica, and what calls made on behalf of calls inherit."""

from __future__ import annotations

import asyncio
import contextvars
import json
import pickle
import time

import pytest

from fairlead import serve
from fairlead.serve.context import (
    ReplicaContext,
    ReplicaName,
    RequestContext,
    _get_serve_request_context,
    get_multiplexed_model_id,
    get_replica_context,
    get_request_context,
    is_replica,
    reset_request_context,
    set_replica_context,
    set_request_context,
)
from fairlead.serve.exceptions import DeadlineExceededError, RayServeException, RequestCancelledError
from fairlead.v1 import session_pb2

TIMEOUT_S = 60


@pytest.fixture
def context():
    header = session_pb2.CallHeader(
        application="app", request_id="r1", route="/x", multiplexed_model_id="m", session_id="s"
    )
    context = RequestContext(header)
    token = set_request_context(context)
    yield context
    reset_request_context(token)


def test_outside_of_a_call():
    assert get_multiplexed_model_id() == ""
    assert get_request_context().request_id == ""
    assert _get_serve_request_context().app_name == ""


def test_fields(context):
    assert serve.get_request_context() is context
    assert (context.request_id, context._internal_request_id, context.route) == ("r1", "r1", "/x")
    assert (context.app_name, context.multiplexed_model_id, context.session_id) == ("app", "m", "s")
    assert (context.is_http_request, context.grpc_context, context.cancel_on_parent_request_cancel) == (
        False,
        None,
        True,
    )
    assert serve.get_multiplexed_model_id() == "m"
    assert "r1" in repr(context)


def test_the_replica():
    with pytest.raises(RayServeException, match="get_replica_context"):
        get_replica_context()
    mine = ReplicaContext(app_name="app", deployment="D", replica_id=ReplicaName("app#D#abcdef"))
    set_replica_context(mine)
    try:
        assert serve.get_replica_context() is mine
        assert (mine.replica_tag, is_replica()) == ("abcdef", True)
        sent = pickle.loads(pickle.dumps(mine.replica_id))
        assert (sent, sent.unique_id, sent.to_full_id_str()) == ("app#D#abcdef", "abcdef", "app#D#abcdef")
        assert json.loads(json.dumps([sent])) == ["app#D#abcdef"]
    finally:
        set_replica_context(None)


def test_the_tag_of_a_classic_backends_replica() -> None:
    name = ReplicaName("backend:model:v1#model:v1#abcdef")
    one = ReplicaContext(app_name="backend:model:v1", deployment="model:v1", replica_id=name)
    assert (one.backend_tag, one.replica_tag) == ("model:v1", "model:v1#abcdef")


def test_calls_carry_on_the_request(gateway, handle, context):
    response = handle.options(multiplexed_model_id="other").remote(1)
    assert response.request_id == "r1"
    assert response.result() == 1
    header = gateway.calls[0].header
    assert (header.request_id, header.route) == ("r1", "/x")
    assert (header.multiplexed_model_id, header.session_id) == ("other", "")
    assert context.multiplexed_model_id == "m"
    handle.remote(2).result()
    assert gateway.calls[1].header.multiplexed_model_id == ""


def test_calls_end_with_the_deadline_of_their_request(gateway, handle, context):
    async def never(call):
        await asyncio.Event().wait()

    gateway.methods["never"] = never
    context.deadline = time.monotonic() + 0.05
    with pytest.raises(DeadlineExceededError):
        handle.options(timeout_s=60).never.remote().result(timeout_s=TIMEOUT_S)
    assert gateway.calls[0].header.timeout_us <= 50_000
    context.deadline = time.monotonic() + 60
    handle.options(timeout_s=10).remote(1).result()
    assert gateway.calls[1].header.timeout_us <= 10_000_000


def test_calls_are_cancelled_with_their_request(gateway, handle, context):
    async def never(call):
        await asyncio.Event().wait()

    gateway.methods["never"] = never
    ended = handle.remote(1)
    assert ended.result() == 1
    child = handle.never.remote()
    waiting_for_an_argument = handle.remote(handle.never.remote())
    outside = contextvars.Context().run(handle.never.remote)
    assert "children=3" in repr(context)
    context.cancel_children()
    for response in (child, waiting_for_an_argument):
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=TIMEOUT_S)
    assert "children=0" in repr(context)
    with pytest.raises(TimeoutError):
        outside.result(timeout_s=0.02)
    outside.cancel()


def test_ray_serves_private_names() -> None:
    from fairlead.serve import context

    token = context._serve_request_context.set(
        context._RequestContext(route="/r", request_id="1", app_name="a", multiplexed_model_id="m", session_id="s")
    )
    try:
        found = context._get_serve_request_context()
        assert (found.route, found.request_id, found.app_name, found.session_id) == ("/r", "1", "a", "s")
        assert serve.get_multiplexed_model_id() == "m"
        assert serve.get_request_context() is found
    finally:
        context._serve_request_context.reset(token)
    assert context._get_internal_replica_context() is None
