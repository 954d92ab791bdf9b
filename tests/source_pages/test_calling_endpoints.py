"""The page "Calling Endpoints via HTTP and ServeHandle", row by row."""

from __future__ import annotations

import asyncio
import http.client
import logging
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fairlead as ray
from fairlead import serve
from fairlead.serve.config import DeploymentMode, HTTPOptions
from fairlead.serve.exceptions import RayServeException
from tests.e2e.stage import wait_until
from tests.source_pages import backends
from tests.source_pages.conftest import Classic, run


@pytest.fixture(scope="module", autouse=True)
def endpoints(classic: Classic) -> None:
    methods = ["GET", "POST"]
    for name in ("mirror", "origin", "inner"):
        serve.create_backend(name, getattr(backends, name))
        serve.create_endpoint(name, backend=name, route=f"/{name}", methods=methods)
    serve.create_backend("stateful", backends.StatefulProcessor)
    serve.create_endpoint("endpoint_name", backend="stateful", route="/stateful")
    serve.create_backend("hello", backends.hello)
    serve.create_endpoint("endpoint1", backend="hello", route="/hello")


@pytest.fixture(scope="module")
def mirror() -> Any:
    return serve.get_handle("mirror")


def test_c1_two_doors_one_backend(classic: Classic) -> None:
    serve.create_backend("counter", backends.Counter)
    serve.create_endpoint("counter", backend="counter", route="/counter")
    handle = serve.get_handle("counter")
    assert [classic.get("/counter").json(), ray.get(handle.remote()), classic.get("/counter").json()] == [1, 2, 3]


def test_c2_a_route_is_there_when_the_call_returns(classic: Classic) -> None:
    serve.create_endpoint("routed", backend="hello", route="/routed")
    assert classic.get("/routed").status_code == 200
    serve.create_endpoint("headless", backend="hello")
    assert classic.get("/headless").status_code == 404
    assert ray.get(serve.get_handle("headless").remote()) == "hello"
    with pytest.raises(ValueError, match="registered already"):
        serve.create_endpoint("again", backend="hello", route="/routed")


def test_c2_what_is_not_there_is_told_in_classic_words(classic: Classic) -> None:
    for path in ("/nowhere/at all", "/-/nothing"):
        answer = classic.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
        assert answer.text == f"Path {path} not found. Please ping http://.../-/routes for route table."
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = classic.send(method, "/hello")
        assert (answer.status_code, answer.text) == (405, "Method Not Allowed")
        assert (answer.headers["content-type"], answer.headers["allow"]) == ("text/plain; charset=utf-8", "GET, HEAD")
    assert (classic.send("HEAD", "/hello").status_code, classic.send("HEAD", "/hello").text) == (200, "")


def test_c2_routes_are_shown_with_their_endpoints(classic: Classic) -> None:
    serve.create_endpoint("my_endpoint", backend="hello", route="/my_route")
    serve.create_endpoint("posted", backend="hello", route="/posted/{n:int}", methods=["post", "GET"])
    serve.create_endpoint("unrouted", backend="hello")
    shown = classic.get("/-/routes").json()
    assert shown["/my_route"] == ["my_endpoint", ["GET"]]
    assert shown["/posted/{n:int}"] == ["posted", ["POST", "GET"]]
    assert shown["unrouted"] == ["unrouted", ["GET"]]
    assert set(shown) == {each["route"] or name for name, each in serve.list_endpoints().items()}


@pytest.mark.parametrize("location", [None, "HeadOnly", DeploymentMode.EveryNode, DeploymentMode.NoServer])
def test_c3_locations(location: Any) -> None:
    """One machine has one server wherever that is: the rows on locations start instances with each."""
    options = HTTPOptions(location=location)
    assert options.location == (location or "NoServer")
    assert isinstance(options.location, DeploymentMode)
    assert HTTPOptions(host=None).location == "NoServer"
    with pytest.raises(ValueError, match="Everywhere"):
        HTTPOptions(location="Everywhere")


