"""A cache of models under many requests that come, go and give up at random: what must hold, holds all the time."""

from __future__ import annotations

import asyncio
import random

import pytest

from fairlead.serve.context import RequestContext, set_request_context
from fairlead.serve.multiplexing.cache import ModelCache
from fairlead.serve.multiplexing.registry import Registry
from fairlead.v1 import session_pb2

CAPACITY = 3


class Model:
    def __init__(self, world: World, model_id: str) -> None:
        self.world = world
        self.model_id = model_id
        self.users = 0
        self.closed = False

    async def close(self) -> None:
        assert self.users == 0, "unloaded while in use"
        await self.world.pause()
        self.closed = True
        self.world.alive -= 1


class World:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.alive = 0
        self.loading: set[str] = set()
        self.cache = ModelCache(self.load, CAPACITY, Registry(), "stress")

    async def pause(self) -> None:
        for _ in range(self.dice.randrange(6)):
            await asyncio.sleep(0)

    async def load(self, model_id: str) -> Model:
        assert model_id not in self.loading, "loaded twice at once"
        self.loading.add(model_id)
        self.alive += 1
        assert self.alive <= CAPACITY, "more models than places"
        try:
            await self.pause()
            if self.dice.random() < 0.1:
                raise ValueError("no weights")
        except BaseException:
            self.alive -= 1
            raise
        finally:
            self.loading.discard(model_id)
        return Model(self, model_id)

    async def request(self) -> None:
        context = RequestContext(session_pb2.CallHeader())
        set_request_context(context)
        model: Model | None = None
        try:
            for _ in range(self.dice.randrange(1, 4)):
                if model is not None:
                    model.users -= 1  # it may go while the next one is waited for
                    model = None
                model = await self.cache.get(str(self.dice.randrange(8)))
                assert not model.closed
                model.users += 1
                await self.pause()
                assert not model.closed
        except ValueError:
            pass
        finally:
            if model is not None:
                model.users -= 1
            context.finish()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens(seed: int) -> None:
    world = World(seed)
    loop = asyncio.get_running_loop()
    tasks = set()
    for _ in range(200):
        task = loop.create_task(world.request())
        tasks.add(task)
        await world.pause()
        if world.dice.random() < 0.3:
            world.dice.choice(sorted(tasks, key=id)).cancel()
    done, late = await asyncio.wait(tasks, timeout=60)
    assert not late
    assert [task.exception() for task in done if not task.cancelled() and task.exception() is not None] == []
    assert world.cache.loading_ids() == []
    assert world.alive == len(world.cache.loaded_ids())
    await world.cache.unload_all()
    assert world.alive == 0
