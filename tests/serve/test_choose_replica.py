"""Slots of replicas held for a block: a handle before the gateway's own router and session door, all in one loop."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairlead.serve import connection
from fairlead.serve.connection import Connection
from fairlead.serve.context import RequestContext, reset_request_context, set_request_context
from fairlead.serve.exceptions import (
    BackPressureError,
    ConnectionLostError,
    DeadlineExceededError,
    ReplicaUnavailableError,
    RequestCancelledError,
    ReservationNotFoundError,
)
from fairlead.serve.handle import DeploymentHandle, ReplicaSelection
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import codec_of, load_arguments
from fairlead.wire.errors import GatewayDrainingError
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.stream import Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.session_door import _SessionCall
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import FakeReplica, ReplicaCall, application, routes, settle, snapshot
from tests.wire.calls import until

IDS = ("app#Echo#a", "app#Echo#b")


class Gateway:
    """A router with two replicas of one slot each, and sessions with it in memory."""

    def __init__(self) -> None:
        self.router = Router(asyncio.get_running_loop())
        self.links: list[Link] = []
        self.describe(*IDS)
        self.replicas = {each: FakeReplica(each) for each in IDS}
        for replica_id, replica in self.replicas.items():
            replica.replica = self.deployment.replicas[replica_id]
            replica.serve = self.serve
            replica.join(self.deployment)

    def describe(self, *replica_ids: str) -> None:
        echo = routes(*replica_ids, slots=1, max_queued=1)
        self.router.table.apply(snapshot(application(echo, routes(name="Other"))))

    @property
    def deployment(self) -> Deployment:
        return self.router.table.find("app", "Echo")

    @property
    def in_flight(self) -> int:
        return sum(replica.replica.in_flight for replica in self.replicas.values())

    async def connect(self, address: str) -> Link:
        def accept(stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
            _SessionCall(stream, self.router, header, payload, Trust.OWNER, more, last)

        opener, accepting = link_pair(accept)
        self.links.append(accepting)
        return opener

    def serve(self, call: ReplicaCall) -> None:
        """What the deployment does: each method answers with the replica's id and the arguments, but for ``hold``."""
        header = call.header
        codec = codec_of(header.response_serialization)
        replica_id = next(each for each, replica in self.replicas.items() if replica.link is call.stream.link)
        if header.method == "hold":
            return
        args, kwargs = load_arguments(codec_of(header.request_serialization), call.payload)
        if header.stream:
            for arg in args:
                call.send(codec.dumps((replica_id, arg)))
            call.answer(None)
        else:
            call.answer(codec.dumps((replica_id, header.method, args, kwargs)))


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    mine = Connection(made.connect)
    mine.set_address("unix:/fake", Trust.OWNER)
    mine.use_loop(asyncio.get_running_loop())
    before = connection.use(mine)
    yield made
    await mine.aclose()
    connection.use(before)
    for replica in made.replicas.values():
        replica.die()


@pytest.fixture
def handle(gateway: Gateway) -> DeploymentHandle[Any]:
    return DeploymentHandle("Echo", "app")


async def free(gateway: Gateway) -> None:
    await until(lambda: gateway.in_flight == 0)
    assert repr(gateway.router.reservations) == "<Reservations held=0 waiting=0>"


async def test_a_call_is_dispatched_to_the_chosen_replica(gateway: Gateway, handle: DeploymentHandle[Any]):
    for number in range(6):
        async with handle.greet.choose_replica() as selection:
            assert gateway.in_flight == 1
            response = handle.greet.dispatch(selection, number, a=1)
            assert await response == (selection.replica_id, "greet", (number,), {"a": 1})
    await free(gateway)


