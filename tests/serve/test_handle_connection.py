"""Handles and the connection of their process: trust, losses, other gateways, the end."""

from __future__ import annotations

import asyncio
import time

import cloudpickle
import pytest

from fairlead.serve import connection
from fairlead.serve.connection import Connection
from fairlead.serve.exceptions import (
    ConnectionLostError,
    DeadlineExceededError,
    RayServeException,
    UntrustedSerializationError,
)
from fairlead.wire.errors import TooManyCallsError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from tests.serve.fake_gateway import FakeGateway

TIMEOUT_S = 60


async def never(call, *args):
    await asyncio.Event().wait()


def test_without_an_address(handle):
    nowhere = Connection()
    before = connection.use(nowhere)
    try:
        with pytest.raises(RayServeException, match="not connected"):
            handle.remote(1).result(timeout_s=TIMEOUT_S)
    finally:
        nowhere.close()
        connection.use(before)


@pytest.mark.parametrize("options", [{}, {"request_serialization": "orjson"}, {"response_serialization": "orjson"}])
def test_untrusted_connections_refuse_pickles_before_anything_is_sent(gateway, handle, options):
    with gateway.connected(Trust.UNTRUSTED):
        response = handle.options(**options).remote(1)
        with pytest.raises(UntrustedSerializationError, match="use one of: msgpack, orjson"):
            response.result(timeout_s=TIMEOUT_S)
        assert not gateway.calls
        safe = handle.options(request_serialization="orjson", response_serialization="msgpack")
        assert safe.remote([1]).result(timeout_s=TIMEOUT_S) == [1]


def test_an_untrusted_peer_cannot_make_us_unpickle_an_exception(gateway, handle):
    unpickled: list[str] = []

    class Canary:
        def __reduce__(self):
            return (unpickled.append, ("code ran",))

    def boom(call):
        outcome = outcome_of(RuntimeError("sharp"))
        outcome.exception = cloudpickle.dumps(Canary())
        outcome.traceback = "secret"
        call.stream.link.end(call.stream, outcome)

    gateway.methods["boom"] = boom
    with gateway.connected(Trust.UNTRUSTED):
        safe = handle.options(request_serialization="orjson", response_serialization="orjson")
        with pytest.raises(RuntimeError, match="sharp") as caught:
            safe.boom.remote().result(timeout_s=TIMEOUT_S)
        assert caught.value.__cause__ is None
        assert not unpickled


def lose(gateway: FakeGateway) -> None:
    connection.current().post(lambda: gateway.links[-1].lose(ConnectionLostError("cut")))


def wait_for(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_lost_connection_fails_its_calls_and_the_next_one_reconnects(gateway, handle):
    gateway.methods["never"] = never
    pending = handle.never.remote()
    wait_for(lambda: gateway.calls)
    lose(gateway)
    with pytest.raises(ConnectionLostError):
        pending.result(timeout_s=TIMEOUT_S)
    gateway.refuse = 2
    assert handle.remote("again").result(timeout_s=TIMEOUT_S) == "again"
    assert gateway.connects == 4


def test_idempotent_calls_are_sent_again(gateway, handle):
    async def first_never(call):
        if len(gateway.calls) == 1:
            await never(call)
        return len(gateway.calls)

    gateway.methods["twice"] = first_never
    pending = handle.options(idempotent=True).twice.remote()
    wait_for(lambda: gateway.calls)
    lose(gateway)
    assert pending.result(timeout_s=TIMEOUT_S) == 2


def test_a_deadline_holds_while_the_gateway_cannot_be_reached(gateway, handle):
    gateway.refuse = 1000
    with pytest.raises(DeadlineExceededError):
        handle.options(timeout_s=0.05).remote(1).result(timeout_s=TIMEOUT_S)


def test_a_gateway_that_stays_away_is_given_up(gateway, handle, monkeypatch, caplog):
    monkeypatch.setattr(connection, "PATIENCE_S", 0.05)
    gateway.refuse = 1000
    with pytest.raises(ConnectionLostError, match="gave up reaching the gateway"):
        handle.remote(1).result(timeout_s=TIMEOUT_S)
    assert caplog.text == ""


def test_what_calls_wait_for_is_said_once(gateway, handle, monkeypatch, caplog):
    monkeypatch.setattr(connection, "SILENT_S", 0.0)
    gateway.refuse = 5
    assert handle.remote(1).result(timeout_s=TIMEOUT_S) == 1
    assert [record.getMessage().partition(";")[2] for record in caplog.records] == [" trying for 15 s more"]


def test_a_gateway_that_drains_is_left_and_its_calls_go_on(gateway, handle):
    release = gateway.hold("slow", "old")
    old = handle.slow.remote()
    wait_for(lambda: gateway.calls)
    connection.current().post(gateway.links[0].goodbye)
    assert [handle.remote(n).result(timeout_s=TIMEOUT_S) for n in range(3)] == [0, 1, 2]
    wait_for(lambda: handle.remote(0).result(timeout_s=TIMEOUT_S) == 0 and len(gateway.links) == 2)
    release()
    assert old.result(timeout_s=TIMEOUT_S) == "old"


def test_a_new_address_takes_further_calls_and_old_ones_go_on(gateway, handle):
    release = gateway.hold("slow", "old")
    old = handle.slow.remote()
    wait_for(lambda: gateway.calls)
    connection.set_address("unix:/other", Trust.OWNER)
    assert handle.remote(2).result(timeout_s=TIMEOUT_S) == 2
    assert gateway.connects == 2
    assert not gateway.links[0].closed
    release()
    assert old.result(timeout_s=TIMEOUT_S) == "old"
    wait_for(lambda: gateway.links[0].closed)
    assert not gateway.links[1].closed


def test_a_session_that_carries_too_many_calls_says_so(gateway, handle):
    gateway.methods["never"] = never
    assert handle.remote(1).result() == 1
    connection.current()._link.session.max_calls = 1
    first = handle.never.remote()
    with pytest.raises(TooManyCallsError):
        handle.remote(2).result(timeout_s=TIMEOUT_S)
    first.cancel()


def test_close_fails_what_is_under_way(gateway, handle):
    gateway.methods["never"] = never
    pending = handle.never.remote()
    wait_for(lambda: gateway.calls)
    connection.close()
    with pytest.raises(ConnectionLostError):
        pending.result(timeout_s=TIMEOUT_S)
    with pytest.raises(RayServeException, match="not connected"):
        handle.remote(1).result(timeout_s=TIMEOUT_S)
