"""The query of a request."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from fairlead_replica.routed.problems import BadRequestError, Problem

_MALFORMED: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def parse(query: bytes) -> dict[str, list[str]]:
    """The values by name, each in their order. A plus sign is a space (HTML's form encoding).

    Raises BadRequestError for malformed percent escapes and for what is not UTF-8.
    """
    values: dict[str, list[str]] = {}
    for field in query.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            values.setdefault(_decode(name), []).append(_decode(value))
    return values


def _decode(raw: bytes) -> str:
    spaced = raw.replace(b"+", b" ")
    try:
        if b"%" not in spaced:
            return spaced.decode()
        if _MALFORMED.search(spaced):
            raise BadRequestError([Problem("query", "has a malformed percent escape")])
        return unquote_to_bytes(spaced).decode()
    except UnicodeDecodeError:
        raise BadRequestError([Problem("query", "is not UTF-8")]) from None