async def test_what_is_known_of_a_replica(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica("ignored", key="ignored") as selection:
        assert isinstance(selection, ReplicaSelection)
        assert selection.to_dict() == {
            "replica_id": selection.replica_id,
            "node_ip": "127.0.0.1",
            "port": None,
            "node_id": "localhost",
            "availability_zone": None,
            "replica_metadata": {},
            "address": f"memory:{selection.replica_id}",
        }
        assert selection.replica_id in IDS
        assert "reservation" not in repr(selection)
        with pytest.raises(TypeError, match="to_dict"):
            pickle.dumps(selection)


async def test_two_selections_are_of_two_slots_and_a_third_waits(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as one:
        async with handle.choose_replica() as other:
            assert {one.replica_id, other.replica_id} == set(IDS)
            waiting = handle.remote("waits")
            await until(lambda: gateway.deployment.queued == 1)
            with pytest.raises(BackPressureError):
                async with handle.choose_replica():
                    raise AssertionError("there is no slot")
            assert not any(replica.calls for replica in gateway.replicas.values())
        assert (await waiting)[0] == other.replica_id
    await free(gateway)


async def test_waiting_for_a_slot_ends_with_the_deadline_or_the_task(gateway: Gateway, handle: DeploymentHandle[Any]):
    limited = handle.options(timeout_s=0.5)
    async with limited.choose_replica() as one, limited.choose_replica():
        with pytest.raises(DeadlineExceededError):
            async with limited.choose_replica():
                raise AssertionError("there is no slot")

        async def wait() -> None:
            async with handle.choose_replica():
                raise AssertionError("there is no slot")

        task = asyncio.create_task(wait())
        await until(lambda: gateway.deployment.queued == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: gateway.deployment.queued == 0)
        assert (await limited.dispatch(one, 1))[0] == one.replica_id  # the limit was for waiting
    await free(gateway)


async def test_other_methods_options_and_serializations(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.a.choose_replica() as selection:
        other = handle.options(method_name="b", request_serialization="orjson", response_serialization="msgpack")
        assert await other.dispatch(selection, 1) == [selection.replica_id, "b", [1], {}]


async def test_streams(gateway: Gateway, handle: DeploymentHandle[Any]):
    streaming = handle.options(stream=True)
    async with streaming.items.choose_replica() as selection:
        items = [item async for item in streaming.items.dispatch(selection, 1, 2, 3)]
    assert items == [(selection.replica_id, number) for number in (1, 2, 3)]
    await free(gateway)


async def test_leaving_the_block_frees_the_slot(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica():
        assert gateway.in_flight == 1
    await free(gateway)
    with pytest.raises(ZeroDivisionError):
        async with handle.choose_replica():
            raise ZeroDivisionError
    await free(gateway)


async def test_a_call_that_was_dispatched_outlives_the_block(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        response = handle.hold.dispatch(selection)
    call = await gateway.replicas[selection.replica_id].called()
    assert gateway.in_flight == 1
    call.answer(codec_of(call.header.response_serialization).dumps("done"))
    assert await response == "done"
    await free(gateway)


async def test_arguments_that_are_still_under_way_keep_the_slot(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        argument = handle.hold.remote()
        response = handle.dispatch(selection, argument)
    other = next(each for each in IDS if each != selection.replica_id)
    call = await gateway.replicas[other].called()
    await settle()
    assert gateway.in_flight == 2
    call.answer(codec_of(call.header.response_serialization).dumps("value"))
    assert await response == (selection.replica_id, "__call__", ("value",), {})
    await free(gateway)


async def test_arguments_that_fail_free_the_slot(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        response = handle.options(request_serialization="orjson").dispatch(selection, object())
        with pytest.raises(TypeError):
            await response
        await free(gateway)
    async with handle.choose_replica() as selection:
        generator = handle.options(stream=True).remote()
        with pytest.raises(RuntimeError, match="Streaming"):
            handle.dispatch(selection, generator)
        await free(gateway)


async def test_cancelling_a_dispatched_call(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        response = handle.hold.dispatch(selection)
        call = await gateway.replicas[selection.replica_id].called()
        response.cancel()
        with pytest.raises(RequestCancelledError):
            await response
        await until(lambda: call.cancelled)
        call.answer(None)
        await free(gateway)


async def test_a_selection_is_for_one_call(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        response = handle.dispatch(selection)
        with pytest.raises(RuntimeError, match="dispatched already"):
            handle.dispatch(selection)
        await response
    with pytest.raises(RuntimeError, match="dispatched already"):
        handle.dispatch(selection)


async def test_a_selection_is_for_its_block(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        pass
    with pytest.raises(RuntimeError, match="block"):
        handle.dispatch(selection)
    await free(gateway)
    assert not any(replica.calls for replica in gateway.replicas.values())


@pytest.mark.parametrize("names", [("Other", "app"), ("Echo", "another")])
async def test_a_selection_is_for_its_deployment(
    gateway: Gateway, handle: DeploymentHandle[Any], names: tuple[str, str]
):
    async with handle.choose_replica() as selection:
        with pytest.raises(ValueError, match="'Echo' in application 'app'"):
            DeploymentHandle[Any](*names).dispatch(selection)
        assert await DeploymentHandle[Any]("Echo", "app").dispatch(selection)


async def test_a_selection_is_used_from_any_thread(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:

        def use() -> Any:
            return handle.dispatch(selection, 1).result(timeout_s=10)

        assert (await asyncio.to_thread(use))[0] == selection.replica_id


async def test_a_replica_that_is_gone(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        gateway.replicas[selection.replica_id].die()
        with pytest.raises(ReplicaUnavailableError, match=selection.replica_id):
            await handle.dispatch(selection)
    async with handle.choose_replica() as selection:
        gateway.describe(*(each for each in IDS if each != selection.replica_id))
        with pytest.raises(ReplicaUnavailableError, match="not in service"):
            await handle.dispatch(selection)
    await free(gateway)


async def test_a_connection_that_is_lost_ends_the_reservation(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        gateway.links[-1].lose(ConnectionLostError("broken pipe"))
        await free(gateway)
        await settle()
        with pytest.raises(ConnectionLostError):
            await handle.dispatch(selection)
    await free(gateway)


async def test_a_connection_that_is_lost_while_waiting_costs_the_place_in_the_queue_only(
    gateway: Gateway, handle: DeploymentHandle[Any]
):
    held = [handle.hold.remote() for _ in IDS]
    await until(lambda: gateway.in_flight == 2)

    async def choose() -> str:
        async with handle.choose_replica() as selection:
            return selection.replica_id

    task = asyncio.create_task(choose())
    await until(lambda: gateway.deployment.queued == 1)
    gateway.links[-1].lose(ConnectionLostError("broken pipe"))
    for replica in gateway.replicas.values():
        await until(lambda replica=replica: replica.calls[0].cancelled)
        replica.calls[0].answer()
    assert await task in IDS
    for response in held:
        with pytest.raises(ConnectionLostError):
            await response


async def test_a_gateway_that_drains_ends_the_reservation(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        gateway.router.reservations.end()
        await settle()
        with pytest.raises(GatewayDrainingError):
            await handle.dispatch(selection)


async def test_another_gateway_does_not_know_the_reservation(gateway: Gateway, handle: DeploymentHandle[Any]):
    async with handle.choose_replica() as selection:
        gateway.router.reservations._calls.clear()
        with pytest.raises(ReservationNotFoundError):
            await handle.dispatch(selection)


async def test_the_end_of_the_request_that_chose_frees_the_slot(gateway: Gateway, handle: DeploymentHandle[Any]):
    parent = RequestContext(session_pb2.CallHeader(application="app", request_id="r-1"))
    token = set_request_context(parent)
    async with handle.choose_replica() as selection:
        parent.cancel_children()
        await free(gateway)
        with pytest.raises(RequestCancelledError):
            await handle.dispatch(selection)
    reset_request_context(token)


async def test_a_block_that_is_forgotten_frees_the_slot(gateway: Gateway, handle: DeploymentHandle[Any]):
    choice = handle.choose_replica()
    await choice.__aenter__()
    assert gateway.in_flight == 1
    del choice
    gc.collect()
    await free(gateway)
