"""Loaders that hang: what their callers are told, what becomes of their models, and who does not wait for them."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.multiplexing.cache import ModelCache
from fairlead.serve.multiplexing.registry import Registry
from tests.serve.models import Loader, Model, settle, soon


@pytest.fixture
def loader() -> Loader:
    return Loader()


class Hanging:
    def __init__(self) -> None:
        self.ended: list[str] = []

    @serve.multiplexed(max_num_models_per_replica=1, load_timeout_s=0.02)
    async def get(self, model_id: str) -> str:
        if model_id == "own":
            raise TimeoutError("the loader's own")
        if model_id != "well":
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.append(model_id)
        return model_id


async def test_a_load_that_takes_too_long_fails_all_that_wait_and_leaves_nothing() -> None:
    hanging = Hanging()
    waiting = [asyncio.ensure_future(hanging.get("bad")) for _ in range(2)]
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, TimeoutError)
        assert "loading model 'bad' took more than 0.02 s" in str(error)
    assert hanging.ended == ["bad"]
    assert await hanging.get("well") == "well"  # its place is free
    with pytest.raises(TimeoutError, match="the loader's own"):
        await hanging.get("own")


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "soon"])
def test_limits_of_loads_that_cannot_be(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="load_timeout_s"):
        serve.multiplexed(load_timeout_s=limit)


class Stubborn:
    """Its loads of models called bad... take no notice of being cancelled until they are let go."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.started: list[str] = []
        self.closed: list[str] = []

    @serve.multiplexed(max_num_models_per_replica=1, load_timeout_s=0.02)
    async def get(self, model_id: str) -> Model:
        return await self.load(model_id)

    async def load(self, model_id: str) -> Model:
        self.started.append(model_id)
        while model_id.startswith("bad") and not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                pass
        return Model(model_id, self.closed)

    @property
    def cache(self) -> ModelCache:
        (cache,) = (value for value in vars(self).values() if isinstance(value, ModelCache))
        return cache


async def test_a_loader_that_ignores_the_limit_keeps_nobody() -> None:
    stubborn = Stubborn()
    waiting = [asyncio.ensure_future(stubborn.get(model_id)) for model_id in ("bad", "bad", "well", "bad")]
    first, second, well, late = await soon(asyncio.gather(*waiting, return_exceptions=True))
    for error in (first, second, late):
        assert isinstance(error, TimeoutError)
        assert "'bad' took more than 0.02 s" in str(error)
    assert well.model_id == "well"  # it got the place, though the loader goes on
    assert stubborn.cache.loading_ids() == []
    with pytest.raises(serve.exceptions.RayServeException, match=r"'bad' cannot be loaded: .* has not ended"):
        await soon(stubborn.get("bad"))
    assert list(stubborn.cache.unavailable_ids()) == ["bad"]
    assert stubborn.started == ["bad", "well"]  # not another one beside the one that hangs
    stubborn.free.set()
    await settle()
    while "unload bad" not in stubborn.closed:  # in a task: nobody wants what it loaded at last
        await asyncio.sleep(0)
    assert (await soon(stubborn.get("well"))).model_id == "well"
    assert list(stubborn.cache.unavailable_ids()) == []
    assert (await soon(stubborn.get("bad"))).model_id == "bad"  # a load of its own, and nothing left of the other


async def test_who_listens_hears_of_models_that_cannot_be_had(loader: Loader) -> None:
    everything = Registry()
    seen: list[tuple[str, ...]] = []
    everything.listen(lambda: seen.append(everything.snapshot().unavailable))
    stubborn = Stubborn()
    cache = ModelCache(stubborn.load, 1, everything, "test", 0.02)
    with pytest.raises(TimeoutError):
        await soon(cache.get("bad"))
    assert seen[-1] == ("bad",)  # with the failure, before the next call for it
    with pytest.raises(serve.exceptions.RayServeException, match="cannot be loaded"):
        await soon(cache.get("bad"))
    assert seen[-1] == ("bad",)
    stubborn.free.set()
    while seen[-1]:
        await asyncio.sleep(0)


async def test_the_end_does_not_wait_for_loaders_that_were_given_up() -> None:
    stubborn = Stubborn()
    with pytest.raises(TimeoutError):
        await soon(stubborn.get("bad"))
    assert (await soon(stubborn.get("well"))).model_id == "well"
    await soon(stubborn.cache.unload_all())
    assert stubborn.closed == ["unload well"]
    stubborn.free.set()
    await settle()


async def test_the_end_unloads_what_is_there_while_a_loader_does_not_end(loader: Loader) -> None:
    free = asyncio.Event()

    async def stubborn(model_id: str) -> Model:
        while model_id == "bad" and not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                pass
        return await loader(model_id)

    cache = ModelCache(stubborn, 2, Registry(), "test")
    await soon(cache.get("well"))
    bad = asyncio.ensure_future(cache.get("bad"))
    await settle()
    ending = asyncio.ensure_future(cache.unload_all())
    await settle()
    assert loader.log == ["load well", "unload well"]
    assert not ending.done()
    free.set()
    await soon(ending)
    assert loader.log[2:] == ["load bad", "unload bad"]
    with pytest.raises(serve.exceptions.RayServeException):
        await soon(bad)


async def test_the_end_does_not_wait_long_for_loaders_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.serve.multiplexing.cache.LAST_LOADS_S", 0.01)
    stubborn = Stubborn()
    cache = ModelCache(functools.partial(Stubborn.get.__wrapped__, stubborn), 1, Registry(), "test")  # type: ignore[attr-defined]
    bad = asyncio.ensure_future(cache.get("bad"))
    await settle()
    await soon(cache.unload_all())
    assert not bad.done()
    stubborn.free.set()
    with pytest.raises(serve.exceptions.RayServeException, match="cancelled"):
        await soon(bad)
    assert stubborn.closed == ["unload bad"]


async def test_a_limit_includes_the_unloading_before_it() -> None:
    class Endless(Model):
        async def close(self) -> None:
            await free.wait()

    free = asyncio.Event()

    async def load(model_id: str) -> Model:
        return Endless(model_id, [])

    cache = ModelCache(load, 1, Registry(), "test", 0.02)
    await soon(cache.get("a"))
    with pytest.raises(TimeoutError, match="'b' took more than"):
        await soon(cache.get("b"))
    assert (await soon(cache.get("c"))).model_id == "c"
    free.set()
    await settle()
    assert (await soon(cache.get("b"))).model_id == "b"
