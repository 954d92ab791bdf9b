"""Typed services from generated stubs, handles and HTTP to replicas and back."""

from __future__ import annotations

import importlib
import json
import os
import subprocess

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.grpc_util import RpcAborted
from tests.clients import build
from tests.e2e.conftest import Ports
from tests.edge.typed.schema import ROOT, SERVICE

SERVICER_FUNCTION = "library_pb2_grpc.add_LibraryServiceServicer_to_server"


@pytest.fixture(scope="module")
def ports(state_directory, generated):
    serve.start(http_options={"port": 0}, grpc_options={"port": 0, "grpc_servicer_functions": [SERVICER_FUNCTION]})
    (gateway,) = api.instance_status().gateways
    yield Ports(f"http://{gateway.http_address}", gateway.grpc_address, gateway.trusted_address)
    serve.shutdown()


@pytest.fixture(scope="module")
def app(ports):
    return importlib.import_module("tests.e2e.typed_app")


@pytest.fixture(scope="module")
def books(app):
    """The application that most tests call."""
    return serve.run(app.Library.bind(app.Plain.bind()), name="books", route_prefix="/")


@pytest.fixture
def stub(books, generated, channel):
    return generated[1].LibraryServiceStub(channel)


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_unary(stub, generated):
    pb2, _ = generated
    answer, call = stub.GetBook.with_call(
        pb2.GetBookRequest(name="shelves/1/books/3"), metadata=(("x-request-id", "mine"),)
    )
    assert (answer.title, answer.copies) == ("Volume 3", 3)
    trailing = dict(call.trailing_metadata())
    assert trailing["request_id"] == trailing["x-request-id"] == "mine"
    assert trailing["x-pid"].isdigit()
    assert trailing["echo-bin"] == b"\x00\xff"


def test_errors_have_codes_and_details(stub, generated):
    pb2, _ = generated
    error = failure(lambda: stub.GetBook(pb2.GetBookRequest(name="nowhere")))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no book nowhere")
    trailing = dict(error.trailing_metadata())
    assert trailing["x-pid"].isdigit()
    info = error_details_pb2.ResourceInfo()
    assert status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details[0].Unpack(info)
    assert info.resource_name == "nowhere"
    error = failure(lambda: stub.CreateBook(pb2.CreateBookRequest(book=pb2.Book(title="crash"))))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "Traceback" not in error.details()
    assert "typed_app.py" not in str(error.trailing_metadata())


def test_streams(stub, generated):
    pb2, _ = generated
    watched = list(stub.WatchBooks(pb2.SearchBooksRequest(query="b", count=3)))
    assert [book.title for book in watched] == ["b0", "b1", "b2"]
    stream = stub.WatchBooks(pb2.SearchBooksRequest(query="b", count=1, exact=True))
    assert next(stream).title == "b0"
    error = failure(lambda: next(stream))
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    requests = [pb2.CreateBookRequest(parent="p", book=pb2.Book(title=title)) for title in "ab"]
    assert list(stub.AddBooks(iter([*requests, pb2.CreateBookRequest()])).titles) == ["p:a", "p:b", ":"]
    said = [book.title for book in stub.Chat(iter([pb2.Book(title="x"), pb2.Book(), pb2.Book(title="y")]))]
    assert said == ["X", "", "Y"]


def test_metadata_in(stub, generated):
    pb2, _ = generated
    metadata = (("x-from", "me"), ("multiplexed_model_id", "m1"), ("session_id", "s1"))
    answer = stub.MoveBook(pb2.MoveBookRequest(other_shelf="o"), metadata=metadata)
    assert answer.title == "me|m1|s1|o"


def shelf(stage):
    """A shelf whose name tells a slow method where to say what becomes of it, in one segment of a path."""
    return "shelves/" + str(stage.directory).replace("/", "|")


def hear_all(stage, key, *events):
    for event in events:
        stage.wait_for(f"{event} {key}")


def test_cancelling_reaches_the_method_and_its_calls(stub, client, generated, stage, key):
    pb2, _ = generated
    slow = pb2.CreateBookRequest(parent=shelf(stage), book_id=key, book=pb2.Book(title="slow"))
    call = stub.CreateBook.future(slow)
    hear_all(stage, key, "entered", "child entered")
    call.cancel()
    hear_all(stage, key, "left", "child left")

    def late(key, time_s):
        slow.book_id = key
        assert failure(lambda: stub.CreateBook(slow, timeout=time_s)).code() is grpc.StatusCode.DEADLINE_EXCEEDED

    hear_all(stage, stage.meet_deadline("child entered {}", f"{key} late", late), "left", "child left")


