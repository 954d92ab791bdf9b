"""Typed services over HTTP: a real door against a fake router that answers with the library's messages."""

import asyncio
import base64
import contextlib
import json

import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import BackPressureError, DeadlineExceededError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.fake_router import FakeRouter
from tests.edge.fake_router import application as plain_application
from tests.edge.typed.schema import SERVICE, application, compiled, message

INPUTS = {
    "GetBook": "GetBookRequest",
    "CreateBook": "CreateBookRequest",
    "UpdateBook": "UpdateBookRequest",
    "MoveBook": "MoveBookRequest",
    "SearchBooks": "SearchBooksRequest",
    "WatchBooks": "SearchBooksRequest",
    "AddBooks": "CreateBookRequest",
    "Chat": "Book",
    "GetCover": "GetBookRequest",
    "PutCover": "PutCoverRequest",
    "ReadBook": "GetBookRequest",
}


def request_of(call):
    """The request message of a call."""
    return message(INPUTS[call.header.method.rpartition("/")[2]]).FromString(call.payload)


def returns(*messages, late=None):
    """A behaviour: these messages, then success or an outcome."""

    async def behave(call):
        if call.header.stream:
            for each in messages:
                await call.stream(each.SerializeToString())
            call.downstream.on_end(late, None)
        else:
            call.downstream.on_end(late, None if late else messages[0].SerializeToString())

    return behave


def outcome(code, text, *details, **trailing):
    found = session_pb2.Outcome(status=status_pb2.Status(code=code, message=text))
    for detail in details:
        found.status.details.add().Pack(detail)
    for key, value in trailing.items():
        found.trailing_metadata.add(key=key.replace("_", "-"), value=value)
    return found


@contextlib.asynccontextmanager
async def served(*applications, behave=None, limits=None, listener=None):
    router = FakeRouter(behave or returns(message("Book", title="Emma", copies=3)))
    router.deploy(*(applications or (application(),)))
    door = HttpDoor(router, listener or TcpListener(), limits=limits)
    address = await door.start()
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=60) as client:
        try:
            yield client, router
        finally:
            await client.aclose()
            await door.stop(1)


