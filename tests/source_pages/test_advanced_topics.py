"""The page "Advanced Topics and Configurations", row by row."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import pytest
from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor

import fairlead as ray
from fairlead import serve
from fairlead.serve import api, config
from fairlead.serve.classic import RayServeHandle, RayServeSyncHandle
from fairlead.serve.handle import DeploymentResponse
from tests.source_pages.backends import Counter, Marked, Named, batched, hello, my_backend, parameters, pid, slow
from tests.source_pages.conftest import Classic, run


@pytest.fixture(scope="module", autouse=True)
def endpoints(classic: Classic) -> None:
    serve.create_backend("my_backend", my_backend)
    serve.create_endpoint("my_endpoint", backend="my_backend", route="/api/{username}")
    serve.create_backend("f", parameters)
    serve.create_endpoint("complex", backend="f", route="/api/{user_id:int}/{number:float}")
    serve.create_endpoint("rest", backend="f", route="/files/{rest:path}")
    serve.create_backend("hello", hello)
    serve.create_endpoint("e", backend="hello")


@pytest.mark.parametrize("given", [serve.BackendConfig(num_replicas=2), {"num_replicas": 2}], ids=["config", "dict"])
def test_b1_a_backend_config_or_a_dictionary(given: Any) -> None:
    assert config.BackendConfig is serve.BackendConfig
    serve.create_backend("pids", pid, config=given)
    serve.create_endpoint("pids", backend="pids")
    handle = serve.get_handle("pids")
    assert len(set(ray.get([handle.remote() for _ in range(100)]))) == 2
    serve.delete_endpoint("pids")
    serve.delete_backend("pids")


def test_b2_scaling_out_and_in(classic: Classic) -> None:
    serve.create_backend("counter", Counter, config=serve.BackendConfig(num_replicas=2))
    serve.create_endpoint("counter", backend="counter", route="/counter")
    handle = serve.get_handle("counter")
    counts = [ray.get(handle.remote()) for _ in range(40)]
    assert max(counts) < 40  # which of the two takes a call is chance
    serve.update_backend_config("counter", serve.BackendConfig(num_replicas=1))
    counts = [int(classic.get("/counter").text) for _ in range(10)]
    assert max(counts) - min(counts) > 6
    serve.delete_endpoint("counter")
    serve.delete_backend("counter")


def test_b3_splitting_traffic() -> None:
    for name in ("b1", "b2"):
        serve.create_backend(name, Named, name)
    serve.create_endpoint("split", backend="b1")
    handle = serve.get_handle("split")
    assert set(ray.get([handle.remote() for _ in range(10)])) == {"b1"}
    serve.set_traffic("split", {"b1": 0.5, "b2": 0.5})
    assert set(ray.get([handle.remote() for _ in range(40)])) == {"b1", "b2"}
    serve.set_traffic("split", {"b2": 1.000009})  # about 1 is enough
    assert serve.list_endpoints()["split"]["traffic"] == {"b2": 1.000009}
    assert set(ray.get([handle.remote() for _ in range(10)])) == {"b2"}


def test_b4_batching() -> None:
    serve.create_backend("batched", batched, config={"max_batch_size": 5, "batch_wait_timeout": 1})
    serve.create_endpoint("batched", backend="batched")
    handle = serve.get_handle("batched")
    sizes = ray.get([handle.remote() for _ in range(20)])
    assert max(sizes) > 1
    assert sum(count // size for size, count in Tally(sizes).items()) < 20
    with pytest.raises(ValueError, match="accept_batch"):
        serve.create_backend("unbatched", hello, config={"max_batch_size": 5})
    for update in ({"max_batch_size": 5}, serve.BackendConfig(max_batch_size=5)):
        with pytest.raises(ValueError, match="accept_batch"):
            serve.update_backend_config("hello", update)
    assert serve.get_backend_config("hello").max_batch_size is None
    serve.update_backend_config("batched", {"max_batch_size": 6})
    assert serve.get_backend_config("batched").max_batch_size == 6


def test_b4_every_method_of_a_backend_that_accepts_batches_gets_them() -> None:
    given = {"max_batch_size": 2, "batch_wait_timeout": 30}
    serve.create_backend("marked", Marked, config=given)
    serve.create_backend("imported", "tests.source_pages.backends.Imported", "given", config=given)
    for tag in ("marked", "imported"):
        serve.create_endpoint(tag, backend=tag)
        handle = serve.get_handle(tag)
        calls = [
            method.remote(number) for method in (handle, handle.options(method_name="other")) for number in range(2)
        ]
        assert ray.get(calls) == [[tag, [0, 1]]] * 2 + [["other", [0, 1]]] * 2


def test_b1_how_many_queries_a_backend_takes() -> None:
    for definition, given, queries in (
        (hello, None, 8),
        (hello, {"batch_wait_timeout": 1}, None),
        (slow, None, 100),
        (slow, {"num_replicas": 1}, 100),
        (slow, serve.BackendConfig(), 8),
    ):
        serve.create_backend("queries", definition, config=given)  # type: ignore[arg-type]
        assert serve.get_backend_config("queries").max_concurrent_queries == queries
        assert serve.list_backends()["queries"] == serve.get_backend_config("queries")
        serve.update_backend_config("queries", {"batch_wait_timeout": 2})
        assert serve.get_backend_config("queries").max_concurrent_queries == queries
        serve.delete_backend("queries")


def test_b5_two_kinds_of_handles() -> None:
    assert type(serve.get_handle("e")) is RayServeSyncHandle
    assert type(serve.get_handle("e", sync=False)) is RayServeHandle


async def test_b6_the_sync_handle_gives_a_reference() -> None:
    reference = serve.get_handle("e").remote()
    assert isinstance(reference, DeploymentResponse)
    assert await reference == "hello"
    ready, waiting = await asyncio.to_thread(ray.wait, [reference])
    assert (len(ready), len(waiting)) == (1, 0)
    assert await asyncio.to_thread(ray.get, reference) == "hello"


async def test_b7_the_async_handle_is_awaited_for_one() -> None:
    handle = serve.get_handle("e", sync=False)
    calling = handle.remote()
    assert inspect.iscoroutine(calling)
    reference = await calling
    assert isinstance(reference, DeploymentResponse)
    assert await reference == "hello"


async def test_b8_the_wrong_kind_is_warned_of_inside_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fairlead.serve"):
        serve.get_handle("e")
    assert "sync handle inside an asyncio loop" in caplog.text


def test_b8_and_outside_of_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fairlead.serve"):
        serve.get_handle("e", sync=False)
    assert "async handle outside of an asyncio loop" in caplog.text


def test_b9_the_sync_handle_works_in_any_thread() -> None:
    handle = serve.get_handle("e")

    async def in_threads() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(lambda: ray.get(handle.remote())) for _ in range(8)))

    assert asyncio.run(in_threads()) == ["hello"] * 8


def test_b10_one_server_on_loopback(classic: Classic) -> None:
    (gateway,) = api.instance_status().gateways
    assert gateway.http_address.startswith("127.0.0.1:")
    assert classic.get("/-/routes").status_code == 200
    assert config.HTTPOptions().port == 8000


@pytest.mark.parametrize("location", ["HeadOnly", "EveryNode"])
def test_b11_b12_b14_a_machine_has_one_server(location: str, tmp_path: Path) -> None:
    said = run(f"serve.start(http_options={{'location': {location!r}, 'port': 0}})\n{DESCRIBE}", tmp_path)
    assert said == ["1", "hello"]


@pytest.mark.parametrize("options", ["{'location': 'NoServer'}", "{'location': None}", "{'host': None}"])
def test_b13_no_server(options: str, tmp_path: Path) -> None:
    assert run(f"serve.start(http_options={options})\n{DESCRIBE}", tmp_path) == ["0", "hello"]


def test_b13_no_server_by_the_old_name(tmp_path: Path) -> None:
    start = "import warnings; warnings.simplefilter('ignore'); serve.start(http_host=None)"
    assert run(f"{start}\n{DESCRIBE}", tmp_path) == ["0", "hello"]


def test_b15_b16_a_path_parameter(classic: Classic) -> None:
    assert classic.get("/api/scaly").text == "scaly"
    serve.create_endpoint("nameless", backend="my_backend", route="/nameless")
    answer = classic.get("/nameless")
    assert answer.status_code == 500
    assert "KeyError" in answer.text


def test_b15_a_route_that_cannot_be_leaves_the_others(classic: Classic) -> None:
    for route, error, told in (
        ("/x/{a:nonesuch}", AssertionError, "no converter 'nonesuch'"),
        ("/x/{a}/{a}", ValueError, "stands there twice"),
        ("/x/{a", ValueError, "brace"),
    ):
        with pytest.raises(error, match=told):
            serve.create_endpoint("bad", backend="f", route=route)
    with pytest.raises(ValueError, match="method"):
        serve.create_endpoint("bad", backend="f", route="/x", methods=[])
    assert "bad" not in serve.list_endpoints()
    assert classic.get("/api/scaly").text == "scaly"


def test_b17_b18_converters(classic: Classic) -> None:
    assert classic.get("/api/123/3.14").json() == {"user_id": ["int", 123], "number": ["float", 3.14]}


def test_b19_starlettes_rules(classic: Classic) -> None:
    assert classic.get("/api/abc/3.14").status_code == 404
    assert classic.get("/api/-1/3.14").status_code == 404
    assert classic.get("/api/123/3").json()["number"] == ["float", 3.0]
    moved = classic.get("/api/123/3.14/")
    assert moved.status_code == 307
    assert moved.headers["location"].endswith("/api/123/3.14")
    assert classic.get("/files/a/b/c").json() == {"rest": ["str", "a/b/c"]}
    assert classic.get("/files/").json() == {"rest": ["str", ""]}


class Numbered(Convertor[int]):
    """Takes f1, f2 and so on, and makes the next number of it."""

    regex = "f[0-9]+"

    def convert(self, value: str) -> int:
        return int(value[1:]) + 1

    def to_string(self, value: int) -> str:
        return f"f{value - 1}"


def test_b19_converters_of_the_users_own(classic: Classic) -> None:
    register_url_convertor("numbered", Numbered())
    try:
        with pytest.raises(ValueError, match="'f' cannot convert numbered"):  # it was created before
            serve.create_endpoint("own", backend="f", route="/own/{number:numbered}/{n:int}")
        for tag in ("g", "h"):
            serve.create_backend(tag, parameters)
        serve.create_endpoint("own", backend="g", route="/own/{number:numbered}/{n:int}")
    finally:
        del CONVERTOR_TYPES["numbered"]  # as in another program
    assert classic.get("/own/f12/3").json() == {"number": ["int", 13], "n": ["int", 3]}
    assert classic.get("/own/12/3").status_code == 404
    serve.set_traffic("own", {"h": 1.0})
    assert classic.get("/own/f1/3").json() == {"number": ["int", 2], "n": ["int", 3]}
    for send in (lambda: serve.set_traffic("own", {"f": 1}), lambda: serve.shadow_traffic("own", "f", 1)):
        with pytest.raises(ValueError, match="'f' cannot convert numbered"):
            send()
    assert serve.list_endpoints()["own"] == {
        "route": "/own/{number:numbered}/{n:int}",
        "methods": ["GET"],
        "traffic": {"h": 1.0},
        "shadows": {},
    }
    serve.delete_endpoint("own")


def test_b19_the_first_of_two_routes_wins(classic: Classic) -> None:
    serve.create_endpoint("same", backend="hello", route="/api/{name}")  # takes what my_endpoint takes
    serve.create_endpoint("literal", backend="hello", route="/api/literal")
    assert [classic.get("/api/scaly").text, classic.get("/api/literal").text] == ["scaly", "literal"]
    serve.create_endpoint("posts", backend="hello", route="/api/{other}", methods=["POST"])
    assert classic.send("POST", "/api/scaly").text == "hello"
    serve.delete_endpoint("my_endpoint")
    assert classic.get("/api/scaly").text == "hello"
    for name in ("same", "literal", "posts"):
        serve.delete_endpoint(name)
    serve.create_endpoint("my_endpoint", backend="my_backend", route="/api/{username}")


DESCRIBE = """\
serve.create_backend("hello", lambda request: "hello")
serve.create_endpoint("e", backend="hello", route="/e")
print(sum(bool(each.http_address) for each in api.instance_status().gateways))
print(ray.get(serve.get_handle("e").remote()))
"""
