"""Typed services over HTTP: what becomes of answers, whole bodies and streams."""

import asyncio
import json

import httpx
import pytest
from google.rpc import error_details_pb2

from fairlead.wire.errors import BackPressureError, DeadlineExceededError
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.typed.schema import SERVICE, application, message
from tests.edge.typed.transcoding import BOOKS, outcome, request_of, returns, served


class TestAnswer:
    async def test_json_by_option(self):
        behave = returns(message("Book", title="é", copies=2**60, genre=1, author={"pen_names": ["a"]}))
        options = {
            "always_print_primitive_fields": True,
            "preserve_proto_field_names": True,
            "always_print_enums_as_ints": True,
        }
        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/books/x")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "title": "é",
            "copies": str(2**60),
            "genre": "GENRE_NOVEL",
            "author": {"penNames": ["a"]},
        }
        async with served(application(**options), behave=behave) as (client, _):
            value = (await client.get("/v1/books/x")).json()
        assert (value["genre"], value["name"], value["tags"]) == (1, "", [])
        assert value["author"] == {"name": "", "born": 0, "pen_names": ["a"]}

    async def test_metadata_become_fields(self):
        async def behave(call):
            call.head(x_initial=b"i")
            call.message(message("Book").SerializeToString())
            end = outcome(0, "", x_own=b"v", content_type=b"evil", data_bin=b"\x00")
            call.downstream.on_end(end, None)

        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/books/x")
        assert answer.headers["x-own"] == "v"
        assert answer.headers["x-initial"] == "i"
        assert answer.headers["data-bin"] == "AA=="
        assert answer.headers["content-type"] == "application/json"

    async def test_initial_metadata_come_with_the_first_message_of_a_stream(self):
        async def behave(call):
            call.head(x_initial=b"i", data_bin=b"\x00", content_type=b"evil")
            await call.stream(message("Book").SerializeToString())
            await read.wait()
            call.end()

        read = asyncio.Event()
        async with served(behave=behave) as (client, _), client.stream("GET", "/v1/books:watch") as answer:
            assert (answer.headers["x-initial"], answer.headers["data-bin"]) == ("i", "AA==")
            assert answer.headers["content-type"] == "application/x-ndjson"
            read.set()
            assert await answer.aread() == b"{}\n"

    @pytest.mark.parametrize("path", ["/v1/books/x", "/v1/books:watch"], ids=["unary", "stream"])
    async def test_an_error_after_initial_metadata_has_its_status_and_them(self, path):
        def behave(call):
            call.head(x_initial=b"i")
            call.downstream.on_end(outcome(5, "gone", x_own=b"v"), None)

        async with served(behave=behave) as (client, _):
            answer = await client.get(path)
        assert (answer.status_code, answer.json()["message"]) == (404, "gone")
        assert (answer.headers["x-initial"], answer.headers["x-own"]) == ("i", "v")

    async def test_a_stream_without_messages_has_its_initial_metadata(self):
        def behave(call):
            call.head(x_initial=b"i")
            call.downstream.on_end(outcome(0, "", x_own=b"v"), None)

        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/books:watch")
        assert (answer.status_code, answer.content) == (200, b"")
        assert (answer.headers["x-initial"], answer.headers["x-own"]) == ("i", "v")

    @pytest.mark.parametrize(
        ("code", "status"),
        list(enumerate([499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401], 1)),
    )
    async def test_statuses(self, code, status):
        info = error_details_pb2.ResourceInfo(resource_name="b")
        end = outcome(code, "why", info, x_own=b"v")
        async with served(behave=returns(message("Book"), late=end)) as (client, _):
            answer = await client.get("/v1/books/x")
        assert answer.status_code == status
        assert answer.headers["x-own"] == "v"
        expected = {"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceName": "b"}
        assert answer.json() == {"code": code, "message": "why", "details": [expected]}

    async def test_details_of_the_services_own_types(self):
        behave = returns(late=outcome(5, "why", message("Author", name="n"), message("Author", pen_names=["p"])))
        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/books:watch")
        assert answer.json()["details"] == [
            {"@type": "type.googleapis.com/library.v1.Author", "name": "n"},
            {"@type": "type.googleapis.com/library.v1.Author", "penNames": ["p"]},
        ]

    async def test_errors_of_the_gateway_and_of_code(self):
        async with served(behave=lambda call: call.end(ValueError("secret"))) as (client, router):
            answer = await client.get("/v1/books/x")
            assert (answer.status_code, "secret" in answer.text) == (500, False)
            router.behave = lambda call: call.end(DeadlineExceededError("late"))
            answer = await client.get("/v1/books/x")
            assert (answer.status_code, answer.json()["code"]) == (408, 4)
            router.behave = lambda call: call.end(BackPressureError(9, 9, 429, 1.5))
            answer = await client.get("/v1/books/x")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")

    async def test_a_result_that_has_no_json(self):
        async with served(behave=lambda call: call.end(None, b"\xff\xff")) as (client, _):
            answer = await client.get("/v1/books/x")
        assert (answer.status_code, answer.json()["code"]) == (500, 13)

    async def test_a_client_that_leaves_cancels_the_call(self):
        async with served(behave=lambda call: None) as (client, router):
            task = asyncio.create_task(client.get("/v1/books/x"))
            await asyncio.wait_for(router.called.wait(), 60)
            task.cancel()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_head_follows_get(self):
        async with served() as (client, _):
            answer = await client.head("/v1/books/x")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 2


