"""What a request speaks, and what its header fields mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.wire.errors import InvalidCallError
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.web.fields import metadata_of, timeout_s
from fairlead_gateway.edge.web.negotiation import (
    Misused,
    Protocol,
    Spoken,
    Unsupported,
    check_version,
    negotiate,
    query_of,
)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/grpc-web", Spoken(Protocol.GRPC_WEB, "proto")),
        ("application/grpc-web+proto", Spoken(Protocol.GRPC_WEB, "proto")),
        ("Application/gRPC-Web+JSON; charset=utf-8", Spoken(Protocol.GRPC_WEB, "json")),
        ("application/grpc-web-text", Spoken(Protocol.GRPC_WEB, "proto", text=True)),
        ("application/grpc-web-text+proto", Spoken(Protocol.GRPC_WEB, "proto", text=True)),
        ("application/proto", Spoken(Protocol.CONNECT_UNARY, "proto")),
        ("application/connect+proto", Spoken(Protocol.CONNECT_STREAM, "proto")),
        ("application/connect+json", Spoken(Protocol.CONNECT_STREAM, "json")),
        ("application/grpc-web+thrift", Unsupported("application/grpc-web+thrift")),
        ("application/connect+xml", Unsupported("application/connect+xml")),
        ("application/json", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_by_content_type(content_type, expected):
    assert negotiate("POST", {"content-type": content_type}, b"") == expected


def test_json_is_connects_only_with_its_version():
    fields = {"content-type": "application/json; charset=utf-8", "connect-protocol-version": "1"}
    assert negotiate("POST", fields, b"") == Spoken(Protocol.CONNECT_UNARY, "json")
    assert negotiate("PUT", fields, b"") is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"encoding=json&message=%7B%7D", Spoken(Protocol.CONNECT_GET, "json")),
        (b"message=&encoding=proto&connect=v1", Spoken(Protocol.CONNECT_GET, "proto")),
        (b"message=&encoding=xml", Unsupported("xml")),
        (b"encoding=json", None),
        (b"", None),
    ],
)
def test_a_get_by_its_query(query, expected):
    assert negotiate("GET", {}, query) == expected


@given(st.sampled_from(["GET", "POST", "PUT", ""]), st.text(max_size=40), st.binary(max_size=80))
def test_any_request_is_told_apart(method, content_type, query):
    negotiate(method, {"content-type": content_type}, query)
    negotiate("GET", {}, b"encoding=json&message=" + query)
    assert isinstance(query_of(query), dict)


def test_versions():
    for known in (None, "1", "v1"):
        check_version(known)
    with pytest.raises(InvalidCallError, match="'2'"):
        check_version("2")


@pytest.mark.parametrize(
    ("grpc", "connect", "default", "longest", "expected"),
    [
        (None, None, None, None, None),
        (None, None, 5.0, None, 5.0),
        ("2S", None, 5.0, None, 2.0),
        ("9S", None, 5.0, None, 9.0),
        ("9S", None, 5.0, 7.0, 7.0),
        (None, "1500", None, None, 1.5),
        (None, "0", 5.0, None, 0.0),
        (None, "9999999999", None, 5.0, 5.0),
        ("1S", "500", None, None, 0.5),
    ],
)
def test_timeouts(grpc, connect, default, longest, expected):
    limits = HttpLimits(request_timeout_s=default, max_request_timeout_s=longest)
    assert timeout_s(grpc, connect, limits) == expected


@pytest.mark.parametrize("value", ["", "-1", "1.5", "12345678901", "1e3", "x", "١"])
def test_malformed_timeouts(value):
    with pytest.raises(InvalidCallError, match="connect-timeout-ms"):
        timeout_s(None, value, HttpLimits())


def test_metadata_is_every_field_but_the_protocols_own():
    fields = [
        (b"content-type", b"application/proto"),
        (b"connect-protocol-version", b"1"),
        (b"grpc-timeout", b"1S"),
        (b"sec-fetch-mode", b"cors"),
        (b"te", b"trailers"),
        (b"authorization", b"Bearer t"),
        (b"own", b"1"),
        (b"own-bin", b"/wA"),
        (b"own", b"2"),
    ]
    entries = metadata_of(fields, secret=False)
    assert entries == [("authorization", "Bearer t"), ("own", "1"), ("own-bin", b"\xff\0"), ("own", "2")]
    assert "authorization" not in dict(metadata_of(fields, secret=True))


@pytest.mark.parametrize(
    ("method", "content_type", "expected"),
    [
        ("POST", "application/json", Spoken(Protocol.CONNECT_UNARY, "json")),
        ("POST", "application/grpc-web", Spoken(Protocol.GRPC_WEB, "proto")),
        ("POST", "text/plain", Unsupported("text/plain")),
        ("POST", "", Unsupported("")),
        ("PUT", "application/json", Misused()),
        ("GET", "", Misused()),
        ("OPTIONS", "", None),
    ],
)
def test_where_nobody_else_takes_the_path(method, content_type, expected):
    assert negotiate(method, {"content-type": content_type}, b"", alone=True) == expected