class TestBinding:
    @pytest.mark.parametrize(
        ("verb", "path", "body", "expected"),
        [
            ("GET", "/v1/shelves/1/books/2", None, {"name": "shelves/1/books/2"}),
            ("GET", "/v1/shelves/1/books/a%2Fb%20c", None, {"name": "shelves/1/books/a%2Fb c"}),
            ("GET", "/v1/books/a%2Fb", None, {"name": "a/b"}),
            ("GET", "/v1/books/x?readMask=title,author.penNames", None, {"name": "x", "read_mask": True}),
            ("POST", "/v1/shelves/1/books?book_id=b", {"title": "T"}, {"parent": "shelves/1", "book_id": "b"}),
            ("POST", "/v1/shelves/1/books/2:move", {"name": "mine", "position": 3}, {"name": "shelves/1/books/2"}),
            ("POST", "/v1/shelves/1/books/2:move", b"", {"name": "shelves/1/books/2", "position": 0}),
            ("GET", "/v1/books:search?query=a+b%2B&exact=true", None, {"query": "a b+", "exact": True}),
            ("GET", "/v1/books:search?genres=GENRE_NOVEL&genres=2", None, {"genres": [1, 2]}),
        ],
    )
    async def test_path_query_and_body(self, verb, path, body, expected):
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        async with served(behave=returns(message("SearchBooksResponse"))) as (client, router):
            answer = await client.request(verb, path, content=content)
        assert answer.status_code == 200, answer.text
        request = request_of(router.calls[0])
        for name, value in expected.items():
            if name == "read_mask":
                assert list(request.read_mask.paths) == ["title", "author.pen_names"]
            else:
                found = getattr(request, name)
                assert (list(found) if isinstance(value, list) else found) == value

    async def test_further_fields_that_are_metadata_by_option(self):
        limits = HttpLimits(metadata_headers=("tenant", "connection"))
        async with served(limits=limits) as (client, router):
            fields = {"Tenant": "t", "region": "r", "x-own": "v"}
            assert (await client.get("/v1/shelves/1/books/2", headers=fields)).status_code == 200
        found = {entry.key: entry.value for entry in router.calls[0].header.metadata}
        assert (found["tenant"], found["x-own"]) == (b"t", b"v")
        assert not found.keys() & {"region", "connection"}

    async def test_header_of_the_call(self):
        async with served(application(route_prefix="/lib")) as (client, router):
            answer = await client.get(
                "/lib/v1/shelves/1/books/2",
                headers={
                    "x-request-id": "mine",
                    "x-session-id": "s",
                    "serve_multiplexed_model_id": "m",
                    "x-request-timeout-seconds": "5",
                    "x-own": "v",
                    "data-bin": base64.b64encode(b"\x00").decode(),
                    "te": "trailers",
                },
            )
        assert answer.headers["x-request-id"] == "mine"
        header = router.calls[0].header
        assert (header.application, header.deployment) == ("books", "Library")
        assert header.method == f"/{SERVICE}/GetBook"
        assert (header.request_id, header.session_id, header.multiplexed_model_id) == ("mine", "s", "m")
        assert header.timeout_us == 5_000_000
        assert not header.stream
        assert header.peer.startswith("ipv4:127.0.0.1:")
        metadata = {entry.key: entry.value for entry in header.metadata}
        assert metadata["x-own"] == b"v"
        assert metadata["data-bin"] == b"\x00"
        assert "te" not in metadata

    @pytest.mark.parametrize(
        ("verb", "path", "body", "status", "text"),
        [
            ("GET", "/v1/books:search?queri=x", None, 400, "query parameter 'queri': is unknown"),
            ("GET", "/v1/books:search?query=a&query=b", None, 400, "is given twice"),
            ("GET", "/v1/books:search?min_copies=1&minCopies=2", None, 400, "is given twice"),
            ("GET", "/v1/books:search?count=1&pages=2", None, 400, "second member of the oneof"),
            ("GET", "/v1/books:search?exact=1", None, 400, "must be true or false"),
            ("GET", "/v1/books:search?genres=PROSE", None, 400, "library.v1.Genre"),
            ("GET", "/v1/books:search?author=x", None, 400, "is unknown"),
            ("GET", "/v1/books:search?authors.name=x", None, 400, "is unknown"),
            ("GET", "/v1/books:search?labels=x", None, 400, "is unknown"),
            ("GET", "/v1/books:search?query[a]=x", None, 400, "is unknown"),
            ("GET", "/v1/books:search?published_after.seconds=1", None, 400, "is unknown"),
            ("GET", "/v1/books:search?query=%zz", None, 400, "percent escape"),
            ("GET", "/v1/books:search?query=%ff", None, 400, "not UTF-8"),
            ("GET", "/v1/books:search?labels[a]=1&labels[a]=2", None, 400, "given twice"),
            ("GET", "/v1/books/x?name=y", None, 400, "bound by the path"),
            ("POST", "/v1/shelves/1/books?book.title=x", b"{}", 400, "bound by the path or the body"),
            ("POST", "/v1/shelves/1/books/2:move?position=1", b"{}", 400, "bound by the path or the body"),
            ("GET", "/v1/books/x", b"{}", 400, "takes none"),
            ("POST", "/v1/shelves/1/books", b"{", 400, "not valid JSON"),
            ("POST", "/v1/shelves/1/books", b"{} {}", 400, "not valid JSON"),
            ("POST", "/v1/shelves/1/books", b'{"title": "a", "title": "b"}', 400, "twice"),
            ("POST", "/v1/shelves/1/books", b'{"titel": "a"}', 400, "no such field"),
            ("POST", "/v1/shelves/1/books", b'"text"', 400, "must be an object"),
            ("POST", "/v1/shelves/1/books/2:move", b"[]", 400, "must be an object"),
            ("PATCH", "/v1/shelves/1/books/2", b"5", 400, "book: must be an object"),
            ("PUT", "/v1/books/x", b"", 405, "not allowed"),
            ("GET", "/v1/nothing", None, 404, "/-/routes"),
            ("GET", "/v1/books/%zz", None, 400, "percent escape"),
        ],
    )
    async def test_what_is_refused(self, verb, path, body, status, text):
        async with served() as (client, router):
            answer = await client.request(verb, path, content=body)
        assert (answer.status_code, text in answer.text) == (status, True), answer.text
        value = answer.json()
        assert value["code"] == {400: 3, 404: 5, 405: 12}[status]
        assert not router.calls
        if status == 405:
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"

    async def test_problems_are_told_by_field(self):
        async with served() as (client, _):
            answer = await client.post(
                "/v1/shelves/1/books", json={"author": {"born": "long ago"}}, headers={"x-request-id": "mine"}
            )
        assert answer.headers["x-request-id"] == "mine"
        [detail] = answer.json()["details"]
        assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
        [violation] = detail["fieldViolations"]
        assert violation == {"field": "book.author.born", "description": "must be an integer"}

    async def test_problems_of_the_query_are_told_by_parameter(self):
        async with served() as (client, _):
            answers = [await client.get(f"/v1/books:search?{query}") for query in ("queri=x", "exact=1", "anyValue=x")]
        found = [answer.json()["details"][0]["fieldViolations"] for answer in answers]
        assert [violation["field"] for [violation] in found] == ["queri", "exact", "anyValue"]

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
    )
    async def test_other_content_types_are_refused(self, content_type):
        async with served() as (client, router):
            answer = await client.post("/v1/shelves/1/books", content=b"{}", headers={"content-type": content_type})
            fine = await client.post(
                "/v1/shelves/1/books",
                content=b"{}",
                headers={"content-type": 'application/vnd.x+json; charset="UTF-8"'},
            )
        assert (answer.status_code, answer.json()["code"]) == (415, 3)
        assert fine.status_code == 200
        assert len(router.calls) == 1

    async def test_options_of_the_service(self):
        options = {"ignored_query_parameters": ["key"], "ignore_unknown_fields": True}
        async with served(application(**options)) as (client, router):
            assert (await client.get("/v1/books/x?key=secret")).status_code == 200
            assert (await client.get("/v1/books/x?kex=secret")).status_code == 400
            assert (await client.post("/v1/shelves/1/books", json={"new": 1})).status_code == 200
            moved = await client.post("/v1/shelves/1/books/2:move?key=1", json={})
        assert moved.status_code == 200
        assert len(router.calls) == 3

    @pytest.mark.parametrize(
        ("query", "body", "paths"),
        [
            ("", {"title": "x", "author": {"penNames": [], "name": "n"}}, ["title", "author.pen_names", "author.name"]),
            ("", {"title": None, "published": "2026-01-01T00:00:00Z"}, ["title", "published"]),
            ("?updateMask=genre", {"title": "x"}, ["genre"]),
            ("?update_mask=&allowMissing=true", {"title": "x"}, ["title"]),
            ("", {}, []),
        ],
    )
    async def test_patch_fills_an_empty_mask(self, query, body, paths):
        async with served() as (client, router):
            answer = await client.patch(f"/v1/shelves/1/books/2{query}", json=body)
        assert answer.status_code == 200, answer.text
        request = request_of(router.calls[0])
        assert list(request.update_mask.paths) == paths
        assert request.book.name == "shelves/1/books/2"

    async def test_every_binding_counts(self):
        answer = message("SearchBooksResponse", titles=["a", "b"], total=2)
        async with served(behave=returns(answer)) as (client, _):
            whole, titles = await client.get("/v1/books:search"), await client.get("/v1/books:titles")
        assert whole.json() == {"titles": ["a", "b"], "total": "2"}
        assert titles.json() == ["a", "b"]

    async def test_a_method_without_annotation(self):
        async with served(behave=returns(message("Book"))) as (client, router):
            assert (await client.post(f"/{SERVICE}/Count", content=b"")).status_code == 200
        assert router.calls[0].header.method == f"/{SERVICE}/Count"


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


