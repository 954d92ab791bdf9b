"""HTTP header fields and gRPC metadata: which pass from one to the other, and what the fields about time mean.

Pure. Names do not change on the way. Requests pass an allowlist; responses pass everything that is not the connection's
own or HTTP's framing. Values of ``-bin`` names are base64 in HTTP and bytes in metadata.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidCallError

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that are about one connection (RFC 9110, 7.6.1): they never pass."""

_FRAMING = frozenset({b"content-length", b"content-type", b"content-encoding", b"date", b"server", b"host"})
"""Fields of a response that say how its body is sent, or that the server sets itself."""
_BINARY = b"-bin"
_KEY = re.compile(rb"[0-9a-z_.-]+")
_TEXT = re.compile(rb"[\x20-\x7e]*")
_GRPC_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

MAX_TIMEOUT_S = 365 * 24 * 3600.0
"""The longest time that a request can ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderRules:
    """Which fields of a request become metadata. Names are lower case."""

    names: frozenset[bytes]
    """These do."""
    prefixes: tuple[bytes, ...] = (b"x-",)
    """So do those that begin with one of these."""
    binary: bool = True
    """So do those that end in ``-bin``."""

    def admits(self, name: bytes) -> bool:
        """Whether a field passes."""
        if name in HOP_BY_HOP or name.startswith(b"grpc-") or _KEY.fullmatch(name) is None:
            return False
        return name in self.names or name.startswith(self.prefixes) or (self.binary and name.endswith(_BINARY))

    def with_names(self, *names: str) -> HeaderRules:
        """The same with further names."""
        return HeaderRules(
            names=self.names | {name.lower().encode() for name in names}, prefixes=self.prefixes, binary=self.binary
        )

    def without_names(self, *names: str) -> HeaderRules:
        """The same without some names: ``authorization``, where it holds the gateway's own token."""
        return HeaderRules(
            names=self.names - {name.lower().encode() for name in names}, prefixes=self.prefixes, binary=self.binary
        )


DEFAULT_RULES = HeaderRules(
    names=frozenset(
        name.encode()
        for name in [
            "accept-language",
            "authorization",
            "b3",
            "baggage",
            "cookie",
            "forwarded",
            "from",
            "idempotency-key",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-unmodified-since",
            "origin",
            "priority",
            "referer",
            "traceparent",
            "tracestate",
            "user-agent",
            "via",
        ]
    )
)
"""What callers, identities and traces are told by, and whatever is nobody's standard (``x-``)."""


def to_metadata(
    fields: Iterable[tuple[bytes, bytes]], rules: HeaderRules = DEFAULT_RULES
) -> list[session_pb2.Metadata]:
    """The fields of a request (names in lower case) that pass, in order, repeated ones included.

    A value that is no printable ASCII does not pass. Raises InvalidCallError for a ``-bin`` field that is no base64.
    """
    found = []
    for name, value in fields:
        if not rules.admits(name):
            continue
        if name.endswith(_BINARY):
            # gRPC allows several values in one field, padded or not.
            found += [_Metadata(key=name.decode(), value=_decoded(name, part)) for part in value.split(b",")]
        elif _TEXT.fullmatch(value):
            found.append(_Metadata(key=name.decode(), value=value))
    return found


def from_metadata(metadata: Iterable[session_pb2.Metadata]) -> list[tuple[bytes, bytes]]:
    """Metadata of an answer as fields of a response. What cannot be one, or is not the callee's to say, is left out."""
    fields = []
    for entry in metadata:
        name = entry.key.lower().encode()
        if name in HOP_BY_HOP or name in _FRAMING or name.startswith(b"grpc-") or _KEY.fullmatch(name) is None:
            continue
        if name.endswith(_BINARY):
            fields.append((name, base64.b64encode(entry.value)))
        elif _TEXT.fullmatch(entry.value):
            fields.append((name, entry.value))
    return fields


def without_hop_by_hop(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields (names in lower case) that are not about the connection."""
    return [field for field in fields if field[0] not in HOP_BY_HOP]


def request_timeout_s(
    seconds: str | None, grpc_timeout: str | None, default: float | None, longest: float | None = None
) -> float | None:
    """How long a request may take; None: no limit.

    ``seconds``: its ``x-request-timeout-seconds``, which counts first; 0 and below mean no limit, what is no number
    counts as not given, as in Ray Serve. ``grpc_timeout``: its ``grpc-timeout``; raises InvalidCallError for a
    malformed one. ``default``: where it says neither. ``longest``: the most that it can ask for.
    """
    wanted = default
    if seconds is not None and math.isfinite(given := _number(seconds)):
        wanted = min(given, MAX_TIMEOUT_S) if given > 0 else None
    elif grpc_timeout is not None:
        wanted = grpc_timeout_s(grpc_timeout)
    if longest is None:
        return wanted
    return longest if wanted is None else min(wanted, longest)


def grpc_timeout_s(value: str) -> float:
    """A ``grpc-timeout`` in seconds. Raises InvalidCallError."""
    match = _GRPC_TIMEOUT.fullmatch(value)
    if match is None:
        raise InvalidCallError("grpc-timeout must be at most eight digits and one of H, M, S, m, u, n")
    return min(int(match[1]) * _UNITS[match[2]], MAX_TIMEOUT_S)


_Metadata = session_pb2.Metadata


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _decoded(name: bytes, value: bytes) -> bytes:
    value = value.strip(b" \t").rstrip(b"=")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCallError(f"the header {name.decode()} must be base64") from error
