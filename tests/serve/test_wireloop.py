"""The loop of a process that has none: nothing outlives it."""

from __future__ import annotations

import asyncio

from fairlead.serve.wireloop import WireThread


def test_stopping_ends_what_is_left_on_the_loop():
    thread = WireThread()
    said: list[str] = []

    async def hold(what: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append(what)

    async def both() -> None:
        await asyncio.gather(hold("one"), hold("other"))

    async def items():
        try:
            yield 1
        finally:
            said.append("items")

    kept = []

    async def begin() -> None:
        kept.extend([asyncio.create_task(both()), items()])
        await anext(kept[1])

    thread.run(begin())
    thread.stop()
    assert sorted(said) == ["items", "one", "other"]
    assert thread.loop.is_closed()
