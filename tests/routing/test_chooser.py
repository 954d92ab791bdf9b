"""A user's request router between the gateway and its replicas: asked, obeyed, and done without where it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from fairlead.serve.request_router import PendingRequest, RequestRouter, RunningReplica
from fairlead.v1 import control_pb2, session_pb2
from fairlead_gateway.routing.chooser import Chooser
from fairlead_gateway.routing.deployment import Deployment
from tests.routing.fake_replica import FakeReplica, admit, routes, settle
from tests.wire.calls import until

Join = Callable[..., FakeReplica]

stop = threading.Event()
"""Keeps the thread of Blocking, which is in this process."""
heard: list[Any] = []


class Scripted(RequestRouter):
    """Does what the session id of a call says."""

    def initialize_state(self, **kwargs: Any) -> None:
        if kwargs.get("broken"):
            raise ValueError("on purpose")

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Any:
        assert pending_request is not None
        assert list(self.curr_replicas.values()) == candidate_replicas
        wish = pending_request.metadata.session_id
        by_name = {each.replica_id.unique_id: each for each in candidate_replicas}
        if wish == "wait":
            await asyncio.Event().wait()
        if wish == "block":
            stop.wait(30)
        if wish == "raise":
            raise SystemExit(3)
        if wish == "nonsense":
            return 5
        if wish == "stats":
            return [[max(candidate_replicas, key=lambda each: each.routing_stats.get("score", 0))]]
        await asyncio.sleep(0)
        return [[by_name[name] for name in group if name in by_name] for group in wish.split("|")]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: Any, result: None = None) -> None:
        heard.append((pending_request.metadata.call_method, replica_id.to_full_id_str()))


def settings(**fields: Any) -> control_pb2.RequestRouterSettings:
    given = {"initial_backoff_s": 0.01, "backoff_multiplier": 2.0, "max_backoff_s": 0.05} | fields
    return control_pb2.RequestRouterSettings(import_path=f"{__name__}:Scripted", **given)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    stop.clear()
    heard.clear()
    yield
    stop.set()


@pytest.fixture
async def routed(deployment: Deployment) -> Any:
    deployment.configure(routes(slots=1, request_router=settings()))
    yield deployment
    deployment.delete()


async def test_calls_go_where_the_router_says(routed: Deployment, join: Join) -> None:
    a, b, c = join("a"), join("b"), join("c")
    admit(routed, session_id="b", method="m")
    await b.called()
    admit(routed, session_id="bc|a")  # b is full
    await c.called()
    admit(routed, session_id="bc|a")
    await a.called()
    assert [replica.accepted for replica in (a, b, c)] == [1, 1, 1]
    await until(lambda: len(heard) == 3)
    assert heard[0] == ("m", "app#Echo#b")


async def test_a_call_waits_for_what_was_chosen_and_holds_up_no_other(routed: Deployment, join: Join) -> None:
    a, b = join("a"), join("b")
    admit(routed, session_id="b")
    busy = await b.called()
    waits = admit(routed, session_id="b")
    admit(routed, session_id="a")
    await a.called()
    assert not waits.ends
    busy.answer()
    await b.called(2)
    assert (routed.queued, a.accepted, b.accepted) == (0, 1, 2)


async def test_the_router_is_asked_again_while_what_it_chose_is_full(routed: Deployment, join: Join) -> None:
    a, b = join("a"), join("b")
    b.replica.report(session_pb2.Load(sequence=1, routing_stats=b'{"score":2}'))
    admit(routed, session_id="stats")
    await b.called()
    admit(routed, session_id="stats")  # waits for b
    await settle()
    a.replica.report(session_pb2.Load(sequence=1, routing_stats=b'{"score":3}'))
    await a.called()


@pytest.mark.parametrize("wish", ["raise", "nonsense", "gone", ""])
async def test_what_fails_is_power_of_two_choices(routed: Deployment, join: Join, wish: str) -> None:
    replicas = [join("a"), join("b")]
    for _ in range(2):
        admit(routed, session_id=wish)
    await until(lambda: [replica.accepted for replica in replicas] == [1, 1])
    assert routed.queued == 0


async def ask_until_answered(made: Chooser, replica: FakeReplica) -> Any:
    """Its answer for the session "a": on a busy machine one question may come to nothing."""
    answers: list[Any] = [None]
    while answers[-1] is None:
        before = len(answers)
        made.ask(session_pb2.CallHeader(session_id="a"), [replica.replica], 1, answers.append)
        await until(lambda before=before: len(answers) > before)  # type: ignore[misc]
        await asyncio.sleep(0)
    return answers[-1]


async def test_a_router_that_waits_is_given_up(join: Join) -> None:
    replica = join("a")
    made = Chooser(settings(), [], "app", "Echo", timeout_s=0.02)
    answers: list[Any] = []
    assert made.ask(session_pb2.CallHeader(session_id="wait"), [replica.replica], 1, answers.append) is not None
    await until(lambda: answers == [None])
    assert await ask_until_answered(made, replica) == [["app#Echo#a"]]
    made.close()


async def test_a_router_that_blocks_holds_up_nobody_and_may_come_back(join: Join) -> None:
    replica = join("a")
    made = Chooser(settings(), [], "app", "Echo", timeout_s=0.02)
    answers: list[Any] = []
    made.ask(session_pb2.CallHeader(session_id="block"), [replica.replica], 1, answers.append)
    made.ask(session_pb2.CallHeader(session_id="a"), [replica.replica], 1, answers.append)
    await until(lambda: answers == [None, None])
    assert "stuck" in repr(made)
    assert made.ask(session_pb2.CallHeader(session_id="a"), [replica.replica], 1, answers.append) is None
    assert answers == [None] * 3
    stop.set()
    await until(lambda: "stuck" not in repr(made))
    assert await ask_until_answered(made, replica) == [["app#Echo#a"]]
    made.close()


async def test_a_router_that_cannot_be_made_is_done_without(
    deployment: Deployment, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    replica = join("a", slots=10)
    broken = settings(arguments=cloudpickle.dumps({"broken": True}))
    deployment.configure(routes(slots=10, request_router=broken))
    for count in range(1, 4):
        admit(deployment, session_id="nowhere")
        await replica.called(count)
    await until(lambda: "on purpose" in caplog.text)
    assert "power of two choices" in caplog.text
    deployment.configure(routes(slots=10, request_router=control_pb2.RequestRouterSettings(import_path="no.such:One")))
    admit(deployment)
    await replica.called(4)
    deployment.delete()


async def test_a_router_comes_and_goes_with_the_settings(deployment: Deployment, join: Join) -> None:
    a, b = join("a"), join("b")
    deployment.configure(routes(slots=1, request_router=settings()))
    first = deployment._router_picks
    deployment.configure(routes(slots=1, request_router=settings()))
    assert deployment._router_picks is first
    admit(deployment, session_id="b")
    busy = await b.called()
    admit(deployment, session_id="b")
    await settle()
    deployment.configure(routes(slots=1))  # without one, the call that waits goes anywhere
    await a.called()
    busy.answer()


async def test_cancelled_and_expired_calls_leave(routed: Deployment, join: Join) -> None:
    a = join("a")
    admit(routed, session_id="a")
    busy = await a.called()
    gone = admit(routed, session_id="a")
    await settle()
    gone.call.cancel()
    assert (gone.reason, routed.queued) == ("CANCELLED", 0)
    busy.answer()
    await settle()
    assert a.accepted == 1


async def test_many_calls_all_arrive(routed: Deployment, join: Join) -> None:
    replicas = [join(name) for name in "abc"]
    for replica in replicas:
        replica.serve = lambda call: call.answer()
    callers = [admit(routed, session_id="abc"[number % 3]) for number in range(300)]
    for caller in callers:
        await caller.end()
    assert [replica.accepted for replica in replicas] == [100, 100, 100]
    assert (routed.queued, routed.queued_bytes, len(routed.parked)) == (0, 0, 0)
