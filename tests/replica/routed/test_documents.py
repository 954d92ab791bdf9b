"""JSON bodies: what is one, and that no name in it is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import http_pb2
from fairlead.wire.errors import UnknownSerializationError
from fairlead_replica.routed.documents import check_media_type, parse
from fairlead_replica.routed.problems import BadRequestError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_whatever_json_writes_is_read(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert parse(text) == value
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
def test_whatever_is_read_json_reads_too(body: bytes) -> None:
    try:
        value = parse(body)
    except BadRequestError:
        return
    assert json.loads(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1] x",
        b"[1][2]",
        b"NaN",
        b"[Infinity]",
        b"1e400",
        b'"\xff"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"[" * 5000 + b"]" * 5000,
        b"[" * 500 + b"]" * 500,
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":[{"a":1,"a":1}]}]',
        b'{"x\\u003a":1,"x:":2}',
        b'{"a:b":"\\u003a\\u003a","c":1,"c":2}',
    ],
)
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse(body)


def test_integers_are_exact() -> None:
    assert parse(b'{"a": 123456789012345678901234567890}') == {"a": 123456789012345678901234567890}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("application/json", True),
        ("Application/JSON; charset=UTF-8", True),
        ("application/problem+json", True),
        ("", True),
        ("application/json; charset=latin-1", False),
        ("text/json", False),
        ("multipart/form-data; boundary=x", False),
    ],
)
def test_media_types(value: str, good: bool) -> None:
    headers = [http_pb2.HttpHeader(name=b"content-type", value=value.encode())]
    if good:
        check_media_type(headers)
    else:
        with pytest.raises(UnknownSerializationError, match="application/json"):
            check_media_type(headers)


def test_no_media_type_means_json() -> None:
    check_media_type([])
