"""``@serve.multiplexed``: what can be decorated, and what a cache does with models."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve.context import RequestContext
from fairlead.serve.multiplexing.cache import ModelCache
from fairlead.serve.multiplexing.decorator import MAX_MODEL_ID, announce
from fairlead.serve.multiplexing.registry import Registry, registry
from tests.serve.models import Loader, Model, Request, settle, soon


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def make(loader: Loader) -> Callable[[int | None], ModelCache]:
    return lambda capacity: ModelCache(loader, capacity, Registry(), "test")


Make = Callable[[int | None], ModelCache]


# -- the decorator


@pytest.mark.parametrize("number", [0, -2, -3])
def test_numbers_that_cannot_be(number: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        serve.multiplexed(max_num_models_per_replica=number)


@pytest.mark.parametrize("number", ["3", 1.5, None, True])
def test_numbers_that_are_none(number: Any) -> None:
    with pytest.raises(TypeError, match="integer"):
        serve.multiplexed(max_num_models_per_replica=number)


def test_what_cannot_be_decorated() -> None:
    decorate: Any = serve.multiplexed

    async def none() -> None: ...
    async def three(self: Any, model_id: str, more: int) -> None: ...
    async def star(*model_ids: str) -> None: ...
    async def keyword(*, model_id: str) -> None: ...
    def synchronous(model_id: str) -> None: ...

    for func in (none, three, star, keyword):
        with pytest.raises(TypeError, match="exactly one argument, the model id"):
            decorate(func)
    with pytest.raises(TypeError, match="async functions"):
        decorate(synchronous)
    with pytest.raises(TypeError, match="cannot be used to decorate classes"):
        decorate(Model)
    with pytest.raises(TypeError, match="not int"):
        decorate(3)


class Twofold:
    def __init__(self) -> None:
        self.log: list[str] = []

    @serve.multiplexed
    async def get(self, model_id: str) -> str:
        """Loads one."""
        self.log.append(f"get {model_id}")
        return f"model {model_id}"

    @serve.multiplexed(max_num_models_per_replica=1)
    async def other(self, model_id: str) -> str:
        self.log.append(f"other {model_id}")
        return f"other {model_id}"


async def test_two_methods_and_two_objects_have_caches_of_their_own() -> None:
    one, two = Twofold(), Twofold()
    assert await one.get("a") == await one.get(model_id="a") == "model a"
    assert await one.other("a") == "other a"
    await one.other("b")
    await one.get("a")
    assert one.log == ["get a", "other a", "other b"]
    await two.get("a")
    assert two.log == ["get a"]
    assert Twofold.get.__doc__ == "Loads one."


async def test_a_function_has_a_cache() -> None:
    calls = []

    @serve.multiplexed
    async def load(name: str) -> str:
        calls.append(name)
        return name

    assert [await load("a"), await load(name="a"), await load("b")] == ["a", "a", "b"]
    assert calls == ["a", "b"]


@pytest.mark.parametrize(
    ("model_id", "error"),
    [("", ValueError), ("x" * (MAX_MODEL_ID + 1), ValueError), (None, TypeError), (7, TypeError), (b"a", TypeError)],
)
async def test_model_ids_that_are_none(model_id: Any, error: type[Exception]) -> None:
    twofold = Twofold()
    with pytest.raises(error, match="model id"):
        await twofold.get(model_id)
    assert twofold.log == []


async def test_arguments_that_do_not_fit() -> None:
    load: Any = Twofold().get
    for args, kwargs in (((), {}), (("a", "b"), {}), (("a",), {"more": 1}), ((), {"more": 1})):
        with pytest.raises(TypeError):
            await load(*args, **kwargs)


async def test_objects_with_slots_are_refused() -> None:
    class Slotted:
        __slots__ = ()

        @serve.multiplexed
        async def get(self, model_id: str) -> str:
            return model_id

    with pytest.raises(TypeError, match="__slots__"):
        await Slotted().get("a")


async def test_code_sent_by_value_uses_the_caches_of_its_process() -> None:
    class Local:
        @serve.multiplexed
        async def get(self, model_id: str) -> str:
            return model_id

    Local.__module__ = "__main__"
    local = cloudpickle.loads(cloudpickle.dumps(Local))()
    announce(local)
    assert registry.multiplexes
    await local.get("sent by value")
    assert "sent by value" in registry.snapshot().loaded


# -- loading


async def test_one_load_however_many_ask_and_different_ones_at_once(make: Make, loader: Loader) -> None:
    cache = make(3)
    gates = [loader.close("a"), loader.close("b")]
    waiting = [asyncio.ensure_future(cache.get(model_id)) for model_id in "abaabb"]
    await settle()
    assert loader.running == 2
    assert sorted(cache.loading_ids()) == ["a", "b"]
    for gate in gates:
        gate.set()
    assert [model.model_id for model in await soon(asyncio.gather(*waiting))] == list("abaabb")
    assert loader.log == ["load a", "load b"]
    assert cache.load_time_s > 0


async def test_the_least_recently_asked_for_is_evicted_before_the_next_loads(make: Make, loader: Loader) -> None:
    cache = make(2)
    for model_id in "abac":
        await soon(cache.get(model_id))
    assert loader.log == ["load a", "load b", "unload b", "load c"]
    assert cache.loaded_ids() == ["a", "c"]


async def test_any_number_of_models(make: Make, loader: Loader) -> None:
    cache = make(None)
    for number in range(50):
        await soon(cache.get(str(number)))
    assert len(cache.loaded_ids()) == 50


async def test_a_failed_load_leaves_nothing_and_fails_all_that_waited(make: Make, loader: Loader) -> None:
    cache = make(1)
    gate = loader.close("a")
    loader.failures["a"] = ValueError("no weights")
    waiting = [asyncio.ensure_future(cache.get("a")) for _ in range(3)]
    await settle()
    gate.set()
    assert {str(error) for error in await soon(asyncio.gather(*waiting, return_exceptions=True))} == {"no weights"}
    assert (cache.loaded_ids(), cache.loading_ids()) == ([], [])
    del loader.failures["a"]
    assert (await soon(cache.get("a"))).model_id == "a"


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_a_loader_that_gives_up_in_strange_ways(make: Make, loader: Loader, error: BaseException) -> None:
    loader.failures["a"] = error
    cache = make(1)
    with pytest.raises(serve.exceptions.RayServeException, match="'a'"):
        await soon(cache.get("a"))
    assert cache.loading_ids() == []


async def test_a_load_is_cancelled_with_the_last_that_waits(make: Make, loader: Loader) -> None:
    cache = make(1)
    loader.close("a")
    one, two = Request(), Request()
    first, second = one.get(cache, "a"), two.get(cache, "a")
    await settle()
    first.cancel()
    await settle()
    assert (first.cancelled(), loader.running) == (True, 1)
    second.cancel()
    await settle()
    assert (loader.running, cache.loading_ids()) == (0, [])
    assert (await soon(cache.get("b"))).model_id == "b"


async def test_a_loader_that_ignores_its_cancellation_keeps_its_place_until_it_ends(loader: Loader) -> None:
    done = asyncio.Event()

    async def stubborn(model_id: str) -> Model:
        while model_id == "a" and not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                pass
        return Model(model_id, loader.log)

    cache = ModelCache(stubborn, 1, Registry(), "test")
    task = Request().get(cache, "a")
    await settle()
    task.cancel()
    again, other = Request().get(cache, "a"), Request().get(cache, "b")
    await settle()
    assert not again.done()
    assert not other.done()
    assert cache.loading_ids() == []
    done.set()
    results = {(await soon(asyncio.wait({again, other}, return_when=asyncio.FIRST_COMPLETED)))[0].pop().result()}
    assert "unload a" in loader.log
    assert len(results) == 1
    again.cancel(), other.cancel()


# -- models in use


async def test_a_model_in_use_is_not_evicted(make: Make, loader: Loader) -> None:
    cache = make(1)
    one, two = Request(), Request()
    await soon(one.get(cache, "a"))
    waiting = two.get(cache, "b")
    await settle()
    assert (waiting.done(), loader.log) == (False, ["load a"])
    assert (await soon(one.get(cache, "a"))).model_id == "a"  # it has it
    one.end()
    assert (await soon(waiting)).model_id == "b"
    assert loader.log == ["load a", "unload a", "load b"]
    two.end()


async def test_those_that_wait_for_a_place_get_it_in_their_order(make: Make, loader: Loader) -> None:
    cache = make(1)
    first = Request()
    await soon(first.get(cache, "a"))
    requests = [Request() for _ in range(5)]
    tasks = [request.get(cache, f"m{number}") for number, request in enumerate(requests)]
    await settle()
    first.end()
    for task, request in zip(tasks, requests, strict=True):
        await soon(task)
        request.end()
    assert [entry for entry in loader.log if entry.startswith("load m")] == [f"load m{n}" for n in range(5)]


async def test_requests_that_want_what_the_other_has_do_not_wait_forever(make: Make) -> None:
    cache = make(2)
    one, two = Request(), Request()
    await soon(asyncio.gather(one.get(cache, "a"), two.get(cache, "b")))
    models = await soon(asyncio.gather(one.get(cache, "c"), two.get(cache, "d")))
    assert [model.model_id for model in models] == ["c", "d"]


async def test_a_request_that_asks_for_more_than_there_is_room_for_does_not_wait_for_itself(
    make: Make, loader: Loader
) -> None:
    cache = make(2)
    gates = {model_id: loader.close(model_id) for model_id in "abcde"}
    request = Request()
    tasks = [request.get(cache, model_id) for model_id in "abcde"]
    for gate in gates.values():
        await settle()
        gate.set()
    assert [model.model_id for model in await soon(asyncio.gather(*tasks))] == list("abcde")


async def test_one_that_gives_up_waiting_lets_the_next_one_in(make: Make) -> None:
    cache = make(1)
    one, two, three = Request(), Request(), Request()
    await soon(one.get(cache, "a"))
    second, third = two.get(cache, "b"), three.get(cache, "c")
    await settle()
    one.end()
    second.cancel()
    assert (await soon(third)).model_id == "c"


async def test_a_request_that_ended_while_its_model_loaded_holds_nothing(make: Make, loader: Loader) -> None:
    cache = make(1)
    gate = loader.close("a")
    one = Request()
    task = one.get(cache, "a")
    await settle()
    one.end()
    gate.set()
    await soon(task)
    assert (await soon(cache.get("b"))).model_id == "b"


# -- unloading


async def test_unloading_by_del_or_close_once() -> None:
    log: list[str] = []

    class Deleted:
        def __del__(self) -> None:
            log.append("del")

        def close(self) -> None:
            log.append("never")

    class AsyncDeleted:
        async def __del__(self) -> None:
            await asyncio.sleep(0)
            log.append("async del")

    class Closed:
        def close(self) -> None:
            log.append("close")

    class AsyncClosed:
        async def close(self) -> None:
            log.append("async close")

    class Failing:
        def close(self) -> None:
            raise ValueError("stuck")

    kinds: dict[str, type] = {"1": Deleted, "2": Closed, "3": AsyncClosed, "4": Failing, "5": AsyncDeleted, "6": object}

    async def load(model_id: str) -> Any:
        return kinds[model_id]()

    cache = ModelCache(load, 1, Registry(), "test")
    for model_id in "123456":
        await soon(cache.get(model_id))  # also after one that failed to close
    gc.collect()
    assert log == ["del", "close", "async close", "async del"]


async def test_unloading_everything(make: Make, loader: Loader) -> None:
    cache = make(3)
    await soon(cache.get("a"))
    await soon(cache.get("b"))
    loader.close("c")
    loading = asyncio.ensure_future(cache.get("c"))
    await settle()
    await soon(cache.unload_all())
    assert sorted(loader.log) == ["load a", "load b", "load c", "unload a", "unload b"]
    assert (cache.loaded_ids(), cache.loading_ids()) == ([], [])
    for waiting in (loading, cache.get("a")):
        with pytest.raises(serve.exceptions.RayServeException):
            await soon(waiting)


async def test_the_snapshot_and_who_hears_of_its_changes(loader: Loader) -> None:
    everything = Registry()
    seen: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def note() -> None:
        snapshot = everything.snapshot()
        seen.append((snapshot.loaded, snapshot.loading))

    everything.listen(note)
    cache = ModelCache(loader, 1, everything, "test")
    await soon(cache.get("a"))
    await soon(cache.get("b"))
    await settle()
    assert list(dict.fromkeys(seen)) == [((), ()), ((), ("a",)), (("a",), ()), ((), ("b",)), (("b",), ())]


async def test_a_loader_has_a_request_of_its_own(make: Make) -> None:
    seen: list[str] = []
    contexts: list[RequestContext] = []

    async def load(model_id: str) -> str:
        seen.append(serve.get_multiplexed_model_id())
        contexts.append(serve.get_request_context())
        return model_id

    request = Request()
    await soon(request.get(ModelCache(load, 1, Registry(), "test"), "a"))
    assert seen == ["asked"]
    assert contexts[0] is not request.context