class TestHttpBody:
    async def test_out(self):
        behave = returns(message("PutCoverRequest", cover={"content_type": "image/png", "data": b"\x89"}).cover)
        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/shelves/1/books/2/cover")
        assert (answer.headers["content-type"], answer.content) == ("image/png", b"\x89")

    async def test_in(self):
        async with served() as (client, router):
            answer = await client.put(
                "/v1/shelves/1/books/2/cover?width=3", content=b"\x00\xff", headers={"content-type": "image/png"}
            )
        assert answer.status_code == 200, answer.text
        request = request_of(router.calls[0])
        assert (request.cover.content_type, request.cover.data) == ("image/png", b"\x00\xff")
        assert (request.width, request.name) == (3, "shelves/1/books/2")

    async def test_a_stream_of_pieces(self):
        pieces = [
            message("PutCoverRequest", cover={"content_type": "text/x", "data": data}).cover
            for data in (b"a\n", b"", b"b")
        ]
        async with served(behave=returns(*pieces)) as (client, _):
            answer = await client.get("/v1/shelves/1/books/2:read")
        assert (answer.headers["content-type"], answer.content) == ("text/x", b"a\nb")

    async def test_an_upload_in_pieces(self):
        async def collect(call):
            await call.half_closed.wait()
            call.end(None, message("Book", copies=len(call.sent)).SerializeToString())

        async with served(behave=collect) as (client, router):
            answer = await client.post("/v1/books:write", content=b"x" * 3_000_000, headers={"content-type": "video/x"})
        assert answer.status_code == 200, answer.text
        parse = message("PutCoverRequest").cover.FromString
        pieces = [parse(each) for each in router.calls[0].sent]
        assert sum(len(piece.data) for piece in pieces) == 3_000_000
        assert max(len(piece.data) for piece in pieces) <= 1024 * 1024
        assert [piece.content_type for piece in pieces] == ["video/x"] + [""] * (len(pieces) - 1)


