"""Processes of users' policies: they answer, and what goes wrong in them is told and over."""

import asyncio

import psutil
import pytest

from fairlead.v1 import control_pb2
from fairlead_gateway.control import policies as module
from fairlead_gateway.control.actions import AskPolicy
from fairlead_gateway.control.policies import Policies
from tests.wire.calls import PATIENCE

KEY = ("app", "Echo")


def question(kind, calls=5):
    return AskPolicy(
        key=KEY,
        policy=control_pb2.AutoscalingSettings(policy_import_path=kind),
        environment=control_pb2.CodeEnvironment(),
        contexts={"Echo": {"total_num_requests": calls}},
    )


class Asker:
    """Asks, and hears one answer at a time."""

    def __init__(self):
        self.answers = asyncio.Queue()
        self.policies = Policies("tests.control.fake_policy", lambda *answer: self.answers.put_nowait(answer))

    async def ask(self, kind, calls=5):
        self.policies.ask(question(kind, calls))
        async with asyncio.timeout(PATIENCE):
            key, replicas, failure = await self.answers.get()
        await asyncio.sleep(0)  # until it can be asked again
        assert key == KEY
        return replicas.get("Echo"), failure


@pytest.fixture
async def asker():
    made = Asker()
    yield made
    await made.policies.close()


async def test_one_process_answers_all_questions(asker):
    assert await asker.ask("count") == (6, "")
    assert await asker.ask("count", 10) == (12, "")


async def test_other_settings_have_another_process(asker):
    assert await asker.ask("count") == (6, "")
    assert await asker.ask("count again") == (6, "")


async def test_what_the_policy_raises_is_told_and_it_goes_on(asker):
    assert await asker.ask("fail") == (None, "ZeroDivisionError")
    assert await asker.ask("fail") == (None, "ZeroDivisionError")


@pytest.mark.parametrize("kind", ["crash", "lie"])
async def test_a_process_that_ends_or_lies_is_started_anew(asker, kind):
    for _ in range(2):
        replicas, failure = await asker.ask(kind)
        assert replicas is None
        assert failure.startswith("its process ended")
    assert await asker.ask("count") == (6, "")


async def test_one_that_hangs_is_given_up(asker, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    replicas, failure = await asker.ask("hang")
    assert (replicas, failure) == (None, "it did not decide within 0.2 s")


async def test_a_second_question_waits_for_the_first_answer(asker):
    asker.policies.ask(question("count"))
    asker.policies.ask(question("count"))
    assert await asker.answers.get() == (KEY, {"Echo": 6}, "")
    assert asker.answers.empty()


@pytest.mark.parametrize("started", [True, False])
async def test_one_that_is_not_wanted_any_more_ends_while_it_starts_or_thinks(asker, caplog, started):
    before = psutil.Process().children()

    def processes():
        return [one for one in psutil.Process().children() if one not in before]

    asker.policies.ask(question("hang"))
    async with asyncio.timeout(PATIENCE):
        while not (processes() if started else "Echo" in repr(asker.policies)):
            await asyncio.sleep(0)
        asker.policies.keep(set())
        _, replicas, failure = await asker.answers.get()
        assert (replicas, failure[:17]) == ({}, "its process ended")
        while processes():
            await asyncio.sleep(0)
    await asker.policies.close()
    assert caplog.records == []


async def test_a_deployment_that_has_no_policy_any_more_has_no_process(asker):
    await asker.ask("count")
    asker.policies.keep({KEY})
    assert await asker.ask("count") == (7, "")
    asker.policies.keep(set())
    assert await asker.ask("count") == (6, "")
