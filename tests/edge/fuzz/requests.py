"""Requests that are almost right, as strategies: parts that mean something here, among parts that mean nothing."""

from __future__ import annotations

import gzip
from typing import Any

from hypothesis import strategies as st

from fairlead_gateway.edge.web.envelopes import envelope

_PATHS = [
    "/", "//", "/-/healthz", "/-/routes", "/-/openapi.json", "/-/docs", "/-/metrics", "/books", "/plain/x",
    "/routes/users/7", "/routes/users/-1", "/routes/files/a/b", "/v1/shelves/1/books/2", "/v1/shelves/1/books/2:move",
    "/v1/shelves/1/books", "/v1/books:search", "/v1/books:titles", "/v1/books:watch", "/v1/books/x",
    "/v1/shelves/1/books:add", "/v1/shelves/1/books/2/cover", "/v1/shelves/1/books/2:read", "/v1/books:write",
    "/library.v1.LibraryService/GetBook", "/library.v1.LibraryService/Chat", "/library.v1.LibraryService/Nothing",
    "/web.v1.EchoService/Echo", "/web.v1.EchoService/Look", "/web.v1.EchoService/Count", "/web.v1.EchoService/Join",
    "/web.v1.EchoService/Chat", "/fairlead.v1.ServingService/Call", "/fairlead.v1.ServingService/CallBidi",
    "/v1/applications/books/deployments/Library/methods/x:call",
]  # fmt: skip
_PIECES = [
    "%",
    "%2F",
    "%2f",
    "%00",
    "%ff",
    "%0a",
    "%C3%A4",
    ":",
    ":move",
    "/",
    "..",
    "+",
    "a",
    "7",
    "~",
    "=",
    ";",
    "{x}",
]
_NAMES = [
    "content-type", "content-encoding", "content-length", "accept", "accept-encoding", "grpc-timeout", "grpc-encoding",
    "grpc-accept-encoding", "connect-protocol-version", "connect-timeout-ms", "connect-content-encoding", "application",
    "x-request-id", "x-request-timeout-seconds", "x-server-timeout", "serve_multiplexed_model_id", "x-session-id",
    "authorization", "own", "own-bin", "upgrade", "connection", "te", "transfer-encoding", "expect", "origin", "host",
    "range", "cookie", "x-http-method-override", "x-request-disconnect-disabled", "traceparent",
]  # fmt: skip
_VALUES = [
    "application/json", "application/proto", "application/grpc-web", "application/grpc-web-text", "text/event-stream",
    "application/grpc-web+json", "application/connect+proto", "application/connect+json", "application/x-ndjson",
    "application/json; charset=utf-16", "*/*", "gzip", "identity", "br", "1", "0", "-1", "1S", "99999999H", "1e9",
    "nan",
    "websocket", "close", "keep-alive", "chunked", "100-continue", "books", "web", "?1", "!", "AAE=", "AAE", "",
]  # fmt: skip
_JSON = [
    b"", b"{}", b"[]", b"null", b"{", b'{"text":"a"}', b'{"text":1}', b'{"name":"n","title":"t"}', b'{"book":{}}',
    b'{"a":1,"a":2}', b'{"text":"a"}\n{"text":"b"}\n', b'[{"text":"a"}]', b"\xff", b'{"text":"\\ud800"}', b"1e999",
    b'{"extra":{"a":[NaN]}}', b'{"published":"2026-01-01T00:00:00Z"}', b"[" * 2000, b'{"nested":' * 200,
    b"\xef\xbb\xbf{}",
]  # fmt: skip
_QUERIES = [
    "query=a", "genres=GENRE_NOVEL", "genres=9", "author.name=x", "author=", "minCopies=1", "min_copies=x", "lent=true",
    "publishedAfter=2026-01-01T00:00:00Z", "age=1.5s", "readMask=a,b.c", "labels[k]=v", "labels=", "weights[1]=2",
    "filter=%7B%7D", "anyValue=1", "ids=1&ids=2", "token=AA", "score=nan", "offset=-1", "count=1&pages=2",
    "nested.query=x",
    "nested.nested.nested.ids=1", "authors.name=x", "list=[]", "notes=a", "unknown=1", "%", "%ff=%ff", "&&=&",
    "a" * 300,
    "encoding=json&message=%7B%7D", "encoding=proto&message=AA&base64=1&compression=gzip",
    "connect=v1&encoding=&message=",
    "x=1&limit=2&flag=yes",
]  # fmt: skip

_message = st.sampled_from(_JSON) | st.binary(max_size=40)


@st.composite
def _enveloped(draw: st.DrawFn) -> bytes:
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        flags, message = draw(st.sampled_from([0, 0, 0, 1, 2, 0x80, 0xFF])), draw(_message)
        parts.append(envelope(flags, gzip.compress(message) if flags == 1 and draw(st.booleans()) else message))
    body = b"".join(parts)
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


paths = st.builds(
    lambda path, more: path + "".join(more), st.sampled_from(_PATHS), st.lists(st.sampled_from(_PIECES), max_size=3)
) | st.lists(st.sampled_from([*_PIECES, *_PATHS]), max_size=6).map(lambda parts: "/" + "".join(parts))
queries = st.lists(st.sampled_from(_QUERIES) | st.text("abc=&%25[]+.", max_size=12), max_size=4).map("&".join)
methods = st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"])
bodies = _message | _enveloped()
_TOKEN = st.text("abcxyz-_0123456789", min_size=1, max_size=12)
_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
header_lists = st.lists(
    st.tuples(st.sampled_from(_NAMES) | _TOKEN, st.sampled_from(_VALUES) | _TEXT.map(str.strip)), max_size=6
)


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """A body as it may come from the network."""
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    return [body[begin:end] for begin, end in zip([0, *places], [*places, len(body)], strict=True)]


cuts = st.lists(st.integers(0, 5000), max_size=4)


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """Bytes on a connection: a request, then maybe another, with something wrong in one place or none."""
    data = b""
    for _ in range(draw(st.integers(1, 2))):
        body, query = draw(bodies), draw(queries)
        target = draw(paths).encode("latin-1", "replace") + (
            b"?" + query.encode("latin-1", "replace") if query else b""
        )
        head = [
            draw(methods).encode()
            + b" "
            + target
            + b" "
            + draw(st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"X"]))
        ]
        fields = [
            (name, value) for name, value in draw(header_lists) if name != "content-length" or draw(st.booleans())
        ]
        head += [b"host: x", *(f"{name}: {value}".encode("latin-1") for name, value in fields)]
        data += b"\r\n".join([*head, *_framing(draw, body)])
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=6)) + data[place + draw(st.integers(0, 6)) :]
    return data


def _framing(draw: Any, body: bytes) -> list[bytes]:
    kind = draw(st.sampled_from(["length", "length", "chunked", "lie", "none"]))
    if kind == "chunked":
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces_of(body, draw(cuts)) if piece]
        return [b"transfer-encoding: chunked", b"", b"".join(chunks) + b"0\r\n\r\n"]
    if kind == "none":
        return [b"", b""]
    length = len(body) + (draw(st.integers(-3, 50)) if kind == "lie" else 0)
    return [b"content-length: %d" % length, b"", body]
