from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from typing import Any

import pytest

from fairlead.wire.errors import FairleadError
from fairlead_replica.callable import UserCallable
from fairlead_replica.hooks import Hooks


class Model:
    def __init__(self) -> None:
        self.config: Any = None
        self.check: Any = lambda: None
        self.threads: set[int] = set()

    async def reconfigure(self, config: Any) -> None:
        self.config = config

    def check_health(self) -> None:
        self.threads.add(threading.get_ident())
        self.check()


async def test_reconfigure() -> None:
    model = Model()
    hooks = Hooks(UserCallable(model))
    await hooks.reconfigure(None)
    assert model.config is None
    await hooks.reconfigure({"a": 1})
    assert model.config == {"a": 1}


async def test_reconfigure_that_is_not_there() -> None:
    with pytest.raises(FairleadError, match="deployment object missing reconfigure method"):
        await Hooks(UserCallable(object(), is_function=False)).reconfigure(1)
    with pytest.raises(FairleadError, match="needs a class"):
        await Hooks(UserCallable(test_reconfigure)).reconfigure(1)


async def test_failures_in_a_row_are_counted_and_forgiven() -> None:
    model = Model()
    hooks = Hooks(UserCallable(model))

    def fail() -> None:
        raise ValueError("ill")

    model.check = fail
    await hooks.check_health(5)
    await hooks.check_health(5)
    assert (hooks.failed_checks, hooks.health_message) == (2, "ValueError: ill")
    model.check = lambda: None
    await hooks.check_health(5)
    assert (hooks.failed_checks, hooks.health_message) == (0, "")
    assert threading.get_ident() not in model.threads


async def test_system_exit_is_a_failure() -> None:
    model = Model()
    hooks = Hooks(UserCallable(model))
    model.check = sys.exit
    await hooks.check_health(5)
    assert hooks.failed_checks == 1


async def test_a_check_that_hangs_fails_and_a_blocked_loop_does_not() -> None:
    class Hanging:
        async def check_health(self) -> None:
            await asyncio.Event().wait()

    hooks = Hooks(UserCallable(Hanging()))
    await hooks.check_health(0.01)
    assert hooks.failed_checks == 1
    assert "did not return within 0.01 s" in hooks.health_message

    class Brief:
        async def check_health(self) -> None:
            await asyncio.sleep(0.01)

    hooks = Hooks(UserCallable(Brief()))
    checking = asyncio.create_task(hooks.check_health(0.4))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:  # as a method that blocks the loop
        pass
    await checking
    assert hooks.failed_checks == 0


async def test_destroying_runs_del_once() -> None:
    deleted: list[str] = []

    class Precious:
        def __del__(self) -> None:
            deleted.append("sync")

    class AsyncPrecious:
        async def __del__(self) -> None:
            deleted.append("async")

    for kind in (Precious, AsyncPrecious):
        target = UserCallable(kind())
        await Hooks(target).destroy()
        del target
        gc.collect()
    assert deleted == ["sync", "async"]