class TestStreams:
    @pytest.mark.parametrize(
        ("accept", "content_type", "body"),
        [
            (None, "application/x-ndjson", b'{"title":"a"}\n{}\n{"title":"c"}\n'),
            ("*/*", "application/x-ndjson", b'{"title":"a"}\n{}\n{"title":"c"}\n'),
            ("text/event-stream", "text/event-stream", b'data: {"title":"a"}\n\ndata: {}\n\ndata: {"title":"c"}\n\n'),
            ("application/json", "application/json", b'[{"title":"a"},{},{"title":"c"}]'),
            (
                "application/json;q=0.5, text/event-stream;q=0.4",
                "application/json",
                b'[{"title":"a"},{},{"title":"c"}]',
            ),
        ],
    )
    async def test_formats(self, accept, content_type, body):
        headers = {} if accept is None else {"accept": accept}
        async with served(behave=returns(*BOOKS)) as (client, router):
            answer = await client.get("/v1/books:watch?query=q", headers=headers)
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, content_type, body)
        assert router.calls[0].header.stream
        assert request_of(router.calls[0]).query == "q"

    @pytest.mark.parametrize(
        ("accept", "body"), [("application/x-ndjson", b""), ("text/event-stream", b""), ("application/json", b"[]")]
    )
    async def test_empty_ones(self, accept, body):
        async with served(behave=returns()) as (client, _):
            answer = await client.get("/v1/books:watch", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, accept, body)

    async def test_each_message_is_sent_at_once(self):
        gate = asyncio.Event()

        async def behave(call):
            await call.stream(BOOKS[0].SerializeToString())
            await gate.wait()
            await call.stream(BOOKS[2].SerializeToString())
            call.end()

        async with served(behave=behave) as (client, _), client.stream("GET", "/v1/books:watch") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == '{"title":"a"}'
            gate.set()
            assert await anext(lines) == '{"title":"c"}'

    async def test_an_early_error_has_a_real_status(self):
        async with served(behave=returns(late=outcome(5, "none"))) as (client, _):
            answer = await client.get("/v1/books:watch", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["message"]) == (404, "none")

    async def test_a_late_error_is_a_record(self):
        record = {"error": {"code": 8, "message": "full", "details": []}}
        async with served(behave=returns(BOOKS[0], late=outcome(8, "full"))) as (client, _):
            answer = await client.get("/v1/books:watch")
            first, last = answer.text.splitlines()
            assert (json.loads(first), json.loads(last)) == ({"title": "a"}, record)
            answer = await client.get("/v1/books:watch", headers={"accept": "text/event-stream"})
            *_, event, data = answer.text.strip().splitlines()
            assert event == "event: error"
            assert json.loads(data.removeprefix("data: ")) == record

    @pytest.mark.parametrize("path", ["/v1/books:watch", "/v1/shelves/1/books/2:read"])
    async def test_an_array_and_bytes_break_off(self, path):
        async with served(behave=returns(BOOKS[0], late=outcome(8, "full"))) as (client, _):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(path, headers={"accept": "application/json"})

    async def test_a_message_that_has_no_json_is_a_late_error(self):
        async def behave(call):
            await call.stream(BOOKS[0].SerializeToString())
            await call.stream(b"\xff\xff")
            call.end()

        async with served(behave=behave) as (client, _):
            answer = await client.get("/v1/books:watch")
        assert json.loads(answer.text.splitlines()[1])["error"]["code"] == 13

    async def test_a_client_that_leaves_cancels_the_call(self):
        async def behave(call):
            await call.stream(BOOKS[0].SerializeToString())

        async with served(behave=behave) as (client, router):
            async with client.stream("GET", "/v1/books:watch") as answer:
                await anext(answer.aiter_lines())
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_head_of_a_stream_without_end(self):
        async def behave(call):
            while not call.done:
                await call.stream(BOOKS[0].SerializeToString())

        async with served(behave=behave) as (client, router):
            answer = await client.head("/v1/books:watch")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    @pytest.mark.parametrize(
        ("content", "content_type"),
        [
            (b'{"title":"a"}\n\n{}\r\n{"title":"c"}', "application/x-ndjson"),
            (b'{"title":"a"}\n{}\n{"title":"c"}\n', None),
            (b'[{"title":"a"},\n{},{"title":"c"}]', "application/json"),
        ],
    )
    async def test_uploads(self, content, content_type):
        async def collect(call):
            await call.half_closed.wait()
            call.end(None, message("SearchBooksResponse", total=len(call.sent)).SerializeToString())

        headers = {} if content_type is None else {"content-type": content_type}
        async with served(behave=collect) as (client, router):
            answer = await client.post("/v1/shelves/1/books:add?bookId=i", content=content, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"total": "3"})
        parse = message("CreateBookRequest").FromString
        sent = [parse(each) for each in router.calls[0].sent]
        assert [each.book.title for each in sent] == ["a", "", "c"]
        assert [(each.parent, each.book_id) for each in sent] == [("shelves/1", "i"), ("", ""), ("", "")]

    @pytest.mark.parametrize("line", [b'{"titel": 1}', b"{", b"[]", b"\xff"])
    async def test_an_upload_that_is_wrong_halfway(self, line):
        async with served(behave=lambda call: None) as (client, router):
            answer = await client.post("/v1/shelves/1/books:add", content=b"{}\n%b\n{}\n" % line)
            assert (answer.status_code, answer.json()["code"]) == (400, 3)
            assert "message 2 of the stream" in answer.json()["message"]
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_an_upload_above_the_limit(self):
        async with served(behave=lambda call: None, limits=HttpLimits(max_body_bytes=1000)) as (client, _):
            answer = await client.post("/v1/shelves/1/books:add", content=b"{}\n" * 1000)
        assert answer.status_code == 413

    async def test_both_ways(self):
        async def echo(call):
            await call.half_closed.wait()
            for each in call.sent:
                await call.stream(each)
            call.end()

        async with served(behave=echo) as (client, _):
            answer = await client.post(f"/{SERVICE}/Chat", content=b'{"title":"a"}\n{}\n')
        assert answer.content == b'{"title":"a"}\n{}\n'
