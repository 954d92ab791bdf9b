"""Local testing mode: everything in this process, and as it is elsewhere."""

from __future__ import annotations

import asyncio
import bdb
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.context import get_replica_context, is_replica
from fairlead.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from fairlead.serve.grpc_util import gRPCContext
from fairlead.serve.traffic import set_traffic

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    yield
    serve.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("fairlead default", "local"))]


def run(app: serve.Application[Any], **options: Any) -> Any:
    return serve.run(app, _local_testing_mode=True, **options)


@serve.deployment(num_replicas=2)
class Echo:
    def __init__(self, notes: list[Any] | None = None) -> None:
        self.notes = notes

    def __call__(self, value: Any) -> Any:
        if self.notes is not None:
            self.notes.append(value)
        return value

    def where(self) -> tuple[str, str]:
        return get_replica_context().replica_id, threading.current_thread().name

    async def where_async(self) -> tuple[str, str]:
        assert get_replica_context().servable_object is self
        return get_replica_context().replica_id, threading.current_thread().name

    async def count(self, number: int) -> AsyncIterator[int]:
        for item in range(number):
            yield item

    def fail(self) -> None:
        raise ValueError("on purpose")


@serve.deployment
class Front:
    def __init__(self, back: Any) -> None:
        self.back = back

    async def __call__(self, value: Any) -> Any:
        return await self.back.remote(value)

    async def application(self) -> str:
        return serve.get_request_context().app_name + await self.ask_by_name()

    async def ask_by_name(self) -> str:
        handle = await asyncio.to_thread(serve.get_deployment_handle, "Echo")
        return str(await handle.remote("!"))


def test_calls_and_the_very_arguments() -> None:
    notes: list[Any] = []
    handle = run(Front.bind(Echo.bind(notes)))
    assert handle.remote({"a": 1}).result() == {"a": 1}
    assert notes == [{"a": 1}]
    assert handle.application.remote().result() == "default!"
    value = [1]
    assert handle.remote(value).result() is not value  # by value, as between processes


async def test_calls_from_an_event_loop() -> None:
    handle = run(Echo.bind())
    assert await asyncio.gather(*(handle.remote(number) for number in range(50))) == list(range(50))
    assert [item async for item in handle.options(stream=True).count.remote(3)] == [0, 1, 2]


def test_each_replica_is_itself() -> None:
    handle = run(Echo.bind())
    replicas = set()
    while len(replicas) < 2:
        replica_id, thread = handle.where_async.remote().result()
        assert replica_id in thread
        replicas.add(replica_id)
    assert handle.where.remote().result()[0] in replicas
    assert not is_replica()
    assert {name for name, _ in handle.broadcast("where").results()} == replicas


def test_ranks() -> None:
    @serve.deployment(num_replicas=3, user_config={"greeting": "hi"})
    class Ranked:
        def reconfigure(self, config: dict[str, str], rank: Any) -> None:
            self.told = (config["greeting"], rank.rank, rank.local_rank, rank.node_rank)

        def __call__(self) -> Any:
            context = get_replica_context()
            assert context.rank is not None
            return self.told, context.rank.rank, context.world_size

    answers = sorted(run(Ranked.bind()).broadcast("__call__").results())
    assert answers == [(("hi", number, number, 0), number, 3) for number in range(3)]


def test_errors_point_at_the_users_lines() -> None:
    handle = run(Echo.bind())
    with pytest.raises(ValueError, match="on purpose") as caught:
        handle.fail.remote().result()
    assert "in fail" in str(caught.value.__cause__)


def test_so_do_errors_that_come_through_several_deployments() -> None:
    @serve.deployment
    class Failing:
        def __call__(self, value: Any) -> Any:
            raise LookupError("at the very end")

    with pytest.raises(LookupError) as caught:
        run(Front.bind(Failing.bind())).remote(1).result()
    cause = str(caught.value.__cause__)
    assert 'raise LookupError("at the very end")' in cause
    assert "return await self.back.remote(value)" in cause
    assert {line.split('"')[1] for line in cause.splitlines() if line.startswith('  File "')} == {__file__}


