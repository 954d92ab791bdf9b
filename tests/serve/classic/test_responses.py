"""What a backend's values are over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydantic
import pytest
from starlette.responses import PlainTextResponse

from fairlead.serve.classic.responses import error_response, response_of


class Model(pydantic.BaseModel):
    a: int = 1


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        (None, "text/plain", b""),
        (b"\xff\x00", "text/plain", b"\xff\x00"),
        ("h\u00e9", "text/plain; charset=utf-8", "h\u00e9".encode()),
        (5, "application/json", b"5"),
        (1.5, "application/json", b"1.5"),
        (True, "application/json", b"true"),
        ((1, 2), "application/json", b"[\n  1,\n  2\n]"),
        ({"a": [1]}, "application/json", b'{\n  "a": [\n    1\n  ]\n}'),
        (Model(), "application/json", b'{\n  "a": 1\n}'),
        ([b"x", ValueError("boom"), Model(a=2)], "application/json", b'[\n  "x",\n  "boom",\n  {\n    "a": 2\n  }\n]'),
        (np.arange(2), "application/json", b"[\n  0,\n  1\n]"),
        (np.float64(0.5), "application/json", b"0.5"),
    ],
    ids=repr,
)
def test_values(value: Any, content_type: str, body: bytes) -> None:
    response = response_of(value)
    assert (response.status_code, response.headers["content-type"], response.body) == (200, content_type, body)


def test_responses_are_left_alone() -> None:
    response = PlainTextResponse("made", status_code=201)
    assert response_of(response) is response


@pytest.mark.parametrize("value", [{1, 2}, object(), [object()]], ids=["set", "object", "list"])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        response_of(value)


def test_errors_begin_as_in_classic_ray_serve() -> None:
    response = error_response(ValueError("boom"))
    assert (response.status_code, response.body) == (500, b"Task Error. Traceback: ValueError: boom")
