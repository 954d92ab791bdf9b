"""The ways in which a stream of messages is one HTTP body, and the choice by ``Accept`` (RFC 9110, 12.5.1)."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.descriptor_pool import DescriptorPool

from fairlead.v1 import session_pb2
from fairlead_gateway.edge import http_status

JSON = b"application/json"


class StreamFormat(NamedTuple):
    """One of them. A message is JSON without line ends."""

    media_type: bytes
    """The content type."""
    prefix: bytes
    """What stands before each message."""
    suffix: bytes
    """What stands after each message."""
    begin: bytes = b""
    """What stands before the first one, in the place of ``prefix``."""
    end: bytes = b""
    """What stands at the end, if all went well."""

    def item(self, message: bytes, first: bool) -> bytes:
        """A message as a piece of the body."""
        return (self.begin or self.prefix if first else self.prefix) + message + self.suffix

    def ending(self, empty: bool) -> bytes:
        """The end of the body; ``empty``: there was no message."""
        return self.begin + self.end if empty else self.end

    def failure(self, outcome: session_pb2.Outcome, pool: DescriptorPool) -> bytes:
        """A record that says why the stream ends early; empty: there is no place for one, and it must break off."""
        return http_status.error_record(self.media_type, outcome, pool)


NDJSON = StreamFormat(http_status.NDJSON, b"", b"\n")
EVENTS = StreamFormat(http_status.EVENTS, b"data: ", b"\n\n")
ARRAY = StreamFormat(JSON, b",", b"", b"[", b"]")

_FORMATS = (NDJSON, EVENTS, ARRAY)
_OTHER_NAMES = {b"application/jsonl": NDJSON, b"application/x-jsonlines": NDJSON, b"application/ndjson": NDJSON}
_BY_TYPE = {each.media_type: each for each in _FORMATS} | _OTHER_NAMES


def chosen(accept: bytes) -> StreamFormat:
    """The format that an ``Accept`` field prefers: the highest quality, then the first. Without any lines of JSON.

    Wildcards mean lines of JSON. What is malformed is no preference.
    """
    if not accept:
        return NDJSON
    best, best_quality = NDJSON, 0.0
    for part in accept.lower().split(b","):
        name, *parameters = (piece.strip() for piece in part.split(b";"))
        found = _BY_TYPE.get(name) or (NDJSON if name in (b"*/*", b"application/*") else None)
        quality = _quality(parameters)
        if found is not None and quality > best_quality:
            best, best_quality = found, quality
    return best


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0.0 <= quality <= 1.0 else 0.0
    return 1.0