def test_so_do_errors_of_batches_and_of_loaders() -> None:
    @serve.deployment
    class Failing:
        @serve.batch(batch_wait_timeout_s=0)
        async def batched(self, values: list[Any]) -> list[Any]:
            raise LookupError("in the batch")

        @serve.multiplexed
        async def load(self, model_id: str) -> Any:
            raise LookupError("in the loader")

        async def in_batch(self) -> Any:
            return await self.batched(1)

        async def in_loader(self) -> Any:
            return await self.load("m")

    handle = run(Failing.bind())
    for method, lines in (("in_batch", "self.batched(1)"), ("in_loader", 'self.load("m")')):
        with pytest.raises(LookupError) as caught:
            getattr(handle, method).remote().result()
        cause = str(caught.value.__cause__)
        assert f"return await {lines}" in cause
        assert "raise LookupError" in cause
        assert {line.split('"')[1] for line in cause.splitlines() if line.startswith('  File "')} == {__file__}


def test_what_a_constructor_raises_is_raised_here() -> None:
    class Unlucky(Exception):
        pass

    @serve.deployment
    class Broken:
        def __init__(self) -> None:
            raise Unlucky

    @serve.deployment
    class Late:
        def __init__(self, broken: Any) -> None:
            late.set()

    late = threading.Event()
    with pytest.raises(Unlucky) as caught:
        run(Late.bind(Broken.bind()))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].filename == __file__
    assert not serve.status().applications


def test_methods_of_typed_services_get_their_context() -> None:
    @serve.deployment
    @serve.grpc_service("grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server")
    class Checks:
        def Check(self, request: Any, grpc_context: gRPCContext) -> str:
            grpc_context.set_trailing_metadata([("k", "v")])
            return f"{request} {grpc_context.trailing_metadata()}"

    assert run(Checks.bind()).Check.remote("r").result() == "r (('k', 'v'),)"


def test_a_failed_deploy_leaves_what_ran() -> None:
    handle = run(Echo.bind())

    @serve.deployment(name="Echo", user_config={"a": 1})
    class Broken:
        pass

    with pytest.raises(RayServeException, match="reconfigure"):
        run(Broken.bind())
    assert handle.remote(1).result() == 1


def test_an_application_is_replaced_and_deleted() -> None:
    destroyed = threading.Event()

    @serve.deployment
    class First:
        def __call__(self) -> str:
            return "first"

        def __del__(self) -> None:
            destroyed.set()

    handle = run(First.bind())
    assert handle.remote().result() == "first"
    run(First.options(func_or_class=lambda: "second").bind())
    assert destroyed.is_set()
    assert handle.remote().result() == "second"
    assert list(serve.status().applications) == ["default"]
    assert serve.get_app_handle("default").remote().result() == "second"
    serve.delete("default")
    with pytest.raises(RayServeException, match="does not exist"):
        serve.get_app_handle("default")
    with pytest.raises(RayServeException, match="not found"):
        handle.remote().result()


def test_two_applications() -> None:
    apps = [(Echo.bind(), "one"), (Front.bind(Echo.bind()), "other")]
    one, other = serve.run_many(
        [serve.RunTarget(target=app, name=name) for app, name in apps],
        _local_testing_mode=True,
    )
    assert (one.remote(1).result(), other.application.remote().result()) == (1, "other!")


def test_calls_can_be_spread() -> None:
    handle = run(Echo.bind(), name="one")
    run(Front.options(name="Canary").bind(Echo.bind()), name="canary")
    set_traffic("one", {"canary": 1.0})
    assert serve.status().applications["one"].traffic["Echo"].backends == {"canary": 1.0}
    with pytest.raises(RayServeException, match="'ask_by_name'"):
        handle.count.remote(1).result()
    for wrong, message in (({"one": 0.5}, "sum up to 1, not 0.5"), ({"canary/Nope": 1.0}, "no deployment 'Nope'")):
        with pytest.raises(RayServeException, match=message):
            set_traffic("one", wrong)
    run(Echo.bind(), name="one")
    assert serve.status().applications["one"].traffic, "an update keeps it"
    set_traffic("one", {})
    assert list(handle.options(stream=True).count.remote(2)) == [0, 1]


