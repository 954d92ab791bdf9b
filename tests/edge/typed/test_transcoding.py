"""Typed services over HTTP: how requests become messages, those of ServingService among them."""

import base64
import json

import pytest

from fairlead.v1 import serving_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.fake_router import application as plain_application
from tests.edge.typed.schema import SERVICE, application, compiled, message
from tests.edge.typed.transcoding import request_of, returns, served


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
