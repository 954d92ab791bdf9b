"""Methods bound to HTTP paths, called over HTTP in a real instance."""

from __future__ import annotations

import json

import httpx
import pytest

from fairlead import serve
from fairlead.serve.api import RunTarget
from tests.e2e.conftest import Ports
from tests.e2e.routes_app import Rest, Shop, Slow, double
from tests.e2e.stage import Stage

ITEM = {"name": "cup", "price": "1.10"}
UUID = "0b9a2f8e-6a41-4a3e-9d5f-2f9f0b7f3a11"


@pytest.fixture(scope="module")
def shop(ports: Ports, stage: Stage) -> str:
    serve.run_many(
        [
            RunTarget(target=Shop.bind(stage, Slow.bind(stage)), name="shop", route_prefix="/shop"),
            RunTarget(target=Rest.bind(), name="rest", route_prefix="/rest"),
            RunTarget(target=double.bind(), name="double", route_prefix="/"),
        ]
    )
    return f"{ports.http}/shop"


def violations(answer: httpx.Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/json"
    status = answer.json()
    assert status["code"] == 3
    (listed,) = [each for each in status["details"] if each["@type"].endswith("google.rpc.BadRequest")]
    return {each["field"]: each["description"] for each in listed["fieldViolations"]}


class TestBinding:
    def test_path_and_query(self, shop: str) -> None:
        query = "color=blue&tags=a&tags=b+c&at=2024-01-02T03:04:05Z&level=2&ratio=.5&unknown=1"
        assert httpx.get(f"{shop}/items/7?{query}").json() == {
            "number": 7,
            "color": "blue",
            "tags": ["a", "b c"],
            "at": "2024-01-02T03:04:05+00:00",
            "level": 2,
            "ratio": 0.5,
        }
        assert httpx.get(f"{shop}/items/7").json()["color"] == "red"

    def test_every_problem_is_listed(self, shop: str) -> None:
        answer = httpx.get(f"{shop}/items/7?color=green&at=noon&level=3&ratio=1&ratio=2")
        assert answer.status_code == 400
        assert set(violations(answer)) == {"query.color", "query.at", "query.level", "query.ratio"}

    def test_a_model_is_the_body_or_a_member_of_it(self, shop: str) -> None:
        expected = {"name": "cup True", "price": "1.10", "tags": [], "size": None}
        assert httpx.post(f"{shop}/items?dry_run=1", json=ITEM).json() == expected
        assert httpx.post(f"{shop}/items", json={"item": ITEM, "dry_run": True}).json() == expected
        problems = violations(httpx.post(f"{shop}/items?dry_run=maybe", json={"tags": [1], "size": {"height": []}}))
        assert set(problems) == {
            "query.dry_run",
            "body.name",
            "body.price",
            "body.tags[0]",
            "body.size.width",
            "body.size.height",
        }

    def test_several_structures_are_members(self, shop: str) -> None:
        answer = httpx.put(f"{shop}/items/3", json={"item": ITEM, "size": {"width": 2}})
        assert answer.json()[0] == 3
        assert answer.json()[2] == {"width": 2, "height": 1}
        assert set(violations(httpx.patch(f"{shop}/items/3"))) == {"body.item", "body.size"}

    def test_numbers_from_query_or_body(self, shop: str) -> None:
        assert httpx.get(f"{shop}/add?a=2&b=3").json() == 5
        assert httpx.post(f"{shop}/add", json={"a": 2, "b": 3}).json() == 5
        assert httpx.post(f"{shop}/add?a=2", json={"b": 3}).json() == 5
        assert set(violations(httpx.post(f"{shop}/add?a=2", json={"a": 3}))) == {"query.a"}
        assert httpx.post(f"{shop}/total", json=[1, 2.5]).json() == 3.5
        assert httpx.post(f"{shop}/total", json={"numbers": [1]}).json() == 1.0

    def test_paths_convert_and_keep_escaped_slashes(self, shop: str) -> None:
        answer = httpx.get(f"{shop}/ids/{UUID.upper()}/a%20b%2Fc/d+e")
        assert answer.json() == {"one": UUID, "rest": "a b%2Fc/d+e", "params": ["one", "rest"], "method": "GET"}
        assert httpx.get(f"{shop}/api/123/3.14").text == "{'user_id': 123, 'number': 3.14}"

    def test_converters_of_ones_own(self, shop: str) -> None:
        assert httpx.get(f"{shop}/hex/ff").json() == 255
        for path in ("xyz", "FF"):  # the one is refused by the converter, the other by its regular expression
            assert httpx.get(f"{shop}/hex/{path}").status_code == 404

    @pytest.mark.parametrize(
        ("body", "media_type", "status", "says"),
        [
            (b'{"name": 1', "application/json", 400, "not valid JSON"),
            (b'{"name": "a"} x', "application/json", 400, "not valid JSON"),
            (b'{"name": "a", "name": "b"}', "application/json", 400, "twice"),
            (b"", "application/json", 400, "missing"),
            (b'"text"', "application/json", 400, "object"),
            (b'{"name": NaN}', "application/json", 400, "not valid JSON"),
            (b'{"name": "\xff"}', "application/json", 400, "not valid JSON"),
            (b"name=a", "application/x-www-form-urlencoded", 415, "application/json"),
        ],
    )
    def test_bodies_that_are_none(self, body: bytes, media_type: str, status: int, says: str, shop: str) -> None:
        answer = httpx.post(f"{shop}/items", content=body, headers={"content-type": media_type})
        assert answer.status_code == status
        assert says in answer.text
        assert set(answer.json()) == {"code", "message", "details"}


class TestMatching:
    def test_methods(self, shop: str) -> None:
        answer = httpx.delete(f"{shop}/items/7")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, PATCH, PUT")
        assert httpx.options(f"{shop}/items/7").headers["allow"] == "GET, HEAD, OPTIONS, PATCH, PUT"
        head = httpx.head(f"{shop}/items/7")
        assert (head.status_code, head.content) == (200, b"")

    @pytest.mark.parametrize("path", ["/nothing", "/items/-1", "/items/5%0A", "/items/9%2F9"])
    def test_paths_that_no_route_takes(self, path: str, shop: str) -> None:
        answer = httpx.get(shop + path)
        assert (answer.status_code, answer.json()["code"]) == (404, 5)

    @pytest.mark.parametrize("path", ["/items/%zz", "/steps/%ff"])
    def test_paths_that_are_none(self, path: str, shop: str) -> None:
        host = shop.removeprefix("http://").partition("/")[0]
        with httpx.Client() as client:  # httpx would escape the path itself
            request = client.build_request("GET", shop)
            request.url = httpx.URL(scheme="http", host=host.partition(":")[0], port=int(host.partition(":")[2]))
            request.url = request.url.copy_with(raw_path=f"/shop{path}".encode())
            assert client.send(request).status_code == 400

    def test_redirects(self, shop: str) -> None:
        answer = httpx.get(f"{shop}/add/?a=1")
        assert (answer.status_code, answer.headers["location"]) == (307, f"{shop}/add?a=1")

    def test_the_request_handler_takes_the_rest(self, shop: str) -> None:
        base = shop.removesuffix("/shop")
        assert httpx.get(f"{base}/rest/known").json() == "route"
        assert httpx.get(f"{base}/rest/known/").text == "handler /rest/known/"
        assert httpx.get(f"{base}/rest").text == "handler /rest"
        assert httpx.post(f"{base}/rest/known").status_code == 405

    def test_functions_have_routes(self, shop: str) -> None:
        assert httpx.get(f"{shop.removesuffix('/shop')}/double?value=4").json() == 8


class TestResults:
    def test_errors(self, shop: str) -> None:
        answer = httpx.post(f"{shop}/fail/secretly")
        assert (answer.status_code, answer.json()) == (
            500,
            {"code": 13, "message": "Internal Server Error", "details": []},
        )
        answer = httpx.post(f"{shop}/fail/teapot")
        assert (answer.status_code, answer.json()["message"]) == (418, "short and stout")
        assert answer.headers["x-own"] == "1"
        assert httpx.post(f"{shop}/fail/response").status_code == 201

    def test_streams(self, shop: str) -> None:
        lines = httpx.get(f"{shop}/count/2")
        assert lines.headers["content-type"] == "application/x-ndjson"
        assert lines.text == '{"number":0}\n{"number":1}\n'
        events = httpx.get(f"{shop}/count/2", headers={"accept": "text/event-stream"})
        assert events.text == 'data: {"number":0}\n\ndata: {"number":1}\n\n'
        assert events.headers["content-type"] == "text/event-stream"
        array = httpx.get(f"{shop}/count/2", headers={"accept": "application/json"})
        assert array.json() == [{"number": 0}, {"number": 1}]
        assert httpx.get(f"{shop}/letters").text == '"a"\n"b"\n'
        assert httpx.get(f"{shop}/count/0", headers={"accept": "application/json"}).json() == []

    def test_items_come_as_they_are_made(self, shop: str, stage: Stage, key: str) -> None:
        with httpx.stream("GET", f"{shop}/steps/{key}") as answer:
            lines = answer.iter_lines()
            assert next(lines) == '"first"'
            stage.open(key)
            assert list(lines) == ['"second"']

    def test_early_errors_have_a_status(self, shop: str) -> None:
        for accept in ("*/*", "text/event-stream", "application/json"):
            answer = httpx.get(f"{shop}/count/2?fail_at=0", headers={"accept": accept})
            assert (answer.status_code, answer.json()["code"]) == (500, 13)
        assert httpx.get(f"{shop}/count/2?fail_at=0&status=409").json()["code"] == 10
        assert httpx.get(f"{shop}/count/2?fail_at=x").status_code == 400

    def test_late_errors_are_in_the_stream(self, shop: str) -> None:
        record = {"error": {"code": 13, "message": "Internal Server Error", "details": []}}
        lines = httpx.get(f"{shop}/count/2?fail_at=1")
        assert lines.status_code == 200
        assert [json.loads(line) for line in lines.text.splitlines()] == [{"number": 0}, record]
        events = httpx.get(f"{shop}/count/2?fail_at=1", headers={"accept": "text/event-stream"})
        assert events.text.split("\n\n")[1] == f"event: error\ndata: {json.dumps(record, separators=(',', ':'))}"
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{shop}/count/2?fail_at=1", headers={"accept": "application/json"})

    def test_a_client_that_leaves_cancels_the_method_and_its_children(self, shop: str, stage: Stage, key: str) -> None:
        def leave(key: str, time_s: float) -> None:
            with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
                client.get(f"{shop}/wait/{key}", timeout=httpx.Timeout(60, read=time_s))

        key = stage.meet_deadline("{} child runs", key, leave)
        stage.wait_for(f"{key} child cancelled")

    def test_timeouts(self, shop: str, key: str) -> None:
        answer = httpx.get(f"{shop}/wait/{key}", headers={"x-request-timeout-seconds": "0.2"})
        assert (answer.status_code, answer.json()["code"]) == (408, 4)
