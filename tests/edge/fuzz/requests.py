"""Requests that are almost right, as strategies: parts that mean something here, among parts that mean nothing."""

from __future__ import annotations

import base64
import gzip
from typing import Any, NamedTuple

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


class Request(NamedTuple):
    """A request before it is cut into pieces."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes


_UNARY = ["application/proto", "application/json", "application/grpc-web", "application/grpc-web+json"]
_STREAMS = [
    "application/connect+proto",
    "application/connect+json",
    "application/grpc-web",
    "application/grpc-web-text",
]


@st.composite
def _good(draw: st.DrawFn) -> Request:
    """A request that some target takes."""
    kind = draw(st.sampled_from(["rpc", "rpc", "transcoded", "transcoded", "plain", "page"]))
    if kind == "rpc":
        return draw(_rpc())
    headers = [("content-type", "application/json")]
    if kind == "transcoded":
        method, path, query, body = draw(st.sampled_from(_TRANSCODED))
        if draw(st.booleans()):
            headers.append(("accept", draw(st.sampled_from(["text/event-stream", "application/x-ndjson", "*/*"]))))
        return Request(method, path, query, headers, body)
    if kind == "plain":
        method, path = draw(
            st.sampled_from([("POST", "/plain/x"), ("GET", "/routes/users/7"), ("GET", "/routes/files/a/b")])
        )
        return Request(method, path, "", headers, b"{}")
    return Request("GET", draw(st.sampled_from(_PATHS[2:7])), "", [], b"")


_TRANSCODED = [
    ("GET", "/v1/shelves/1/books/2", "readMask=title", b""), ("GET", "/v1/books/x", "", b""),
    ("POST", "/v1/shelves/1/books", "bookId=7", b'{"title":"t","tags":["a"]}'),
    ("PATCH", "/v1/shelves/1/books/2", "allowMissing=true", b'{"title":"t"}'),
    ("POST", "/v1/shelves/1/books/2:move", "", b'{"otherShelf":"o","position":3}'),
    ("GET", "/v1/books:search", "query=a&ids=1&ids=2&labels[k]=v&author.name=x", b""),
    ("GET", "/v1/books:watch", "query=a", b""), ("GET", "/v1/books:titles", "", b""),
    ("POST", "/v1/shelves/1/books:add", "", b'{"title":"a"}\n{"title":"b"}\n'),
    ("PUT", "/v1/shelves/1/books/2/cover", "width=3", b"bytes"), ("POST", "/v1/books:write", "", b"bytes"),
    ("GET", "/v1/shelves/1/books/2/cover", "", b""), ("GET", "/v1/shelves/1/books/2:read", "", b""),
    ("POST", "/v1/applications/books/deployments/Library/methods/x:call", "", b"[[1]]"),
]  # fmt: skip


@st.composite
def _rpc(draw: st.DrawFn) -> Request:
    name = draw(st.sampled_from(["Echo", "Look", "Count", "Join", "Chat"]))
    path = f"/web.v1.EchoService/{name}"
    if name == "Look" and draw(st.booleans()):
        return Request("GET", path, "encoding=json&connect=v1&message=%7B%7D", [], b"")
    unary = name in ("Echo", "Look")
    content_type = draw(st.sampled_from(_UNARY if unary else _STREAMS))
    message = b'{"text":"a"}' if "json" in content_type else b"\x0a\x01a"
    body = message
    if "grpc-web" in content_type or "connect+" in content_type:
        body = envelope(0, message) * (1 if name not in ("Join", "Chat") else draw(st.integers(0, 3)))
    if content_type == "application/grpc-web-text":
        body = base64.b64encode(body)
    return Request("POST", path, "", [("content-type", content_type), ("connect-protocol-version", "1")], body)


@st.composite
def _mutated(draw: st.DrawFn) -> Request:
    """A good request with up to three things wrong, or none."""
    request = draw(_good())
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["method", "path", "query", "header", "header", "drop", "body", "cut"])):
            case "method":
                request = request._replace(method=draw(methods))
            case "path":
                place = draw(st.integers(1, len(request.path)))
                request = request._replace(
                    path=request.path[:place] + draw(st.sampled_from(_PIECES)) + request.path[place:]
                )
            case "query":
                request = request._replace(query="&".join(filter(None, [request.query, draw(queries)])))
            case "header":
                request = request._replace(headers=[*request.headers, *draw(header_lists)])
            case "drop":
                request = request._replace(headers=request.headers[1:])
            case "body":
                request = request._replace(body=draw(bodies))
            case "cut":
                place = draw(st.integers(0, len(request.body)))
                request = request._replace(
                    body=request.body[:place] + draw(st.binary(max_size=3)) + request.body[place + 1 :]
                )
    return request


requests = _mutated() | _mutated() | _mutated() | st.builds(Request, methods, paths, queries, header_lists, bodies)


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """Bytes on a connection: a request, then maybe another, with something wrong in one place or none."""
    data = b""
    for _ in range(draw(st.integers(1, 2))):
        method, path, query, headers, body = draw(requests)
        target = f"{path}?{query}" if query else path
        version = draw(st.sampled_from(["HTTP/1.1"] * 4 + ["HTTP/1.0", "X"]))
        fields = [(name, value) for name, value in headers if name != "content-length" or draw(st.booleans())]
        head = [f"{method} {target} {version}", "host: x", *(f"{name}: {value}" for name, value in fields)]
        data += b"\r\n".join([*(line.encode("latin-1", "replace") for line in head), *_framing(draw, body)])
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
