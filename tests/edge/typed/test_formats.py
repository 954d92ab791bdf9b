"""The format of a stream, by Accept."""

import pytest
from google.protobuf.descriptor_pool import DescriptorPool

from fairlead.v1 import session_pb2
from fairlead_gateway.edge.typed.formats import ARRAY, EVENTS, NDJSON, chosen


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"", NDJSON),
        (b"*/*", NDJSON),
        (b"application/x-ndjson", NDJSON),
        (b"application/jsonl", NDJSON),
        (b"Text/Event-Stream", EVENTS),
        (b"application/json", ARRAY),
        (b"application/json; charset=utf-8", ARRAY),
        (b"text/html, application/json", ARRAY),
        (b"application/json, */*", ARRAY),
        (b"application/json;q=0.1, */*;q=0.2", NDJSON),
        (b"application/json;q=0.5,text/event-stream", EVENTS),
        (b"text/event-stream;q=0", NDJSON),
        (b"text/event-stream;q=nan, application/json;q=0.1", ARRAY),
        (b"text/event-stream;q=many", NDJSON),
        (b"application/json;q=1e400", NDJSON),
        (b"image/png", NDJSON),
        (b",,;;q=,", NDJSON),
        (b"\xff\xfe", NDJSON),
    ],
)
def test_the_preferred_one_is_chosen(accept, expected):
    assert chosen(accept) is expected


@pytest.mark.parametrize(
    ("chosen_format", "body", "empty"),
    [
        (NDJSON, b"1\n2\n", b""),
        (EVENTS, b"data: 1\n\ndata: 2\n\n", b""),
        (ARRAY, b"[1,2]", b"[]"),
    ],
)
def test_messages_in_a_format(chosen_format, body, empty):
    pieces = [chosen_format.item(b"1", True), chosen_format.item(b"2", False), chosen_format.ending(False)]
    assert b"".join(pieces) == body
    assert chosen_format.ending(True) == empty


def test_an_array_has_no_place_for_a_failure():
    outcome = session_pb2.Outcome()
    outcome.status.code = 5
    assert ARRAY.failure(outcome, DescriptorPool()) == b""
    assert NDJSON.failure(outcome, DescriptorPool()).endswith(b"\n")
