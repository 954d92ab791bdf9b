"""The JSON body of a request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson
import pydantic_core

from fairlead.v1 import http_pb2
from fairlead.wire.errors import UnknownSerializationError
from fairlead_replica.routed.problems import BadRequestError, Problem


def check_media_type(headers: Iterable[http_pb2.HttpHeader]) -> None:
    """Raises UnknownSerializationError (415) if a body is declared to be anything but JSON in UTF-8."""
    for header in headers:
        if header.name == b"content-type":
            value = header.value.decode("latin-1")
            kind, *parameters = (part.strip().lower() for part in value.split(";"))
            charsets = [each.partition("=")[2].strip('"') for each in parameters if each.startswith("charset=")]
            is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
            if kind and not (is_json and all(charset in ("utf-8", "utf8", "us-ascii") for charset in charsets)):
                raise UnknownSerializationError(f"the body must be application/json in UTF-8, not {value[:100]!r}")
            return


def parse(body: bytes) -> Any:
    """The value of a JSON text; integers of any size are exact.

    Raises BadRequestError for malformed text, trailing garbage, NaN and Infinity, unpaired surrogates, nesting that is
    too deep, and objects in which a name occurs twice.
    """
    try:
        lossy = orjson.loads(body)
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except orjson.JSONDecodeError as error:
        raise _bad(f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:
        raise _bad(f"is not valid JSON: {error}") from None
    # The colons of a text are those after names and those within strings. Where none is written as an escape, a name
    # that occurs twice is what makes the text have more of them than its value, written again.
    if body.count(b":") > 1 and (b"\\u003" in body or orjson.dumps(lossy).count(b":") != body.count(b":")):
        _refuse_duplicates(body)
    return value


def _refuse_duplicates(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_entries, parse_int=str, parse_float=str)
    except RecursionError:
        raise _bad("is nested too deeply") from None


def _entries(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise _bad(f"has the name {name!r} twice in one object")
        names.add(name)


def _bad(description: str) -> BadRequestError:
    return BadRequestError([Problem("body", description)])
