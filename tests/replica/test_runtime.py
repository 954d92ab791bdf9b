"""How many calls run at once, and what interrupts them: limits, deadlines, cancellation, draining."""

from __future__ import annotations

import asyncio
import time

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import (
    DeadlineExceededError,
    ReplicaBusyError,
    ReplicaDrainingError,
    RequestCancelledError,
)
from fairlead.wire.memory import link_pair
from tests.replica.calling import Caller, Stage, until
from tests.replica.model import Model


async def test_more_than_the_limit_is_refused(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    refused = await stage.caller.error("echo")
    assert isinstance(refused, ReplicaBusyError)
    assert refused.never_started
    model.gate.set()
    assert [await call.next() for call in running] == ["released"] * 3
    assert await stage.caller.call("", 1) == 1


async def test_who_was_refused_hears_of_the_free_slot(stage: Stage, model: Model) -> None:
    other, accepting = link_pair(stage.runtime.accept, load=stage.runtime.load)
    reports: asyncio.Queue[session_pb2.Load] = asyncio.Queue()
    other._on_load = reports.put_nowait
    running = [stage.caller.open("block") for _ in range(3)]
    await until(lambda: stage.runtime.statistics().ongoing == 3)
    assert isinstance(await Caller(other).error("echo"), ReplicaBusyError)
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing == 3
    model.gate.set()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing < 3
    assert [await call.next() for call in running] == ["released"] * 3
    await other.close()
    await accepting.close()


async def test_who_was_told_that_it_is_full_hears_of_the_free_slot(stage: Stage, model: Model) -> None:
    """Another gateway's calls took the slots: this one has nothing under way here, and waits without asking."""
    other, accepting = link_pair(stage.runtime.accept)
    stage.runtime.opened(accepting)
    reports: asyncio.Queue[session_pb2.Load] = asyncio.Queue()
    other._on_load = reports.put_nowait
    running = [stage.caller.open("block") for _ in range(3)]
    await until(lambda: stage.runtime.statistics().ongoing == 3)
    accepting.report_load()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing == 3
    model.gate.set()
    assert (await asyncio.wait_for(reports.get(), 60)).ongoing < 3
    assert [await call.next() for call in running] == ["released"] * 3
    await other.close()
    await accepting.close()


async def test_broadcasts_wait_for_a_slot(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    waiting = [stage.caller.open("", number, broadcast=True) for number in range(3)]
    given_up = stage.caller.open("", 9, broadcast=True)
    late = stage.caller.open("", 9, broadcast=True, timeout_s=0.05)
    given_up.cancel()
    assert isinstance(await given_up.error(), RequestCancelledError)
    assert isinstance(await late.error(), DeadlineExceededError)
    assert stage.runtime.statistics().waiting == 3
    assert stage.runtime.load().ongoing == 6
    model.gate.set()
    assert [await call.next() for call in waiting] == [0, 1, 2]
    assert [await call.next() for call in running] == ["released"] * 3


async def test_a_call_with_a_reservation_waits_rather_than_going_elsewhere(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    waiting = stage.caller.open("", 1, reservation_id="used")
    assert isinstance(await stage.caller.error("", 2), ReplicaBusyError)
    model.gate.set()
    assert await waiting.next() == 1
    assert [await call.next() for call in running] == ["released"] * 3


async def test_the_queue_of_broadcasts_is_bounded() -> None:
    model = Model()
    stage = Stage(model, max_ongoing_requests=1, max_waiting=1)
    running = stage.caller.open("block")
    waiting = stage.caller.open("", 1, broadcast=True)
    assert isinstance(await stage.caller.error("", 1, broadcast=True), ReplicaBusyError)
    model.gate.set()
    assert await running.next() == "released"
    assert await waiting.next() == 1
    await stage.close()


async def test_cancelling_reaches_the_coroutine_and_its_children(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("hang")
    await model.started.wait()
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == ["hang"]
    assert model.child.cancelled.is_set()


@pytest.mark.parametrize("method", ["echo", "echo_sync", "hang", "late_coroutine", "numbers", "numbers_sync"])
async def test_cancelled_before_it_could_start(stage: Stage, model: Model, method: str) -> None:
    answer = stage.caller.open(method, 5, stream=method.startswith("numbers"))
    answer.cancel()  # in the same packet
    assert isinstance(await answer.error(), RequestCancelledError)
    assert stage.runtime.statistics().ongoing == 0
    assert model.finished == []


async def test_a_swallowed_cancellation_is_a_cancellation_still(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("swallow")
    await model.started.wait()
    answer.cancel()
    assert isinstance(await answer.error(), RequestCancelledError)


async def test_a_cancelled_thread_keeps_its_slot_until_it_returns(stage: Stage, model: Model) -> None:
    answer = stage.caller.open("block")
    await stage.caller.call("", 1)
    answer.cancel()
    await stage.caller.call("", 1)
    assert stage.runtime.statistics().ongoing == 1
    assert not answer.ended.is_set()
    model.gate.set()
    assert isinstance(await answer.error(), RequestCancelledError)
    assert model.finished == ["block"]
    assert stage.runtime.statistics().ongoing == 0


async def test_a_deadline_that_passes_ends_the_call(stage: Stage, model: Model) -> None:
    error = await stage.caller.error("hang", timeout_s=0.05)
    assert isinstance(error, DeadlineExceededError)
    assert isinstance(error, TimeoutError)
    assert (
        str(error)
        == "the deadline of the call to app#Model.hang passed while it was running on app#Model#a, after 0.05 s"
    )
    assert model.finished == ["hang"]


async def test_a_deadline_that_has_passed_starts_nothing(stage: Stage, model: Model) -> None:
    class Blocking:
        async def spin(self) -> None:
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass

        async def work(self) -> None:
            model.finished.append("worked")

    stage = Stage(Blocking())
    spinning = stage.caller.open("spin")
    late = stage.caller.open("work", timeout_s=0.01)
    error = await late.error()
    assert isinstance(error, DeadlineExceededError)
    assert "#Blocking.work passed before it could start on app#Blocking#a, after 0.01 s" in str(error)
    assert await spinning.next() is None
    assert model.finished == []
    await stage.close()


async def test_a_lost_link_cancels_its_calls(model: Model) -> None:
    stage = Stage(model)
    stage.caller.open("hang")
    streaming = stage.caller.open("endless_sync", stream=True)
    await model.started.wait()
    await streaming.next()
    await stage.close()
    await until(lambda: sorted(model.finished) == ["endless_sync", "hang"])
    await until(lambda: stage.runtime.statistics().ongoing == 0)


async def test_draining(stage: Stage, model: Model) -> None:
    running = stage.caller.open("block")
    await stage.caller.call("", 1)
    stage.runtime.drain()
    refused = await stage.caller.error("echo")
    assert isinstance(refused, ReplicaDrainingError)
    idle = asyncio.create_task(stage.runtime.wait_idle())
    await asyncio.sleep(0)
    assert not idle.done()
    model.gate.set()
    assert await running.next() == "released"
    await asyncio.wait_for(idle, 60)


async def test_resizing(stage: Stage, model: Model) -> None:
    running = [stage.caller.open("block") for _ in range(3)]
    stage.runtime.resize(4)
    running.append(stage.caller.open("block"))
    assert isinstance(await stage.caller.error("echo"), ReplicaBusyError)
    model.gate.set()
    assert [await call.next() for call in running] == ["released"] * 4
