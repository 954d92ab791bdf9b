"""Calls with one result: rows A6 to A23 of the classic page, sections 1.4 and 1.5 of the modern one."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import threading

import cloudpickle
import pytest

from fairlead.serve import caller, connection
from fairlead.serve.connection import Connection
from fairlead.serve.exceptions import (
    BackPressureError,
    DeadlineExceededError,
    RayServeException,
    RequestCancelledError,
)
from fairlead.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentID,
    DeploymentResponse,
    DeploymentResponseGenerator,
)
from fairlead.v1 import session_pb2
from fairlead.wire.errors import MessageTooLargeError, ReplicaUnavailableError
from fairlead.wire.messages import MessageAssembler

CODECS = ["cloudpickle", "pickle", "msgpack", "orjson"]
TIMEOUT_S = 60


async def never(call, *args):
    await asyncio.Event().wait()


def test_the_public_names_are_classes():
    for name in (DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator, DeploymentBroadcastResponse):
        assert isinstance(name, type)


def test_remote_returns_at_once_and_result_blocks(gateway, handle):
    response = handle.remote("world")
    assert type(response) is DeploymentResponse
    assert response.result(timeout_s=TIMEOUT_S) == "world"
    assert response.result() == "world"
    header = gateway.calls[0].header
    assert (header.application, header.deployment, header.method) == ("app", "Echo", "__call__")


def test_a_call_that_nobody_waits_for_is_made(gateway, handle):
    made = threading.Event()
    gateway.methods["note"] = lambda call: made.set()
    handle.note.remote()
    assert made.wait(TIMEOUT_S)


async def test_await_any_number_of_times(handle):
    response = handle.remote({"a": [1]})
    assert await response == {"a": [1]}
    assert await response is await response


async def test_await_from_several_loops_at_once(gateway, handle):
    release = gateway.hold("slow")
    response = handle.slow.remote(7)

    async def fetch():
        return await response

    others = [asyncio.create_task(asyncio.to_thread(asyncio.run, fetch())) for _ in range(3)]
    blocked = asyncio.create_task(asyncio.to_thread(response.result))
    mine = asyncio.create_task(fetch())
    release()
    assert await asyncio.gather(mine, blocked, *others) == [7] * 5


def test_from_many_threads(gateway, handle):
    def call(n):
        assert [handle.remote((n, i)).result(timeout_s=TIMEOUT_S) for i in range(50)] == [(n, i) for i in range(50)]
        done.append(n)

    done: list[int] = []
    threads = [threading.Thread(target=call, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sorted(done) == list(range(6))
    assert gateway.connects == 1


async def test_on_the_wire_loop_itself(gateway):
    own = gateway.connection()
    own.use_loop(asyncio.get_running_loop())
    before = connection.use(own)
    try:
        handle = DeploymentHandle("Echo", "app")
        assert await asyncio.gather(*(handle.remote(n) for n in range(20))) == list(range(20))
        assert [item async for item in _counting(gateway, handle, 5)] == list(range(5))
    finally:
        await own.aclose()
        connection.use(before)


def _counting(gateway, handle, n):
    async def count(call, n):
        for i in range(n):
            yield i

    gateway.methods["count"] = count
    return handle.options(stream=True).count.remote(n)


def test_arguments_arrive_as_they_were_passed(gateway, handle):
    gateway.methods["f"] = lambda call, a, b=0, *c, **d: [a, b, list(c), d]
    assert handle.f.remote(1).result() == [1, 0, [], {}]
    assert handle.f.remote(1, 2, 3, 4, x=5).result() == [1, 2, [3, 4], {"x": 5}]


@pytest.mark.parametrize("request_name", CODECS)
@pytest.mark.parametrize("response_name", CODECS)
def test_serializations(gateway, handle, request_name, response_name):
    chosen = handle.options(request_serialization=request_name.upper(), response_serialization=response_name)
    value = {"a": [1, 2.5, "x", None, True]}
    assert chosen.remote(value).result() == value
    header = gateway.calls[0].header
    names = {"orjson": "JSON"}
    assert session_pb2.Serialization.Name(header.request_serialization).endswith(
        names.get(request_name, request_name.upper())
    )


@pytest.mark.parametrize("name", CODECS)
def test_a_lambda_is_for_cloudpickle_only(gateway, handle, name):
    gateway.methods["apply"] = lambda call, function: function(2)
    response = handle.options(request_serialization=name).apply.remote(lambda x: x + 1)
    if name == "cloudpickle":
        assert response.result() == 3
    else:
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError, ValueError)):
            response.result()
        assert not gateway.calls


@pytest.mark.parametrize("name", CODECS)
def test_exceptions_keep_their_type_under_every_serialization(gateway, handle, name):
    class OwnError(Exception):
        pass

    def boom(call, kind):
        raise ValueError("boom") if kind == "builtin" else OwnError("own")

    gateway.methods["boom"] = boom
    chosen = handle.options(request_serialization=name, response_serialization=name)
    with pytest.raises(ValueError, match="boom") as caught:
        chosen.boom.remote("builtin").result()
    assert "the remote traceback" in str(caught.value.__cause__)
    with pytest.raises(Exception, match="own") as caught_own:
        chosen.boom.remote("own").result()
    assert type(caught_own.value).__name__ == "OwnError"


def test_own_errors_arrive_whole(gateway, handle):
    def full(call):
        raise BackPressureError(3, 2, 429, 1.5)

    gateway.methods["full"] = full
    with pytest.raises(BackPressureError, match="Request dropped due to backpressure") as caught:
        handle.full.remote().result()
    assert (caught.value.status_code, caught.value.retry_after_s) == (429, 1.5)


def test_the_method_is_looked_up_by_the_callee(handle):
    response = handle.nothing.remote()
    with pytest.raises(RayServeException, match="no method nothing"):
        response.result()


def test_options_make_an_updated_copy(gateway, handle):
    gateway.methods["m"] = lambda call: "m"
    other = handle.options(method_name="m", multiplexed_model_id="model:v1")
    assert handle.remote(1).result() == 1
    assert other.options(stream=False, session_id="s", shard_key="k").remote().result() == "m"
    header = gateway.calls[-1].header
    assert (header.multiplexed_model_id, header.session_id, header.shard_key) == ("model:v1", "s", "k")
    assert handle.m.remote().result() == "m"
    assert handle.m is handle.m


def test_options_refuse_what_they_do_not_know(handle):
    with pytest.raises(TypeError):
        handle.options("m")
    with pytest.raises(TypeError, match="no option 'colour'"):
        handle.options(colour="red")
    with pytest.raises(ValueError, match="Available: cloudpickle, pickle, msgpack, orjson"):
        handle.options(request_serialization="yaml")
    with pytest.raises(ValueError, match="timeout_s"):
        handle.options(timeout_s=-1)
    with pytest.raises(TypeError):
        handle.options(method_name=3)


def test_options_of_ray_alone_change_nothing(handle):
    assert handle.options(use_new_handle_api=True, _prefer_local_routing=True).remote(1).result() == 1
    assert handle.options(_by_reference=False, use_new_handle_api=False).remote(1).result() == 1
    with pytest.warns(UserWarning, match="by value"):
        by_reference = handle.options(_by_reference=True)
    response = by_reference.remote(1)
    assert response.result() == 1
    assert response.by_reference is False


def test_a_response_is_an_argument(gateway, handle):
    gateway.methods["kind"] = lambda call, *args, **kwargs: [type(arg).__name__ for arg in (*args, *kwargs.values())]
    gateway.methods["add"] = lambda call, a, b=1: a + b
    one = handle.remote(1)
    assert handle.kind.remote(one, b=one).result() == ["int", "int"]
    assert handle.add.remote(handle.add.remote(one), b=handle.remote(10)).result() == 12


def test_arguments_are_resolved_at_once_and_the_call_waits_for_them_outside_of_any_queue(gateway, handle):
    release = gateway.hold("slow")
    gateway.methods["add"] = lambda call, a, b: a + b
    outer = handle.add.remote(handle.slow.remote(1), b=handle.slow.remote(2))
    assert handle.remote("later").result(timeout_s=TIMEOUT_S) == "later"
    assert [call.header.method for call in gateway.calls] == ["slow", "slow", "__call__"]
    release()
    assert outer.result(timeout_s=TIMEOUT_S) == 3


def test_the_failure_of_an_argument_is_the_calls(gateway, handle):
    def lost(call):
        raise ReplicaUnavailableError("gone")

    gateway.methods |= {"boom": lambda call: 1 / 0, "lost": lost}
    with pytest.raises(ZeroDivisionError):
        handle.remote(handle.boom.remote()).result()
    with pytest.raises(RayServeException, match=r"Echo\.__call__.*Echo\.lost"):
        handle.remote(handle.lost.remote()).result()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_result_that_is_too_large_fails_its_call_alone(gateway, handle, streaming, monkeypatch):
    monkeypatch.setattr(caller, "MessageAssembler", functools.partial(MessageAssembler, 500_000))

    async def items(call):
        yield b"small"
        yield bytes(1_000_000)

    gateway.methods |= {"large": lambda call: bytes(1_000_000), "items": items}
    with pytest.raises(MessageTooLargeError, match="more than 500000 bytes"):
        if streaming:
            stream = handle.options(stream=True).items.remote()
            assert next(stream) == b"small"
            next(stream)
        else:
            handle.large.remote().result(timeout_s=TIMEOUT_S)
    assert handle.remote(1).result(timeout_s=TIMEOUT_S) == 1
    assert gateway.connects == 1


@pytest.mark.parametrize("name", CODECS)
def test_a_response_inside_a_container_is_refused(handle, name):
    chosen = handle.options(request_serialization=name)
    for nested in ([handle.remote(1)], {"a": (handle.remote(1),)}):
        with pytest.raises(RayServeException, match="`DeploymentResponse` is not serializable"):
            chosen.remote(nested).result()


async def test_result_in_an_event_loop(handle):
    response = handle.remote(1)
    with pytest.raises(RuntimeError, match="Sync methods should not be called from within an `asyncio` event loop"):
        response.result()
    assert await response == 1


def test_a_timeout_of_result_leaves_the_call_alone(gateway, handle):
    release = gateway.hold("slow", "late")
    response = handle.slow.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.01)
    release()
    assert response.result(timeout_s=TIMEOUT_S) == "late"
    assert not gateway.cancellations


def test_cancel(gateway, handle):
    gateway.methods["never"] = never
    response = handle.never.remote()
    assert not response.cancelled()
    response.cancel()
    response.cancel()
    assert response.cancelled()
    with pytest.raises(RequestCancelledError):
        response.result(timeout_s=TIMEOUT_S)


async def test_cancel_reaches_the_callee_and_awaiters(gateway, handle):
    started = threading.Event()

    async def waits(call):
        started.set()
        await never(call)

    gateway.methods["waits"] = waits
    response = handle.waits.remote()
    await asyncio.to_thread(started.wait, TIMEOUT_S)
    waiting = asyncio.ensure_future(response)
    await asyncio.sleep(0)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await waiting
    while not gateway.cancellations:
        await asyncio.sleep(0.001)
    assert gateway.cancellations == ["waits"]


def test_cancel_after_the_end_changes_nothing(handle):
    response = handle.remote(1)
    assert response.result() == 1
    response.cancel()
    assert response.result() == 1


async def test_cancelling_the_task_that_awaits_leaves_the_call_alone(gateway, handle):
    release = gateway.hold("slow", 1)
    response = handle.slow.remote()
    waiting = asyncio.ensure_future(response)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release()
    assert await response == 1


def test_timeout_s_reaches_the_gateway_and_holds_here(gateway, handle):
    gateway.methods["never"] = never
    with pytest.raises(DeadlineExceededError) as caught:
        handle.options(timeout_s=0.05).never.remote().result(timeout_s=TIMEOUT_S)
    assert isinstance(caught.value, TimeoutError)
    message = "the deadline of the call to app#Echo.never passed without an answer of the gateway's"
    assert str(caught.value) == message
    assert 0 < gateway.calls[0].header.timeout_us <= 50_000
    assert handle.remote(1).result() == 1
    assert gateway.calls[-1].header.timeout_us == 0


def test_request_ids_differ_and_travel(gateway, handle):
    responses = [handle.remote(n) for n in range(3)]
    assert [response.result() for response in responses] == [0, 1, 2]
    ids = [response.request_id for response in responses]
    assert len(set(ids)) == 3
    assert [call.header.request_id for call in gateway.calls] == ids


def test_large_arguments_and_results_pass(handle):
    value = bytes(range(256)) * 8192
    assert handle.remote(value).result(timeout_s=TIMEOUT_S) == value
    assert (
        handle.options(request_serialization="msgpack", response_serialization="msgpack").remote(value).result()
        == value
    )


def test_a_pickled_handle_calls_through_the_process_it_is_in(gateway, handle):
    sent = pickle.loads(cloudpickle.dumps(handle.options(stream=False, session_id="s").f))
    gateway.methods["f"] = lambda call: call.header.session_id
    assert sent.remote().result() == "s"
    assert (sent.deployment_name, sent.app_name) == ("Echo", "app")
    assert copy.copy(handle).remote(3).result() == 3


def test_a_pickled_handle_in_a_process_without_a_connection(gateway, handle):
    data = pickle.dumps(handle)
    elsewhere = Connection(gateway.connect)
    before = connection.use(elsewhere)
    try:
        assert pickle.loads(data).remote(4).result(timeout_s=TIMEOUT_S) == 4
        assert elsewhere.address == "unix:/fake"
    finally:
        elsewhere.close()
        connection.use(before)


def test_a_response_cannot_be_pickled(handle):
    with pytest.raises(RayServeException, match="is not serializable"):
        pickle.dumps(handle.remote(1))
    with pytest.raises(RuntimeError):
        handle.remote(1)._to_object_ref_sync()


def test_what_a_handle_says_of_itself(handle):
    assert repr(handle) == "DeploymentHandle(deployment='Echo')"
    assert handle.deployment_id == DeploymentID("Echo", "app")
    assert str(handle.deployment_id) == "Deployment(name='Echo', app='app')"
    assert type(handle).__name__ == "DeploymentHandle"
    with pytest.raises(AttributeError):
        handle.__wrapped__


def test_init(gateway):
    handle = DeploymentHandle("Echo", "app")
    assert not handle.is_initialized
    with pytest.raises(RuntimeError):
        handle.options(method_name="x")._init()
    handle._init(_prefer_local_routing=True)
    assert handle.is_initialized
    with pytest.raises(RuntimeError):
        handle._init()
    used = DeploymentHandle("Echo", "app")
    used.f.remote()
    with pytest.raises(RuntimeError):
        used._init()
    assert used.running_replicas_populated()
    used.shutdown()
