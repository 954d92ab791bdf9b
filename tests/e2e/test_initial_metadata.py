"""Initial metadata of typed services' methods, from replicas to clients of every kind: when the method sends them."""

from __future__ import annotations

import asyncio
import importlib

import grpc
import grpc.aio
import httpx
import pytest

from fairlead import serve
from tests.e2e.stage import PATIENCE_S
from tests.edge.typed.schema import SERVICE


@pytest.fixture(scope="module")
def heads(ports, generated):
    app = importlib.import_module("tests.e2e.typed_app")
    serve.run(app.Heads.bind(), name="heads", route_prefix="/")
    return ports


@pytest.fixture
def pb2(generated):
    return generated[0]


@pytest.fixture
def stub(heads, generated, channel):
    return generated[1].LibraryServiceStub(channel)


@pytest.fixture
async def stubs(heads, generated):
    """The same for asyncio."""
    async with grpc.aio.insecure_channel(heads.grpc) as channel:
        yield generated[1].LibraryServiceStub(channel)


def metadata_of(call):
    return dict(call.initial_metadata())


async def metadata_soon(call):
    return dict(await asyncio.wait_for(call.initial_metadata(), PATIENCE_S))


EARLY = {"x-query": "early", "query-bin": b"\x00\xff"}.items()


def test_they_come_before_messages(stub, pb2, stage, key):
    watched = stub.WatchBooks(pb2.SearchBooksRequest(query=f"{stage.directory}#{key}"), timeout=PATIENCE_S)
    assert metadata_of(watched).items() >= EARLY  # the method waits
    stage.open(key)
    assert [book.title for book in watched] == ["watched"]


async def test_they_come_before_messages_to_asyncio(stubs, pb2, stage, key):
    watched = stubs.WatchBooks(pb2.SearchBooksRequest(query=f"{stage.directory}#{key}"), timeout=PATIENCE_S)
    assert (await metadata_soon(watched)).items() >= EARLY
    stage.open(key)
    assert [book.title async for book in watched] == ["watched"]


async def test_a_client_that_waits_for_them_before_it_sends(stubs, stub, pb2):
    chat = stubs.Chat(timeout=PATIENCE_S)
    assert (await metadata_soon(chat))["x-rank"] == "first"
    for title in "ab":
        await chat.write(pb2.Book(title=title))
        assert (await chat.read()).title == title.upper()
    await chat.done_writing()
    assert await chat.read() is grpc.aio.EOF
    add = stubs.AddBooks(timeout=PATIENCE_S)
    assert (await metadata_soon(add))["x-thread"] == "1"
    await add.write(pb2.CreateBookRequest(book=pb2.Book(title="a")))
    await add.done_writing()
    assert list((await add).titles) == ["a"]


def test_an_error_after_them(stub, pb2, heads):
    watched = stub.WatchBooks(pb2.SearchBooksRequest(exact=True))
    with pytest.raises(grpc.RpcError) as caught:
        next(watched)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such query")
    assert metadata_of(watched).items() >= EARLY
    answer = httpx.get(f"{heads.http}/v1/books:watch?exact=true", trust_env=False)
    assert (answer.status_code, answer.json()["message"]) == (404, "no such query")
    assert (answer.headers["x-query"], answer.headers["query-bin"]) == ("early", "AP8=")


async def test_cancelling_after_them(stubs, pb2, stage, key):
    watched = stubs.WatchBooks(pb2.SearchBooksRequest(query=f"{stage.directory}#{key}"))
    await metadata_soon(watched)
    watched.cancel()
    await stage.hear(f"left {key}")


@pytest.mark.parametrize("kind", ["application/connect+proto", "application/grpc-web+proto"])
def test_web_clients_have_them_before_messages(heads, pb2, stage, key, kind):
    message = pb2.SearchBooksRequest(query=f"{stage.directory}#{key}").SerializeToString()
    request = b"\0" + len(message).to_bytes(4, "big") + message
    fields = {"content-type": kind}
    with (
        httpx.Client(base_url=heads.http, trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", f"/{SERVICE}/WatchBooks", content=request, headers=fields) as answer,
    ):
        assert (answer.status_code, answer.headers["x-query"], answer.headers["query-bin"]) == (200, "early", "AP8=")
        stage.open(key)
        assert b"watched" in answer.read()


def test_transcoded_streams_have_them_with_the_first_message(heads, stage, key):
    stage.open(key)
    query = {"query": f"{stage.directory}#{key}"}
    answer = httpx.get(f"{heads.http}/v1/books:watch", params=query, trust_env=False)
    assert (answer.json(), answer.headers["x-query"]) == ({"title": "watched"}, "early")


def test_a_call_that_is_sent_again_has_those_of_its_last_replica(stub, pb2, stage, key):
    book, call = stub.GetBook.with_call(pb2.GetBookRequest(name=f"{stage.directory}#before {key}"), timeout=PATIENCE_S)
    sent = [value for name, value in call.initial_metadata() if name == "x-pid"]
    assert sent == [book.title]


def test_a_call_is_not_sent_again_after_them(channel, heads, pb2, stage, key):
    # A unary call's initial metadata come when they are sent, too: a client in Python sees that of streams only.
    read = channel.unary_stream(f"/{SERVICE}/GetBook", pb2.GetBookRequest.SerializeToString, pb2.Book.FromString)
    answer = read(pb2.GetBookRequest(name=f"{stage.directory}#after {key}"), timeout=PATIENCE_S)
    assert metadata_of(answer)["x-pid"].isdigit()
    stage.open(f"after {key}")
    with pytest.raises(grpc.RpcError) as caught:
        next(answer)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "part of the answer had been sent" in caught.value.details()
