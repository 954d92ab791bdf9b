"""Header fields of gRPC-Web and Connect, and the metadata of a call: which of them are which. Pure.

In both protocols a caller's metadata are header fields like any others, so that all pass but the protocols' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidCallError
from fairlead_gateway.edge.http_headers import (
    MAX_TIMEOUT_S,
    HeaderRules,
    from_metadata,
    grpc_timeout_s,
    to_metadata,
)
from fairlead_gateway.edge.http_limits import HttpLimits

CONNECT_TIMEOUT = "connect-timeout-ms"
GRPC_TIMEOUT = "grpc-timeout"
AUTHORIZATION = b"authorization"
_OWN = frozenset(
    {b"accept", b"accept-encoding", b"content-encoding", b"content-length", b"content-type", b"host", b"x-grpc-web"}
)
_OWN_PREFIXES = (b"connect-", b"grpc-", b"sec-")
_EVERYTHING = HeaderRules(names=frozenset(), prefixes=(b"",))
_MILLISECONDS = re.compile(r"[0-9]{1,10}")

Fields = list[tuple[bytes, bytes]]


def metadata_of(fields: Iterable[tuple[bytes, bytes]], *, secret: bool) -> list[tuple[str, str | bytes]]:
    """The metadata of a call as gRPC has them. ``secret``: whether ``authorization`` is the gateway's, and stays here.

    Raises InvalidCallError for a ``-bin`` field that is no base64.
    """
    passing = [
        (name, value)
        for name, value in fields
        if name not in _OWN and not name.startswith(_OWN_PREFIXES) and not (secret and name == AUTHORIZATION)
    ]
    return [
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode("ascii"))
        for entry in to_metadata(passing, _EVERYTHING)
    ]


def trailing_fields(outcome: session_pb2.Outcome | None) -> Fields:
    """The trailing metadata of an answer as header fields."""
    return [] if outcome is None else from_metadata(outcome.trailing_metadata)


def timeout_s(grpc: str | None, connect_ms: str | None, limits: HttpLimits) -> float | None:
    """Seconds that a call may take: as its caller says, else by default, at most the limit; None: no limit.

    Raises InvalidCallError for a malformed value.
    """
    wanted = [limits.max_request_timeout_s]
    if grpc is not None:
        wanted.append(grpc_timeout_s(grpc))
    if connect_ms is not None:
        if _MILLISECONDS.fullmatch(connect_ms) is None:
            raise InvalidCallError(f"{CONNECT_TIMEOUT} must be at most ten digits")
        wanted.append(min(int(connect_ms) / 1000, MAX_TIMEOUT_S))
    if len(wanted) == 1:
        wanted.append(limits.request_timeout_s)
    return min((seconds for seconds in wanted if seconds is not None), default=None)


def as_text(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Header fields as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
