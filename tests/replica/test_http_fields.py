from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException

from fairlead_replica.http_fields import fields_of, fields_of_exception

BAD = [
    (b"x-a", b"1\r\nx-b: 2\r\n\r\n"),
    (b"x-a", b"1\n2"),
    (b"x-a", b"1\r2"),
    (b"x-a", b"1\0"),
    (b"x-a", b"1\x7f"),
    (b"x\r\ny", b"1"),
    (b"x a", b"1"),
    (b"x:", b"1"),
    (b"", b"1"),
    (b"x-\xe4", b"1"),
    (b"content-length", b"-1"),
    (b"Content-Length", b"+5"),
    (b"content-length", b"0_5"),
    (b"content-length", b"5, 5"),
    (b"content-length", b""),
]


@pytest.mark.parametrize("field", BAD)
def test_what_http_cannot_carry(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="the header field"):
        fields_of([(b"x-good", b"1"), field])


def test_two_lengths() -> None:
    with pytest.raises(ValueError, match="more than one content-length"):
        fields_of([(b"content-length", b"5"), (b"Content-Length", b"5")])


def test_what_it_can() -> None:
    given: list[tuple[Any, Any]] = [
        (b"X-A", b"\t1 2\t"),
        (bytearray(b"set-cookie"), "größe".encode("latin-1")),
        (b"set-cookie", b""),
        (b"content-length", b"05"),
    ]
    assert fields_of(given) == [(name.lower(), value) for name, value in given]


def test_of_an_exception() -> None:
    headers = {"X-A": "größe", "Content-Length": "1", "content-type": "text/mine"}
    assert fields_of_exception(HTTPException(418, headers=headers), b"text/plain", b"tea") == [
        (b"x-a", "größe".encode("latin-1")),
        (b"content-type", b"text/mine"),
        (b"content-length", b"3"),
    ]
    assert fields_of_exception(HTTPException(418), b"text/plain", b"tea") == [
        (b"content-type", b"text/plain"),
        (b"content-length", b"3"),
    ]
    for bad in ({"x-a": "日本"}, {"x-a": "1\n2"}, {"x a": "1"}, {"x-a": 5}):
        with pytest.raises(ValueError, match="the header field"):
            fields_of_exception(HTTPException(418, headers=bad), b"text/plain", b"")
