"""Whole HTTP responses of the gateway's own. Those that say what went wrong are made in ``http_status``."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"


class Reply(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def text(status: int, body: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply in plain text."""
    return _reply(status, TEXT, body.encode("utf-8", "replace"), *headers)


def json(status: int, value: Any, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply in JSON."""
    return _reply(status, JSON, orjson.dumps(value), *headers)


def _reply(status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    length = str(len(body)).encode()
    return Reply(status, [(b"content-type", content_type), (b"content-length", length), *headers], body)