BOOKS = [message("Book", title="a"), message("Book"), message("Book", title="c")]


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


class TestServingService:
    """Its own annotations, by the same transcoder, whatever is deployed."""

    PATH = "/v1/applications/app/deployments/Echo/methods/say"

    async def test_call(self):
        async with served(plain_application("app"), behave=lambda call: call.end(None, b'"hello"')) as (client, router):
            answer = await client.post(f"{self.PATH}:call?target.session_id=s", content=b'[["world"], {}]')
        assert (answer.status_code, answer.content) == (200, b'"hello"'), answer.text
        assert answer.headers["content-type"] == "application/json"
        [call] = router.calls
        header = call.header
        assert (header.application, header.deployment, header.method) == ("app", "Echo", "say")
        assert header.session_id == "s"
        assert call.payload == b'[["world"], {}]'
        assert call.trust is Trust.UNTRUSTED

    async def test_what_runs_code_is_refused(self):
        async with served(plain_application("app")) as (client, router):
            answer = await client.post(
                f"{self.PATH}:call", content=b"x", headers={"content-type": "application/vnd.fairlead.cloudpickle"}
            )
        assert (answer.status_code, router.calls) == (403, [])

    async def test_stream(self):
        async def three(call):
            for each in (b"1", b"2", b"3"):
                await call.stream(each)
            call.end()

        async with served(plain_application("app"), behave=three) as (client, _):
            lines = await client.post(f"{self.PATH}:stream", content=b"[[], {}]")
            array = await client.post(f"{self.PATH}:stream", headers={"accept": "application/json"})
        assert (lines.headers["content-type"], lines.content) == ("application/x-ndjson", b"1\n2\n3\n")
        assert array.content == b"[1,2,3]"

    async def test_without_annotation(self):
        async def echo(call):
            await call.half_closed.wait()
            for each in [call.payload, *call.sent]:
                await call.stream(each)
            call.end()

        first = {"target": {"application": "app", "method": "m"}, "payload": {"data": base64.b64encode(b"1").decode()}}
        lines = [first, {"payload": {"data": base64.b64encode(b"2").decode()}}]
        async with served(plain_application("app"), behave=echo) as (client, router):
            answer = await client.post(
                "/fairlead.v1.ServingService/CallBidi", content="\n".join(map(json.dumps, lines)).encode()
            )
        payloads = [json.loads(line)["payload"]["data"] for line in answer.text.splitlines()]
        assert [base64.b64decode(each) for each in payloads] == [b"1", b"2"]
        assert router.calls[0].header.method == "m"

    async def test_an_unknown_application(self):
        async with served(plain_application("app")) as (client, _):
            answer = await client.post(self.PATH.replace("/app/", "/other/") + ":call", content=b"")
        assert (answer.status_code, answer.json()["code"]) == (404, 5)
        assert serving_pb2.DESCRIPTOR

    async def test_a_wrong_method_is_told_where_no_application_has_the_path(self):
        async with served(application(route_prefix="/lib")) as (client, router):
            refused = await client.get(f"{self.PATH}:call")
            asked = await client.options(f"{self.PATH}:stream")
            unknown = await client.get(f"{self.PATH}:nonesuch")
        assert (refused.status_code, refused.json()["code"]) == (405, 12)
        assert (asked.status_code, unknown.status_code) == (204, 404)
        assert {answer.headers["allow"] for answer in (refused, asked)} == {"OPTIONS, POST"}
        assert router.calls == []


async def test_an_application_with_a_rule_that_cannot_be_served_keeps_the_others(caplog):
    bad = compiled(
        """
        syntax = "proto3"; package library.v1; import "google/api/annotations.proto";
        message M { string a = 1; }
        service LibraryService { rpc Get(M) returns (M) { option (google.api.http) = { get: "/v1/{b}" }; } }
        """
    )
    async with served(application("bad", route_prefix="/bad", descriptor_set=bad), application("good")) as (client, _):
        assert (await client.get("/v1/books/x")).status_code == 200
    assert "library.v1.M has no field 'b'" in caplog.text
