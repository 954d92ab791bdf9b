from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidCallError
from fairlead_gateway.edge.http_headers import (
    DEFAULT_RULES,
    HOP_BY_HOP,
    from_metadata,
    grpc_timeout_s,
    request_timeout_s,
    to_metadata,
    without_hop_by_hop,
)


def entries(metadata: list[session_pb2.Metadata]) -> list[tuple[str, bytes]]:
    return [(entry.key, entry.value) for entry in metadata]


def test_what_passes_keeps_its_name_and_order() -> None:
    fields = [
        (b"x-b", b"2"),
        (b"authorization", b"Bearer t"),
        (b"x-b", b"1"),
        (b"traceparent", b"00-1-2-01"),
        (b"accept", b"*/*"),
        (b"content-length", b"5"),
        (b"made-up", b"v"),
    ]
    assert entries(to_metadata(fields)) == [
        ("x-b", b"2"),
        ("authorization", b"Bearer t"),
        ("x-b", b"1"),
        ("traceparent", b"00-1-2-01"),
    ]


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), b"grpc-timeout", b"grpc-x-bin", b"x-\xff", b"x-a b", b""])
def test_what_never_passes(name: bytes) -> None:
    rules = DEFAULT_RULES.with_names(*(one.decode() for one in HOP_BY_HOP), "grpc-timeout")
    assert to_metadata([(name, b"1")], rules) == []
    with_key = [session_pb2.Metadata(key=name.decode("latin-1"), value=b"1")]
    assert from_metadata(with_key) == []


def test_the_allowlist_can_be_changed() -> None:
    rules = DEFAULT_RULES.with_names("Made-Up").without_names("authorization")
    assert entries(to_metadata([(b"made-up", b"1"), (b"authorization", b"2")], rules)) == [("made-up", b"1")]


@pytest.mark.parametrize("value", [b"\xc3\xa4", b"a\tb", b"a\x00", b"\x7f"])
def test_values_that_metadata_cannot_hold_do_not_pass(value: bytes) -> None:
    assert to_metadata([(b"x-a", value)]) == []
    assert from_metadata([session_pb2.Metadata(key="x-a", value=value)]) == []


@pytest.mark.parametrize("value", [b"AAEC", b"/wA=", b"/wA", b" AAEC ", b""])
def test_binary_values_are_bytes_inside(value: bytes) -> None:
    (entry,) = to_metadata([(b"x-bin", value)])
    assert entry.value == {b"AAEC": b"\0\1\2", b"/wA": b"\xff\0", b"": b""}[value.strip().rstrip(b"=")]


def test_several_binary_values_in_one_field() -> None:
    assert entries(to_metadata([(b"x-bin", b"AA, AQ==")])) == [("x-bin", b"\0"), ("x-bin", b"\1")]


@pytest.mark.parametrize("value", [b"!!!!", b"A", b"A-_A", b"AA=A"])
def test_what_is_no_base64_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidCallError, match="x-bin must be base64"):
        to_metadata([(b"x-bin", value)])


@given(st.binary(max_size=50))
def test_binary_values_come_back(value: bytes) -> None:
    (field,) = from_metadata([session_pb2.Metadata(key="a-bin", value=value)])
    assert entries(to_metadata([field])) == [("a-bin", value)]


def test_answers_do_not_set_the_framing_of_the_response() -> None:
    metadata = [
        session_pb2.Metadata(key="content-length", value=b"1"),
        session_pb2.Metadata(key="Transfer-Encoding", value=b"chunked"),
        session_pb2.Metadata(key="X-Kind", value=b"short"),
        session_pb2.Metadata(key="set-cookie", value=b"a=1"),
    ]
    assert from_metadata(metadata) == [(b"x-kind", b"short"), (b"set-cookie", b"a=1")]


def test_hop_by_hop_fields() -> None:
    assert without_hop_by_hop([(b"connection", b"x"), (b"a", b"b"), (b"te", b"trailers")]) == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("seconds", "grpc", "default", "longest", "expected"),
    [
        (None, None, None, None, None),
        (None, None, 7.0, None, 7.0),
        ("2.5", None, 7.0, None, 2.5),
        ("0", None, 7.0, None, None),
        ("-1", "5S", 7.0, None, None),
        ("x", None, 7.0, None, 7.0),
        ("nan", "5S", 7.0, None, 5.0),
        ("1e300", None, 7.0, None, 365 * 86400.0),
        (None, "250m", 7.0, None, 0.25),
        ("20", None, 7.0, 10.0, 10.0),
        ("0", None, 7.0, 10.0, 10.0),
        (None, "1H", None, 10.0, 10.0),
        (None, None, None, 10.0, 10.0),
        ("3", None, None, 10.0, 3.0),
    ],
)
def test_timeouts(
    seconds: str | None, grpc: str | None, default: float | None, longest: float | None, expected: float | None
) -> None:
    assert request_timeout_s(seconds, grpc, default, longest) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6), ("0n", 0)]
)
def test_grpc_timeouts(value: str, expected: float) -> None:
    assert grpc_timeout_s(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["", "S", "1", "123456789S", "-1S", "1.5S", "1s", "1S\n", "١S"])
def test_malformed_grpc_timeouts(value: str) -> None:
    with pytest.raises(InvalidCallError, match="grpc-timeout"):
        grpc_timeout_s(value)