def test_limits_hold() -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    @serve.deployment(max_ongoing_requests=2, max_queued_requests=1)
    class Narrow:
        def __call__(self) -> None:
            entered.release()
            assert gate.wait(PATIENCE_S)

    handle = run(Narrow.bind())
    running = [handle.remote() for _ in range(2)]
    for _ in running:
        assert entered.acquire(timeout=PATIENCE_S)
    queued = handle.remote()
    with pytest.raises(BackPressureError):
        handle.remote().result()
    gate.set()
    assert [each.result() for each in [*running, queued]] == [None] * 3


async def test_a_reserved_replica_takes_the_call() -> None:
    handle = run(Echo.bind())
    async with handle.where.choose_replica() as selection:
        assert (await handle.where.dispatch(selection))[0] == selection.replica_id


def test_cancelling_is_recursive() -> None:
    entered, cancelled = threading.Event(), threading.Event()

    @serve.deployment
    class Slow:
        async def __call__(self, value: Any) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    response = run(Front.bind(Slow.bind())).remote(1)
    assert entered.wait(PATIENCE_S)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result()
    assert cancelled.wait(PATIENCE_S)


def test_models_and_batches_belong_to_their_replicas() -> None:
    @serve.deployment(num_replicas=2)
    class Models:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def load(self, model_id: str) -> str:
            return f"{model_id} at {get_replica_context().replica_tag}"

        @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
        async def together(self, values: list[int]) -> list[str]:
            return [f"{value} at {get_replica_context().replica_tag}" for value in values]

        async def __call__(self, value: int) -> tuple[str, str]:
            return await self.load(serve.get_multiplexed_model_id()), await self.together(value)

    handle = run(Models.bind())
    places = set()
    for name in ("a", "b"):
        loaded, batched = handle.options(multiplexed_model_id=name).remote(1).result()
        assert loaded.partition(" at ")[2] == batched.partition(" at ")[2]
        places.add(loaded)
    assert {place.split()[-1] for place in places} == {
        replica_id.rpartition("#")[2]
        for replica_id in [each.replica_id for each in api.instance_status().applications[0].deployments[0].replicas]
    }


def test_a_debugger_stops_at_a_breakpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Debugger(bdb.Bdb):
        def user_line(self, frame: Any) -> None:
            seen.append(f"{frame.f_code.co_name}: {frame.f_locals['value']}")
            self.set_continue()

    monkeypatch.setattr(sys, "breakpointhook", lambda: Debugger().set_trace(sys._getframe(1)))

    @serve.deployment
    class Stopping:
        def plain(self, value: int) -> int:
            breakpoint()
            return value

        async def coroutine(self, value: int) -> int:
            breakpoint()
            return value

    handle = run(Stopping.bind())
    assert (handle.plain.remote(1).result(), handle.coroutine.remote(2).result()) == (1, 2)
    assert seen == ["plain: 1", "coroutine: 2"]


def test_the_variable_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_FORCE_LOCAL_TESTING_MODE", "1")
    assert serve.run(Echo.bind()).remote(1).result() == 1
    monkeypatch.setenv("FAIRLEAD_FORCE_LOCAL_TESTING_MODE", "0")
    with pytest.raises(RayServeException, match="local testing mode"):
        serve.run(Echo.bind())


def test_bad_targets_are_refused_as_ever() -> None:
    with pytest.raises(TypeError, match="bind"):
        run(Echo)  # type: ignore[arg-type]
    with pytest.raises(RayServeException, match="non-empty"):
        run(Echo.bind(), name="")
