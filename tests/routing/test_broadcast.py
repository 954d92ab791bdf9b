"""Calls to every replica of a deployment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import ReplicaDrainingError
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.outcomes import error_info
from fairlead.wire.trust import Trust
from fairlead_gateway.routing import broadcast as broadcast_module
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import Caller, FakeReplica, admit, application, routes, settle, snapshot
from tests.wire.calls import until

A, B, C = "app#Echo#a", "app#Echo#b", "app#Echo#c"
LARGE = bytes(range(256)) * 4096  # 1 MiB


class Stage:
    """A router with a deployment, and replicas that are up or not."""

    def __init__(self) -> None:
        self.router = Router(asyncio.get_running_loop())
        self.replicas: dict[str, FakeReplica] = {}

    def up(self, *replica_ids: str, down: tuple[str, ...] = ()) -> None:
        self.router.table.apply(snapshot(application(routes(*replica_ids, *down))))
        for replica_id in replica_ids:
            replica = self.replicas[replica_id] = FakeReplica(replica_id)
            replica.replica = self.deployment.replicas[replica_id]
            replica.join(self.deployment)

    @property
    def deployment(self) -> Deployment:
        return self.router.table.find("app", "Echo")

    def start(self, payload: bytes = b"args", trust: Trust = Trust.OWNER, **fields: Any) -> Caller:
        caller = Caller()
        options = {name: fields.pop(name) for name in ("more", "last") if name in fields}
        header = session_pb2.CallHeader(
            broadcast=True,
            request_serialization=session_pb2.SERIALIZATION_JSON,
            response_serialization=session_pb2.SERIALIZATION_JSON,
            **fields,
        )
        caller.call = self.router.start(header, payload, caller, trust=trust, **options)
        return caller


@pytest.fixture
async def stage(tidy: None):
    made = Stage()
    yield made
    for replica in made.replicas.values():
        replica.die()


def answers(caller: Caller) -> list[serving_pb2.BroadcastResponse]:
    assert not any(more for _, more in caller.messages)
    return [serving_pb2.BroadcastResponse.FromString(message) for message, _ in caller.messages]


def results(caller: Caller) -> dict[str, serving_pb2.ReplicaResult]:
    first, *rest = answers(caller)
    assert first.HasField("replicas")
    found = {answer.result.replica_id: answer.result for answer in rest}
    assert len(found) == len(rest)
    return found


def idle(stage: Stage) -> bool:
    return all(replica.replica.in_flight == 0 for replica in stage.replicas.values())


async def test_the_set_comes_first_then_each_result_as_it_ends(stage: Stage):
    stage.up(A, B, C)
    caller = stage.start(method="ping", stream=True)
    assert list(answers(caller)[0].replicas.replica_ids) == [A, B, C]
    for replica in stage.replicas.values():
        call = await replica.called()
        assert (call.header.method, call.header.broadcast, call.header.stream) == ("ping", True, False)
        assert (call.request, call.complete) == (b"args", True)
        assert replica.replica.in_flight == 1
    for count, replica_id in enumerate((B, C, A), start=2):
        assert not caller.ends
        stage.replicas[replica_id].calls[0].answer(replica_id.encode())
        await until(lambda count=count: len(caller.messages) == count)
    assert caller.ends == 1
    assert (caller.outcome, caller.payload) == (None, None)
    assert [answer.result.replica_id for answer in answers(caller)[1:]] == [B, C, A]
    assert all(result.payload.data == replica_id.encode() for replica_id, result in results(caller).items())
    assert idle(stage)


async def test_a_failure_is_one_replicas_own(stage: Stage):
    stage.up(A, B)
    for trust in Trust:
        caller = stage.start(trust=trust)
        await until(lambda: all(replica.ongoing for replica in stage.replicas.values()))
        stage.replicas[A].ongoing[0].fail(ValueError("bad"), traceback="Traceback: secret.py")
        stage.replicas[B].ongoing[0].answer(b"fine")
        await caller.end()
        assert caller.outcome is None
        failed, fine = results(caller)[A], results(caller)[B]
        assert failed.status.message == "ValueError: bad"
        assert not failed.HasField("payload")
        assert bool(failed.exception) == bool(failed.traceback) == trust.may_run_code
        assert fine.payload.data == b"fine"
        assert not fine.HasField("status")


async def test_replicas_that_are_not_there_are_reported(stage: Stage):
    stage.up(A, B, down=(C,))
    caller = stage.start()
    assert list(answers(caller)[0].replicas.replica_ids) == [A, B, C]
    assert results(caller)[C].status.message == f"replica {C} is gone; the call did not start there"
    assert error_info(results(caller)[C].status).reason == "REPLICA_DRAINING"
    await stage.replicas[B].called()
    stage.replicas[B].die()
    assert results(caller)[B].status.message == f"replica {B} was lost while it had the call"
    assert error_info(results(caller)[B].status).reason == "REPLICA_LOST"
    (await stage.replicas[A].called()).answer()
    await caller.end()
    assert set(results(caller)) == {A, B, C}
    assert idle(stage)


async def test_a_replica_that_drains_says_so(stage: Stage):
    stage.up(A, B)
    caller = stage.start()
    (await stage.replicas[A].called()).fail(ReplicaDrainingError("the replica is draining; the call did not start"))
    (await stage.replicas[B].called()).answer()
    await caller.end()
    assert results(caller)[A].status.message == "the replica is draining; the call did not start"


async def test_no_replica_reachable_ends_it_at_once(stage: Stage):
    stage.up(down=(A, B))
    caller = stage.start()
    assert caller.ends == 1
    assert set(results(caller)) == {A, B}


async def test_a_late_replica_is_reported_and_cancelled(stage: Stage):
    stage.up(A, B)
    caller = stage.start(timeout_us=100_000)
    (await stage.replicas[A].called()).answer(b"in time")
    late = await stage.replicas[B].called()
    assert 0 < late.header.timeout_us <= 100_000
    await caller.end()
    assert caller.outcome is None
    assert results(caller)[A].payload.data == b"in time"
    assert results(caller)[B].status.message == (
        f"the deadline of the call to app#Echo.__call__ passed while it was running on {B}, after 0.1 s"
    )
    await until(lambda: late.cancelled)
    late.answer(b"too late")
    await until(lambda: idle(stage))
    assert set(results(caller)) == {A, B}


async def test_cancelling_reaches_those_that_have_not_ended(stage: Stage):
    stage.up(A, B)
    caller = stage.start()
    (await stage.replicas[A].called()).answer()
    call = await stage.replicas[B].called()
    await until(lambda: len(caller.messages) == 2)
    caller.call.cancel()
    assert caller.reason == "CANCELLED"
    await until(lambda: call.cancelled)
    call.answer()
    await until(lambda: idle(stage))
    caller.call.cancel()
    assert len(caller.messages) == 2


async def test_large_results_come_whole(stage: Stage):
    stage.up(A, B)
    caller = stage.start()
    for replica in stage.replicas.values():
        (await replica.called()).answer(LARGE + replica.replica_id.encode())
    await caller.end()
    for replica_id, result in results(caller).items():
        assert result.payload.data == LARGE + replica_id.encode()
    assert idle(stage)


@pytest.mark.parametrize("size", [100, 3 * MAX_PIECE])
async def test_a_result_that_is_too_large_is_reported(stage: Stage, monkeypatch: pytest.MonkeyPatch, size: int):
    monkeypatch.setattr(broadcast_module, "MessageAssembler", lambda: MessageAssembler(limit=size - 1))
    stage.up(A, B)
    caller = stage.start()
    (await stage.replicas[A].called()).answer(bytes(size))
    (await stage.replicas[B].called()).answer(b"small")
    await settle()
    if not caller.ends:  # it was cancelled while it came in pieces
        await caller.end()
    assert "a message of more than" in results(caller)[A].status.message
    assert results(caller)[B].payload.data == b"small"
    await until(lambda: idle(stage))


async def test_large_arguments_come_whole(stage: Stage):
    stage.up(A, B)
    caller = stage.start(LARGE[:MAX_PIECE], more=True, last=False)
    assert not caller.messages
    pieces = [LARGE[start : start + MAX_PIECE] for start in range(MAX_PIECE, len(LARGE), MAX_PIECE)]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        assert caller.call.send(piece, more=not last, last=last) is True
    for replica in stage.replicas.values():
        call = await replica.called()
        await until(lambda call=call: call.complete)
        assert call.request == LARGE
        call.answer()
    await caller.end()
    assert caller.call.send(b"more") is True


async def test_arguments_that_are_too_large_are_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(broadcast_module, "MAX_ARGUMENTS", 1000)
    stage.up(A)
    caller = stage.start(bytes(600), more=True, last=False)
    assert caller.call.send(bytes(401), more=True) is True
    assert caller.reason == "MESSAGE_TOO_LARGE"
    assert caller.call.send(b"", last=True) is True
    await settle()
    assert not stage.replicas[A].calls


async def test_a_deadline_before_the_arguments_have_come(stage: Stage):
    stage.up(A)
    caller = stage.start(b"", more=True, last=False, timeout_us=1)
    await caller.end()
    assert caller.reason == "DEADLINE_EXCEEDED"
    assert caller.message == (
        "the deadline of the call to app#Echo.__call__ passed while its arguments were coming, after 1e-06 s"
    )
    assert not caller.messages


async def test_replicas_that_go_while_the_arguments_come(stage: Stage):
    stage.up(A)
    caller = stage.start(b"", more=True, last=False)
    stage.router.table.apply(snapshot(application(routes())))
    caller.call.send(b"", last=True)
    assert caller.reason == "DEPLOYMENT_UNAVAILABLE"
    caller = stage.start()
    assert caller.reason == "DEPLOYMENT_UNAVAILABLE"
    assert caller.outcome is not None
    assert caller.outcome.status.message == "deployment 'Echo' has no running replicas to broadcast to"


async def test_a_broadcast_passes_the_queue_and_counts(stage: Stage):
    """It takes no turn, since it cannot go elsewhere; while it runs, its replica gets no other calls."""
    stage.up(A)
    running, waiting = admit(stage.deployment, b"running"), admit(stage.deployment, b"waiting")
    caller = stage.start(b"broadcast")
    replica = stage.replicas[A]
    await replica.called(2)
    assert [call.request for call in replica.calls] == [b"running", b"broadcast"]
    assert replica.replica.in_flight == 2
    replica.calls[0].answer()
    await running.end()
    await settle()
    assert len(replica.calls) == 2
    replica.calls[1].answer()
    await caller.end()
    (await replica.called(3)).answer()
    await waiting.end()
    assert idle(stage)