def test_c4_any_status_code(classic: Classic) -> None:
    serve.create_backend("f", backends.f)
    serve.create_endpoint("f", backend="f", route="/f")
    connection = http.client.HTTPConnection(classic.url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/f")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (123, "text/plain; charset=utf-8")
    assert answer.read() == b"Hello, world!"
    connection.close()
    serve.create_backend("teapot", backends.teapot)
    serve.create_endpoint("teapot", backend="teapot", route="/teapot")
    brewed = classic.get("/teapot")
    assert (brewed.status_code, brewed.text) == (418, "short and stout")


@pytest.mark.parametrize("path", ["/hello", "/-/routes", "/nowhere"])
def test_c5_c6_middlewares_are_around_everything(classic: Classic, path: str) -> None:
    seen = classic.get(path, headers={"origin": "https://example.org"})
    assert seen.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in classic.get(path).headers


def test_c6_preflights(classic: Classic) -> None:
    headers = {"origin": "https://example.org", "access-control-request-method": "GET"}
    answer = classic.send("OPTIONS", "/hello", headers=headers)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-max-age"] == "600"


def test_c6_start_gives_a_client(classic: Classic) -> None:
    client = serve.connect()
    assert "hello" in client.list_backends()
    assert ray.get(client.get_handle("endpoint1").remote()) == "hello"
    with pytest.raises(AttributeError, match="list_backends"):
        _ = client.lsit_backends
    with pytest.raises(RayServeException, match="cannot be serialized"):
        pickle.dumps(client)


def test_c6_a_clients_calls_are_deprecated(classic: Classic, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fairlead.serve"):
        assert classic.client.list_endpoints() == serve.list_endpoints()
    (record,) = caplog.records
    assert record.getMessage() == "client.list_endpoints is deprecated: use serve.list_endpoints."


def test_c6_a_client_ends_with_its_instance(tmp_path: Path) -> None:
    program = """
        from fairlead.serve.exceptions import RayServeException

        client = serve.start(http_options={"location": "NoServer"})
        print(client.list_backends())
        serve.shutdown()
        serve.shutdown()
        serve.start(http_options={"location": "NoServer"})
        try:
            client.list_backends()
        except RayServeException as error:
            print(error)
        client.shutdown()
        print(serve.list_backends())
        serve.connect().shutdown()
        try:
            serve.list_backends()
        except RayServeException as error:
            print("none")
    """
    assert run(program, tmp_path) == ["{}", "Client has already been shut down.", "{}", "none"]


def test_c7_the_last_middleware_is_the_outermost(tmp_path: Path) -> None:
    """Custom ones in Starlette's format, around everything: each says its name on the way out."""
    program = """
        from starlette.middleware import Middleware
        import httpx

        class Named:
            def __init__(self, app, name):
                self.app, self.name = app, name

            async def __call__(self, scope, receive, send):
                async def sending(message):
                    if message["type"] == "http.response.start":
                        message["headers"] = [*message["headers"], (b"x-order", self.name.encode())]
                    await send(message)
                await self.app(scope, receive, sending)

        middlewares = [Middleware(Named, name="first"), Middleware(Named, name="last")]
        serve.start(http_options={"middlewares": middlewares, "port": 0}, grpc_options={"port": 0})
        serve.create_backend("hello", lambda request: "hello")
        serve.create_endpoint("e", backend="hello", route="/e")
        url = "http://" + api.instance_status().gateways[0].http_address
        for path in ("/e", "/-/routes", "/nowhere"):
            answer = httpx.get(url + path, trust_env=False, timeout=30)
            print(answer.status_code, *answer.headers.get_list("x-order"))
    """
    assert run(program, tmp_path) == ["200 first last", "200 first last", "404 first last"]


def test_c8_handles_follow_the_traffic_policy(classic: Classic) -> None:
    for name in ("b1", "b2", "shadow"):
        serve.create_backend(name, backends.Named, name)
    serve.create_endpoint("policy", backend="b1", route="/policy")
    handle = serve.get_handle("policy")
    for name in ("b2", "b1"):
        serve.set_traffic("policy", {name: 1.0})
        assert (classic.get("/policy").text, ray.get(handle.remote())) == (name, name)
    serve.set_traffic("policy", {"b1": 0.5, "b2": 0.5})
    for key in ("user-1", "user-2", "abc"):
        seen = {ray.get(handle.options(shard_key=key).remote()) for _ in range(10)}
        seen |= {classic.get("/policy", headers={"X-SERVE-SHARD-KEY": key}).text for _ in range(5)}
        assert len(seen) == 1
    serve.shadow_traffic("policy", "shadow", 1.0)
    assert serve.list_endpoints()["policy"] == {
        "route": "/policy",
        "methods": ["GET"],
        "traffic": {"b1": 0.5, "b2": 0.5},
        "shadows": {"shadow": 1.0},
    }
    with pytest.raises(ValueError, match="used by endpoint 'policy'"):
        serve.delete_backend("shadow")
    assert {ray.get(handle.remote()) for _ in range(40)} == {"b1", "b2"}
    serve.set_traffic("policy", {"b1": 1.0})
    assert serve.list_endpoints()["policy"]["shadows"] == {}
    for proportion, shadows in ((0, {"b2": 0}), (0.5, {"b2": 0.5}), (0, {})):
        serve.shadow_traffic("policy", "b2", proportion)
        assert serve.list_endpoints()["policy"]["shadows"] == shadows


def test_c9_composition(classic: Classic) -> None:
    serve.create_backend("composed", backends.Composed)
    serve.create_endpoint("endpoint2", backend="composed", route="/endpoint2")
    assert classic.get("/endpoint2").text == "hello"


def test_c10_get_wait_and_unknown_endpoints() -> None:
    reference = serve.get_handle("endpoint1").remote()
    assert ray.wait([reference])[0] == [reference]
    with pytest.raises(KeyError):
        serve.get_handle("nonesuch")


def test_c11_headers(classic: Classic, mirror: Any) -> None:
    given = {"X-Custom-Header": "value"}
    assert classic.get("/mirror?what=headers", headers=given).text == "value"
    assert ray.get(mirror.options(http_headers=given).remote(what="headers")) == "value"


def test_c12_the_method(classic: Classic, mirror: Any) -> None:
    assert classic.send("POST", "/mirror?what=method").text == "POST"
    assert ray.get(mirror.options(http_method="POST").remote(what="method")) == "POST"
    assert ray.get(mirror.remote(what="method")) == "GET"
    other = mirror.options(http_method="DELETE")  # is not among the endpoint's, which are of no concern to handles
    assert ray.get(other.remote(what="method")) == "DELETE"


def test_c13_json(classic: Classic, mirror: Any) -> None:
    assert classic.get("/mirror?what=json", json={"a": 1}).json() == {"a": 1}
    assert ray.get(mirror.remote({"a": 1}, what="json")) == {"a": 1}
    with pytest.raises(RayServeException, match="must be a dictionary"):
        ray.get(mirror.remote("text", what="json"))


def test_c14_form(classic: Classic, mirror: Any) -> None:
    for method in ("GET", "POST"):
        assert classic.send(method, "/mirror?what=form", data={"a": "b"}).json() == {"a": "b"}
    assert ray.get(mirror.remote({"a": "b"}, what="form")) == {"a": "b"}


def test_c15_query_parameters(classic: Classic, mirror: Any) -> None:
    assert classic.get("/mirror", params={"what": "params", "a": "b"}).json() == {"what": "params", "a": "b"}
    assert ray.get(mirror.remote(what="params", i=333)) == {"what": "params", "i": 333}


def test_c16_the_body(classic: Classic, mirror: Any) -> None:
    assert classic.get("/mirror?what=body", content=b"long string").json() == ["bytes", "long string"]
    assert ray.get(mirror.remote("long string", what="body")) == ["str", "long string"]
    assert classic.send("POST", "/mirror?what=length", content=b"x" * 655_360).json() == 655_360


@pytest.mark.parametrize("value", [None, 5, ["a", {"b": 1j}], {1, 2}, backends.Point(1, 2)], ids=str)
def test_c17_python_objects(mirror: Any, value: Any) -> None:
    for what in ("data", "object"):  # request.data, and await request.body()
        received = ray.get(mirror.remote(value, what=what))
        assert (type(received), received) == (type(value), value)


def test_c17_arrays(mirror: Any) -> None:
    given = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(ray.get(mirror.remote(given, what="data")), given)


def test_c19_the_origin(classic: Classic) -> None:
    assert classic.get("/origin").text == "web"
    assert ray.get(serve.get_handle("origin").remote(1)) == "python"


def test_c20_a_web_request_is_passed_on_as_it_is(classic: Classic) -> None:
    serve.create_backend("wrapper", backends.Wrapper)
    serve.create_endpoint("wrapper", backend="wrapper", route="/wrapper/{n:int}", methods=["POST"])
    serve.create_endpoint("direct", backend="inner", route="/direct/{n:int}", methods=["POST"])
    for path in ("/direct/5", "/wrapper/5"):
        seen = classic.send("POST", f"{path}?q=1", content=b"body", headers={"x-a": "b"}).json()
        assert seen == {
            "type": "<class 'starlette.requests.Request'>",
            "method": "POST",
            "path": {"n": 5},
            "query": {"q": "1"},
            "header": "b",
            "body": "body",
        }


async def test_c21_sync_and_async_handles() -> None:
    """As the page has it; the rows on advanced topics have the details."""
    handle = serve.get_handle("endpoint1")
    reference = handle.remote()
    assert isinstance(reference, ray.ObjectRef)
    handle_in_a_loop = serve.get_handle("endpoint1", sync=False)
    awaited = await handle_in_a_loop.remote()
    assert isinstance(awaited, ray.ObjectRef)
    assert [await reference, await awaited] == ["hello", "hello"]


def test_c22_c24_c25_methods_besides_call_as_printed(classic: Classic) -> None:
    first = classic.get("/stateful")
    assert (first.json(), first.headers["content-type"]) == ({"current": 1}, "application/json")
    handle = serve.get_handle("endpoint_name")
    assert ray.get(handle.options(method_name="other_method").remote(5)) is True
    assert classic.get("/stateful").json() == {"current": 6}


def test_c23_the_method_header(classic: Classic) -> None:
    serve.create_backend("methods", backends.Methods)
    serve.create_endpoint("methods", backend="methods", route="/methods")
    assert classic.get("/methods", headers={"X-Serve-Call-Method": "method"}).text == "hello"
    unknown = classic.get("/methods", headers={"X-SERVE-CALL-METHOD": "nonesuch"})
    assert unknown.status_code == 500
    assert "nonesuch" in unknown.text


def test_c26_other_methods_go_where_calls_go(classic: Classic) -> None:
    for name in ("m1", "m2", "m3"):
        serve.create_backend(name, backends.Named, name)
    serve.create_endpoint("methodical", backend="m1", route="/methodical")
    other = serve.get_handle("methodical").options(method_name="other")

    def over_http(**headers: str) -> str:
        return classic.get("/methodical", headers={"X-SERVE-CALL-METHOD": "other", **headers}).text

    assert (ray.get(other.remote()), over_http()) == ("other of m1", "other of m1")
    serve.set_traffic("methodical", {"m2": 1.0})
    assert (ray.get(other.remote()), over_http()) == ("other of m2", "other of m2")
    serve.set_traffic("methodical", {"m1": 0.5, "m2": 0.5})
    for key, answer in (("user-1", "other of m1"), ("user-2", "other of m2")):  # 0.11 and 0.97 of the way
        assert {ray.get(other.options(shard_key=key).remote()) for _ in range(5)} == {answer}
        assert {over_http(**{"X-SERVE-SHARD-KEY": key}) for _ in range(5)} == {answer}
    serve.shadow_traffic("methodical", "m3", 1.0)
    ray.get(other.remote())
    serve.create_endpoint("shadowed", backend="m3")
    shadowed = serve.get_handle("shadowed").options(method_name="called")
    wait_until(lambda: ray.get(shadowed.remote()) == ["other"])


def test_c26_errors_are_the_callers_own(classic: Classic) -> None:
    serve.create_backend("failing", backends.failing)
    serve.create_endpoint("failing", backend="failing", route="/failing")
    answer = classic.get("/failing")
    assert answer.status_code == 500
    assert answer.text.startswith("Task Error. Traceback: KeyError")
    with pytest.raises(KeyError):
        ray.get(serve.get_handle("failing").remote())


# -- what is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: serve.create_backend("hello", backends.hello), ValueError, "registered already"),
        (lambda: serve.create_backend(None, backends.hello), TypeError, "must be a string"),  # type: ignore[arg-type]
        (lambda: serve.create_backend("", backends.hello), ValueError, "must not be empty"),
        (lambda: serve.create_endpoint(None, backend="hello"), TypeError, "must be a string"),  # type: ignore[arg-type]
        (lambda: serve.create_endpoint("", backend="hello"), ValueError, "must not be empty"),
        (lambda: serve.create_backend("x", object()), TypeError, "function, a class or an import path"),
        (lambda: serve.create_backend("x", backends.hello, 1), ValueError, "init_args"),
        (lambda: serve.create_backend("x", backends.hello, config=[1]), TypeError, "BackendConfig"),
        (lambda: serve.create_backend("x", backends.hello, config={"num_replica": 1}), ValueError, "num_replica"),
        (lambda: serve.create_backend("x", backends.hello, config={"num_replicas": 0}), ValueError, "num_replicas"),
        (lambda: serve.create_backend("x", backends.hello, ray_actor_options=[]), TypeError, "dictionary"),
        (lambda: serve.create_backend("x", backends.hello, ray_actor_options={"name": "a"}), ValueError, "name"),
        (lambda: serve.create_backend("x", backends.hello, ray_actor_options={"num_cpus": "1"}), TypeError, "num_cpus"),
        (lambda: serve.create_backend("x", backends.hello, ray_actor_options={"num_cpus": -1}), ValueError, "num_cpus"),
        (
            lambda: serve.create_backend("x", backends.hello, ray_actor_options={"runtime_env": {"pip": ["y"]}}),
            ValueError,
            "'pip' in runtime_env has no effect",
        ),
        (lambda: serve.start(http_options={"prt": 1}), ValueError, "no 'prt'"),
        (lambda: serve.create_endpoint("x"), TypeError, "backend must be specified"),
        (lambda: serve.create_endpoint("x", backend=5), TypeError, "must be a string"),  # type: ignore[arg-type]
        (lambda: serve.create_endpoint("x", backend="hello", route="x"), TypeError, "starting with"),
        (lambda: serve.create_endpoint("x", backend="hello", methods="GET"), TypeError, "list"),  # type: ignore[arg-type]
        (lambda: serve.create_endpoint("x", backend="nonesuch"), ValueError, "not registered"),
        (lambda: serve.create_endpoint("endpoint1", backend="hello"), ValueError, "set_traffic"),
        (lambda: serve.set_traffic("endpoint1", {}), ValueError, "sum to 1"),
        (lambda: serve.set_traffic("endpoint1", {"hello": 0.5}), ValueError, "sum to 1"),
        (lambda: serve.set_traffic("endpoint1", {"hello": 2, "mirror": -1}), ValueError, "non-negative"),
        (lambda: serve.set_traffic("endpoint1", {"nonesuch": 1}), ValueError, "not registered"),
        (lambda: serve.set_traffic("nonesuch", {"hello": 1}), ValueError, "not registered"),
        (lambda: serve.shadow_traffic("endpoint1", "hello", 2), TypeError, "from 0 to 1"),
        (lambda: serve.shadow_traffic("endpoint1", "nonesuch", 1), ValueError, "not registered"),
        (lambda: serve.update_backend_config("hello", 5), TypeError, "dictionary"),  # type: ignore[arg-type]
        (lambda: serve.update_backend_config("nonesuch", {}), ValueError, "not registered"),
        (lambda: serve.get_backend_config("nonesuch"), ValueError, "not registered"),
        (lambda: serve.delete_backend("hello"), ValueError, "used by endpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    before = list(serve.list_backends()), serve.list_endpoints()
    with pytest.raises(error, match=message):
        call()
    assert (list(serve.list_backends()), serve.list_endpoints()) == before


def test_deleting_and_making_anew(classic: Classic) -> None:
    serve.create_backend("gone", backends.hello)
    serve.create_endpoint("gone", backend="gone", route="/gone")
    serve.delete_endpoint("gone")
    serve.delete_endpoint("gone")  # an unknown one is no error
    assert classic.get("/gone").status_code == 404
    serve.delete_backend("gone")
    serve.create_backend("gone", backends.Named, "again")
    serve.create_endpoint("gone", backend="gone", route="/gone")
    assert classic.get("/gone").text == "again"


def test_several_threads_change_endpoints(classic: Classic) -> None:
    names = [f"thread-{number}" for number in range(4)]
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(lambda name: serve.create_endpoint(name, backend="hello", route=f"/{name}"), names))
        assert [classic.get(f"/{name}").text for name in names] == ["hello"] * len(names)
        list(threads.map(serve.delete_endpoint, names))
    assert not set(names) & set(serve.list_endpoints())


def test_a_deletion_by_force_waits_for_no_call(classic: Classic) -> None:
    config = {"experimental_graceful_shutdown_timeout_s": 1000}  # longer than anybody would wait
    serve.create_backend("stuck", backends.Stuck, config=config)
    serve.create_endpoint("stuck", backend="stuck")
    handle = serve.get_handle("stuck")
    response = handle.remote()
    assert ray.get(handle.options(method_name="waits").remote())
    serve.delete_endpoint("stuck")
    serve.delete_backend("stuck", force=True)
    with pytest.raises(RayServeException):
        ray.get(response)


def test_a_user_configuration_reaches_each_replica() -> None:
    serve.create_backend("configured", backends.Configured, config={"num_replicas": 2, "user_config": {"a": 1}})
    serve.create_endpoint("configured", backend="configured")
    handle = serve.get_handle("configured")

    def said() -> dict[int, Any]:
        """By process."""
        return dict(ray.get([handle.remote() for _ in range(40)]))

    first = said()
    assert list(first.values()) == [[{"a": 1}]] * 2
    serve.update_backend_config("configured", {"user_config": {"a": 2}})
    assert said() == {process: [{"a": 1}, {"a": 2}] for process in first}  # the same processes
    serve.update_backend_config("configured", serve.BackendConfig(user_config={}))  # nothing to tell
    assert said() == {process: [{"a": 1}, {"a": 2}] for process in first}
    for backend, message in ((backends.hello, "a function has no"), (backends.Counter, "has no reconfigure method")):
        with pytest.raises(RuntimeError, match=message):
            serve.create_backend("x", backend, config={"user_config": {"a": 1}})
        assert "x" not in serve.list_backends()


def test_a_configuration_changes_without_a_restart() -> None:
    serve.create_backend("kept", backends.pid)
    serve.create_endpoint("kept", backend="kept")
    handle = serve.get_handle("kept")
    before = ray.get(handle.remote())
    serve.update_backend_config("kept", {"max_concurrent_queries": 3})
    assert ray.get(handle.remote()) == before
    assert serve.get_backend_config("kept").max_concurrent_queries == 3


def test_more_queries_run_at_once_when_the_configuration_says_so() -> None:
    serve.create_backend("meeting", backends.Meeting, 2, config={"max_concurrent_queries": 1})
    serve.create_endpoint("meeting", backend="meeting")
    handle = serve.get_handle("meeting")
    before = handle.remote()  # waits there for the other one
    serve.update_backend_config("meeting", {"max_concurrent_queries": 2})
    assert set(ray.get([before, handle.remote()])) == {0, 1}


def test_a_configuration_that_cannot_be_taken_changes_nothing() -> None:
    serve.create_backend("plain", backends.hello)
    serve.create_endpoint("plain", backend="plain")
    with pytest.raises(RuntimeError, match="a function has no reconfigure method"):
        serve.update_backend_config("plain", {"user_config": {"a": 1}, "max_concurrent_queries": 3})
    assert serve.get_backend_config("plain").given() == {}
    assert serve.status().applications["backend:plain"].status == "RUNNING"
    assert ray.get(serve.get_handle("plain").remote()) == "hello"


def test_who_waits_for_an_endpoint_in_vain_ends_all_the_same(classic: Classic) -> None:
    handle = serve.get_handle("never", missing_ok=True, sync=False)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(handle.remote(), 0.1))


async def test_who_waits_for_an_endpoint_in_a_loop_gets_it(classic: Classic) -> None:
    handle = serve.get_handle("soon", missing_ok=True, sync=False)
    calling = asyncio.create_task(handle.remote())
    await asyncio.to_thread(serve.create_endpoint, "soon", backend="hello")
    assert await (await calling) == "hello"


def test_a_backend_knows_what_it_is_called() -> None:
    serve.create_backend("tagged", backends.own_tag)
    serve.create_endpoint("tag_of", backend="tagged")
    own, tag, listed = ray.get(serve.get_handle("tag_of").remote())
    assert (own, listed) == ("tagged", True)
    assert re.fullmatch(r"tagged#[a-z]+", tag)


def test_a_handle_to_an_endpoint_that_comes_later(classic: Classic) -> None:
    handle = serve.get_handle("later", missing_ok=True)
    sent = pickle.loads(pickle.dumps(handle))
    assert repr(handle) == repr(sent) == "RayServeSyncHandle(endpoint='later')"
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(lambda one=one: ray.get(one.remote())) for one in (handle, sent)]
        serve.create_endpoint("later", backend="hello")
        assert [each.result() for each in waiting] == ["hello", "hello"]
    serve.delete_endpoint("later")
    for one in (handle, sent):  # they have found it once, and do not wait for another
        with pytest.raises(RayServeException, match="later"):
            ray.get(one.remote())
