"""``ServeRequest``, and who gets it."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.serve.classic.backend import Backend, Called, takes_request
from fairlead.serve.classic.request import ServeRequest
from fairlead.serve.exceptions import RayServeException


async def test_it_mirrors_a_web_request() -> None:
    request = ServeRequest({"a": 1}, {"i": 333}, {"X-Custom": "value"}, "POST")
    assert (request.data, await request.body(), await request.json(), await request.form()) == ({"a": 1},) * 4
    assert (request.query_params["i"], request.args["i"], dict(request.query_params)) == (333, 333, {"i": 333})
    assert (request.query_params.getlist("i"), request.query_params.getlist("j")) == ([333], [])
    assert [request.headers[name] for name in ("X-Custom", "x-custom", "X-CUSTOM")] == ["value"] * 3
    assert dict(request.headers) == {"X-Custom": "value"}
    assert request.headers.get("other") is None
    assert request.method == "POST"


@pytest.mark.parametrize("data", [None, "text", 5, [1]], ids=str)
async def test_only_a_dictionary_is_json_or_a_form(data: Any) -> None:
    request = ServeRequest(data, {}, {}, "GET")
    for read in (request.json, request.form):
        with pytest.raises(RayServeException, match="must be a dictionary"):
            await read()
    assert await request.body() is data


def test_who_gets_it() -> None:
    def annotated(given: ServeRequest) -> None: ...
    def by_suffix(serve_request, more=None): ...  # type: ignore[no-untyped-def]
    def plain(inc, request=None): ...  # type: ignore[no-untyped-def]

    taken = [annotated, by_suffix, lambda request: None, lambda req: None, lambda _: None]
    assert [takes_request(one) for one in taken] == [True] * 5
    assert [takes_request(one) for one in (plain, lambda: None, lambda *args: None, int)] == [False] * 4


async def test_others_get_the_arguments() -> None:
    async def called(function: Any, *args: Any, **kwargs: Any) -> Any:
        return await Backend(function, (), {}).serve_call(Called(), *args, **kwargs)

    assert await called(lambda inc, by=1: (inc, by), 5, by=2) == (5, 2)
    assert await called(lambda inc=3: inc) == 3
    assert await called(lambda: "nothing") == "nothing"
    assert isinstance(await called(lambda inc: inc), ServeRequest)  # it has to get something
    assert (await called(lambda request: request, 5, by=2)).query_params["by"] == 2
