"""Results of routed methods as responses: JSON, bytes, and streams in the format that is asked for."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import json
import uuid
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from fairlead.v1 import http_pb2
from fairlead_replica.routed.responses import Items, encode_http_error, encode_result, stream_type, to_json

NDJSON, EVENTS, ARRAY = b"application/x-ndjson", b"text/event-stream", b"application/json"


class Model(pydantic.BaseModel):
    price: decimal.Decimal = pydantic.Field(decimal.Decimal("1.10"), alias="thePrice")


@dataclasses.dataclass
class Holder:
    at: datetime.timedelta
    model: Model


def read(message: bytes | None) -> tuple[int, dict[bytes, bytes], bytes]:
    assert message is not None
    response = http_pb2.HttpResponse.FromString(message)
    return response.status, {field.name: field.value for field in response.headers}, response.body


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        ("text", b'"text"'),
        (1.5, b"1.5"),
        ({1: {2}}, b'{"1":[2]}'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (ipaddress.ip_address("::1"), b'"::1"'),
        (Model(), b'{"thePrice":"1.10"}'),
        (Holder(datetime.timedelta(seconds=1), Model()), b'{"at":"PT1S","model":{"thePrice":"1.10"}}'),
        (2**80, str(2**80).encode()),
        (float("nan"), b"null"),
        ([decimal.Decimal("NaN"), float("inf"), decimal.Decimal(1)], b'["NaN",null,"1"]'),
        ({"model": Model(), "decimal": decimal.Decimal(2)}, b'{"model":{"thePrice":"1.10"},"decimal":"2"}'),
    ],
)
def test_results(value: Any, body: bytes) -> None:
    status, headers, found = read(encode_result(value))
    assert (status, headers[b"content-type"], found) == (200, b"application/json", body)


def test_bytes_are_bytes() -> None:
    assert read(encode_result(b"\xff"))[1:] == (
        {b"content-type": b"application/octet-stream", b"content-length": b"1"},
        b"\xff",
    )


def test_what_has_no_json_form() -> None:
    with pytest.raises(TypeError):
        to_json(object())
    with pytest.raises(TypeError):
        to_json({"deep": [decimal.Decimal(1), object()]})


def test_http_exceptions() -> None:
    status, headers, body = read(encode_http_error(HTTPException(409, "taken", headers={"X-Own": "1"})))
    assert (status, headers[b"x-own"]) == (409, b"1")
    assert json.loads(body) == {"code": 10, "message": "taken", "details": []}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], NDJSON),
        ([b"*/*"], NDJSON),
        ([b"application/x-ndjson"], NDJSON),
        ([b"application/jsonl"], NDJSON),
        ([b"text/event-stream"], EVENTS),
        ([b"text/*"], EVENTS),
        ([b"application/*"], NDJSON),
        ([b"application/json"], ARRAY),
        ([b"application/json, text/plain, */*"], ARRAY),
        ([b"text/event-stream;q=0.5, application/json;q=0.4"], EVENTS),
        ([b"text/event-stream; q=0, */*"], NDJSON),
        ([b"application/x-ndjson;q=0", b"*/*;q=0.1"], EVENTS),
        ([b"image/png"], NDJSON),
        ([b"TEXT/Event-Stream"], EVENTS),
        ([b";;,q=,\xff"], NDJSON),
    ],
)
def test_formats(accept: list[bytes], expected: bytes) -> None:
    assert stream_type(accept) == expected


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_any_accept_header_is_survived(accept: list[bytes]) -> None:
    assert stream_type(accept) in (NDJSON, EVENTS, ARRAY)


@pytest.mark.parametrize(
    ("media_type", "none", "two"),
    [
        (NDJSON, b"", b'{"a":1}\n"x\\ny"\n'),
        (EVENTS, b"", b'data: {"a":1}\n\ndata: "x\\ny"\n\n'),
        (ARRAY, b"[]", b'[{"a":1},"x\\ny"]'),
    ],
)
def test_streams(media_type: bytes, none: bytes, two: bytes) -> None:
    empty = Items(media_type)
    assert not empty.started
    status, headers, body = read(empty.finish())
    assert (status, headers[b"content-type"], body) == (200, media_type, none)
    items = Items(media_type)
    pieces = [read(items.encode(item)) for item in ({"a": 1}, "x\ny")]
    assert items.started
    last = items.finish()
    assert [status for status, _, _ in pieces] == [200, 0]
    assert b"".join(piece[2] for piece in pieces) + (read(last)[2] if last is not None else b"") == two