def test_a_http_client_that_leaves_cancels_the_method_and_its_calls(client, stage, key):
    def leave(key, time_s):
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/v1/{shelf(stage)}/books?bookId={key}", json={"title": "slow"}, timeout=time_s)

    hear_all(stage, stage.meet_deadline("child entered {}", key, leave), "left", "child left")


def test_what_is_not_implemented(stub, generated):
    pb2, _ = generated
    assert failure(lambda: stub.WriteBook(iter([]))).code() is grpc.StatusCode.UNIMPLEMENTED
    assert stub.GetBook(pb2.GetBookRequest(name="shelves/1/books/1")).copies == 1


def test_bytes_that_are_no_message(stub, channel, books, generated):
    pb2, _ = generated
    error = failure(lambda: channel.unary_unary(f"/{SERVICE}/GetBook")(b"\xff\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    pid = dict(stub.GetBook.with_call(pb2.GetBookRequest(name="shelves/1/books/1"))[1].trailing_metadata())["x-pid"]
    failure(lambda: channel.unary_unary(f"/{SERVICE}/GetBook")(b"\xff"))
    again = dict(stub.GetBook.with_call(pb2.GetBookRequest(name="shelves/1/books/1"))[1].trailing_metadata())["x-pid"]
    assert pid == again


def test_handles_call_the_same_methods(books, generated):
    pb2, _ = generated
    assert books.GetBook.remote(pb2.GetBookRequest(name="shelves/1/books/2")).result().copies == 2
    with pytest.raises(RpcAborted) as caught:
        books.GetBook.remote(pb2.GetBookRequest(name="nowhere")).result()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watched = books.options(stream=True).WatchBooks.remote(pb2.SearchBooksRequest(query="h", count=2))
    assert [book.title for book in watched] == ["h0", "h1"]


@pytest.fixture
def client(books, ports):
    with httpx.Client(base_url=ports.http, trust_env=False, timeout=30) as client:
        yield client


def test_over_http(client):
    answer = client.get("/v1/shelves/1/books/3", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.json()) == (
        200,
        {"name": "shelves/1/books/3", "title": "Volume 3", "copies": "3"},
    )
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-pid"].isdigit()
    assert answer.headers["echo-bin"] == "AP8="
    created = client.post("/v1/shelves/1/books?bookId=b&key=ignored", json={"title": "T"})
    assert created.json() == {"name": "shelves/1/books/b", "title": "T"}
    assert client.patch("/v1/shelves/1/books/2", json={"title": "x", "genre": 1}).json()["title"] == "title,genre"
    moved = client.post(
        "/v1/shelves/1/books/2:move", json={"otherShelf": "o"}, headers={"x-from": "me", "x-session-id": "s"}
    )
    assert moved.json()["title"] == "me||s|o"
    found = client.get("/v1/books:search?query=q&labels[a]=1&ids=1&ids=2")
    assert found.json() == {"titles": ["q", "a"], "total": "2"}
    assert client.get("/v1/books:titles?query=q").json() == ["q"]


def test_errors_over_http(client, stage, key):
    answer = client.get("/v1/shelves/1/books/99")
    assert answer.status_code == 404
    detail = {"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceName": "shelves/1/books/99"}
    assert answer.json() == {"code": 5, "message": "no book shelves/1/books/99", "details": [detail]}
    crashed = client.post("/v1/shelves/1/books", json={"title": "crash"})
    assert (crashed.status_code, crashed.json()["code"], "secret" in crashed.text) == (500, 13, False)
    late = client.post(
        f"/v1/{shelf(stage)}/books?bookId={key}", json={"title": "slow"}, headers={"x-request-timeout-seconds": "0.2"}
    )
    assert (late.status_code, late.json()["code"]) == (408, 4)
    assert client.post("/v1/books:write", content=b"x").status_code == 501
    assert client.get("/v1/shelves/1/books/1").status_code == 200


def test_streams_over_http(client):
    lines = client.get("/v1/books:watch?query=b&count=2&exact=true").text.splitlines()
    assert [json.loads(line) for line in lines[:2]] == [{"title": "b0"}, {"title": "b1"}]
    assert json.loads(lines[2]) == {"error": {"code": 8, "message": "enough", "details": []}}
    array = client.get("/v1/books:watch?query=b&count=2", headers={"accept": "application/json"})
    assert array.json() == [{"title": "b0"}, {"title": "b1"}]
    failed = client.get("/v1/books:watch?exact=true")
    assert (failed.status_code, failed.json()["message"]) == (429, "enough")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/v1/books:watch?count=1&exact=true", headers={"accept": "application/json"})
    added = client.post("/v1/shelves/1/books:add", content=b'{"title":"a"}\n{"title":"b"}\n')
    assert added.json() == {"titles": ["shelves/1:a", ":b"]}
    chat = client.post(f"/{SERVICE}/Chat", content=b'{"title":"a"}\n{}\n', headers={"accept": "text/event-stream"})
    assert chat.text == 'data: {"title":"A"}\n\ndata: {}\n\n'


def test_http_bodies(client):
    cover = client.get("/v1/shelves/1/books/2/cover")
    assert (cover.headers["content-type"], cover.content) == ("image/x-test", b"shelves/1/books/2")
    put = client.put("/v1/shelves/1/books/2/cover?width=9", content=b"abc", headers={"content-type": "image/png"})
    assert put.json() == {"title": "image/png 3 9"}
    read = client.get("/v1/shelves/1/books/2:read")
    assert (read.headers["content-type"], read.text) == ("text/plain", "once upon\na time")


def test_serving_service_by_its_annotations(client):
    path = "/v1/applications/books/deployments/Plain/methods/greet"
    answer = client.post(f"{path}:call", json=[["world"], {}])
    assert (answer.status_code, answer.json()) == (200, "hello world")
    counted = client.post(path.replace("greet", "count") + ":stream", json=[[3], {}])
    assert counted.text == "0\n1\n2\n"
    told = client.post(f"{path}:broadcast", json=[["you"], {}])
    assert len([json.loads(line) for line in told.text.splitlines()]) == 2
    missing = client.post(path.replace("greet", "nothing") + ":call", json=[[], {}])
    assert (missing.status_code, missing.json()["code"]) == (404, 5)


@pytest.mark.polyglot
@pytest.mark.timeout(300)
def test_a_client_in_another_language(books, ports):
    try:
        node = build.node_client()[0]
    except build.ToolchainMissingError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    folders = [str(ROOT / "tests" / "edge" / "typed"), str(ROOT / "third_party" / "googleapis")]
    command = [node, str(build.NODE / "typed.js"), *folders, ports.grpc]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "book": ["Volume 3", 3],
        "request_id": ["mine"],
        "binary": ["00ff"],
        "missing": ["NOT_FOUND", "no book nowhere"],
        "resource": "nowhere",
        "watched": {"titles": ["b0", "b1"], "code": "RESOURCE_EXHAUSTED", "message": "enough"},
        "added": ["p:a", "p:"],
        "chat": {"titles": ["X", "", "Y"]},
    }


def test_it_is_described(client):
    document = client.get("/-/openapi.json").json()
    operation = document["paths"]["/v1/shelves/*/books/*".replace("shelves/*/books/*", "{name}")]["get"]
    assert operation["parameters"][0]["name"] == "name"
    assert "library.v1.Book" in document["components"]["schemas"]


def test_several_applications_and_the_instances_own_services(stub, app, channel, generated):
    pb2, _ = generated
    serve.run(app.Untold.bind(), name="untold", route_prefix=None)
    serve.run(app.Servicer.bind(), name="servicer", route_prefix=None)
    request = pb2.GetBookRequest(name="shelves/1/books/1")
    try:
        error = failure(lambda: stub.GetBook(request))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "'books', 'servicer', 'untold'" in error.details()
        for application, title in (("untold", "untold"), ("servicer", "servicer"), ("books", "Volume 1")):
            assert stub.GetBook(request, metadata=(("application", application),)).title == title
        metadata = (("application", "servicer"),)
        call = stub.GetBook.with_call(request, metadata=metadata)[1]
        assert dict(call.initial_metadata())["x-initial"] == "1"
        error = failure(lambda: stub.GetBook(pb2.GetBookRequest(), metadata=metadata))
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "which?")
        assert [book.title for book in stub.WatchBooks(pb2.SearchBooksRequest(), metadata=metadata)] == ["written"]
        error = failure(lambda: stub.MoveBook(pb2.MoveBookRequest(), metadata=metadata))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        missing = failure(lambda: stub.MoveBook(pb2.MoveBookRequest(), metadata=(("application", "untold"),)))
        assert missing.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        serve.delete("untold")
        serve.delete("servicer")
    assert stub.GetBook(request).title == "Volume 1"
