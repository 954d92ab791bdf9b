"""Which protocol a HTTP request for a method speaks, by its content type; for a GET by its query. Pure.

``application/json`` is Connect's only with the header ``connect-protocol-version``: without it the request is the
transcoder's, which answers errors as it does on every other path, if the path is one of an application's at all.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fairlead.wire.errors import InvalidCallError

CONNECT_VERSION = "connect-protocol-version"


class Protocol(enum.Enum):
    """A protocol and its kind of call."""

    GRPC_WEB = "gRPC-Web"
    CONNECT_UNARY = "Connect"
    CONNECT_GET = "Connect GET"
    CONNECT_STREAM = "Connect stream"


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a request speaks."""

    protocol: Protocol
    codec: str
    """How its messages are written: ``proto`` or ``json``."""
    text: bool = False
    """gRPC-Web: whether the body is in base64."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The request speaks one of the protocols, with messages that are written in no way known here."""

    content_type: str


@dataclass(frozen=True, slots=True)
class Misused:
    """The request is for a method, and its HTTP method is none that calls one."""


_CODECS = ("proto", "json")
_BY_TYPE = {
    "application/grpc-web": Spoken(Protocol.GRPC_WEB, "proto"),
    "application/grpc-web-text": Spoken(Protocol.GRPC_WEB, "proto", text=True),
    "application/proto": Spoken(Protocol.CONNECT_UNARY, "proto"),
}
for _codec in _CODECS:
    _BY_TYPE[f"application/grpc-web+{_codec}"] = Spoken(Protocol.GRPC_WEB, _codec)
    _BY_TYPE[f"application/grpc-web-text+{_codec}"] = Spoken(Protocol.GRPC_WEB, _codec, text=True)
    _BY_TYPE[f"application/connect+{_codec}"] = Spoken(Protocol.CONNECT_STREAM, _codec)
_CONNECT_JSON = Spoken(Protocol.CONNECT_UNARY, "json")
_GETS = {codec: Spoken(Protocol.CONNECT_GET, codec) for codec in _CODECS}

UNARY_TYPES = "application/json, application/proto"
STREAM_TYPES = "application/connect+json, application/connect+proto"
"""What Connect takes, for ``accept-post``."""


Found = Spoken | Unsupported | Misused


def negotiate(http_method: str, fields: Mapping[str, str], query: bytes, *, alone: bool = False) -> Found | None:
    """What a request speaks; None: neither gRPC-Web nor Connect.

    ``alone``: nobody else takes requests for this path, so that all are for a method, but for OPTIONS.
    """
    if http_method == "GET" and b"encoding=" in query and b"message=" in query:
        return _of_query(query)
    if http_method != "POST":
        return Misused() if alone and http_method != "OPTIONS" else None
    content_type = fields.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return _CONNECT_JSON if alone or CONNECT_VERSION in fields else None
    spoken = _BY_TYPE.get(content_type)
    if spoken is None and (alone or content_type.startswith(("application/grpc-web", "application/connect+"))):
        return Unsupported(content_type)
    return spoken


def _of_query(query: bytes) -> Spoken | Unsupported:
    encoding = query_of(query).get("encoding", "")
    return _GETS.get(encoding) or Unsupported(encoding)


def query_of(query: bytes) -> dict[str, str]:
    """The parameters of a query; of repeated ones the last counts. Bytes that are no UTF-8 stay to be refused later."""
    text = query.decode("utf-8", "surrogateescape")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=64))
    except ValueError:  # more parameters than anybody needs
        return {}


def check_version(version: str | None) -> None:
    """Raises InvalidCallError for a version of Connect's protocol that is not known; None: it is not said."""
    if version not in (None, "1", "v1"):
        raise InvalidCallError(f"{CONNECT_VERSION} must be 1, and connect=v1 in a query; this is {version!r}")
