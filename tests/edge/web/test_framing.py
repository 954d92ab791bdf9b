"""Envelopes, base64 in pieces, gzip, trailers and Connect's error shapes: what one end writes, the other reads."""

import base64
import contextlib
import gzip
import json

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from fairlead.wire.errors import InvalidCallError, MessageTooLargeError
from fairlead_gateway.edge.http_status import HTTP_STATUS
from fairlead_gateway.edge.web import base64_text, compression
from fairlead_gateway.edge.web.base64_text import Base64Reader
from fairlead_gateway.edge.web.connect_errors import CODES, end_of_stream, error_value
from fairlead_gateway.edge.web.envelopes import COMPRESSED, TRAILERS, EnvelopeReader, envelope
from fairlead_gateway.edge.web.trailers import percent_encoded, trailers

LIMIT = 1000


def pieces(data, cuts):
    """The data cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


CUTS = st.lists(st.integers(0, 10_000), max_size=20)
MESSAGES = st.lists(st.tuples(st.sampled_from([0, COMPRESSED]), st.binary(max_size=60)), max_size=8)


class TestEnvelopes:
    @given(MESSAGES, CUTS)
    def test_they_come_back_however_the_body_is_cut(self, messages, cuts):
        body = b"".join(envelope(flags, message) for flags, message in messages)
        reader = EnvelopeReader(LIMIT)
        assert [tuple(found) for piece in pieces(body, cuts) for found in reader.feed(piece)] == messages
        reader.finish()

    @given(MESSAGES.filter(bool), st.integers(1, 64))
    def test_a_truncated_body_is_told(self, messages, missing):
        body = b"".join(envelope(flags, message) for flags, message in messages)
        reader = EnvelopeReader(LIMIT)
        last = len(messages[-1][1]) + 5
        reader.feed(body[: -min(missing, last - 1)])
        with pytest.raises(InvalidCallError, match="ended within an envelope"):
            reader.finish()

    def test_a_length_beyond_the_limit_is_refused_before_the_message_comes(self):
        EnvelopeReader(LIMIT).feed(envelope(0, bytes(LIMIT)))
        with pytest.raises(MessageTooLargeError, match="1001 bytes"):
            EnvelopeReader(LIMIT).feed(b"\0" + (LIMIT + 1).to_bytes(4, "big"))

    @pytest.mark.parametrize("flags", [0x02, 0x03, 0x80, 0x81, 0xFF])
    def test_flags_that_a_request_cannot_have(self, flags):
        with pytest.raises(InvalidCallError, match=f"{flags:#04x}"):
            EnvelopeReader(LIMIT).feed(envelope(flags, b""))

    @given(st.lists(st.binary(max_size=30), max_size=10))
    def test_any_bytes_are_messages_or_a_clear_error(self, data):
        reader = EnvelopeReader(LIMIT)
        with contextlib.suppress(InvalidCallError, MessageTooLargeError):
            for piece in data:
                reader.feed(piece)
            reader.finish()


class TestBase64:
    @given(st.lists(st.binary(max_size=20), max_size=6), CUTS)
    def test_what_was_padded_piece_by_piece_comes_back_however_it_is_cut(self, data, cuts):
        text = b"".join(base64_text.encode(piece) for piece in data)
        reader = Base64Reader()
        assert b"".join(reader.feed(piece) for piece in pieces(text, cuts)) == b"".join(data)
        reader.finish()

    @pytest.mark.parametrize("text", [b"A===", b"====", b"AA=A", b"!!!!", b"AA-_", b"AAA\n", b"\xff\xff\xff\xff"])
    def test_what_is_no_base64(self, text):
        with pytest.raises(InvalidCallError, match="not valid base64"):
            Base64Reader().feed(text)

    @pytest.mark.parametrize("text", [b"A", b"AA", b"AAA", b"AAAAB"])
    def test_a_truncated_text(self, text):
        reader = Base64Reader()
        reader.feed(text)
        with pytest.raises(InvalidCallError, match="not valid base64"):
            reader.finish()

    @given(st.lists(st.binary(max_size=30), max_size=10))
    def test_any_bytes_are_a_text_or_a_clear_error(self, data):
        reader = Base64Reader()
        with contextlib.suppress(InvalidCallError):
            for piece in data:
                reader.feed(piece)
            reader.finish()

    def test_padding_everywhere_is_read_in_linear_time(self):
        assert Base64Reader().feed(b"AA==" * 100_000) == bytes(100_000)


class TestCompression:
    @given(st.binary(max_size=LIMIT))
    def test_it_comes_back(self, message):
        assert compression.decompress(compression.compress(message), LIMIT) == message
        assert gzip.decompress(compression.compress(message)) == message

    def test_a_bomb_is_not_unpacked(self):
        with pytest.raises(MessageTooLargeError, match="1000 bytes"):
            compression.decompress(gzip.compress(bytes(10_000_000)), LIMIT)
        assert compression.decompress(gzip.compress(bytes(LIMIT)), LIMIT) == bytes(LIMIT)

    @pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data])
    def test_what_is_no_gzip(self, change):
        with pytest.raises(InvalidCallError, match="not valid gzip"):
            compression.decompress(change(gzip.compress(b"message")), LIMIT)

    @given(st.binary(max_size=100))
    def test_any_bytes_are_a_message_or_a_clear_error(self, data):
        with contextlib.suppress(InvalidCallError, MessageTooLargeError):
            compression.decompress(data, LIMIT)

    @pytest.mark.parametrize(
        ("accepted", "offered"),
        [
            ("gzip", True),
            ("br, GZIP;q=0.5", True),
            ("gzip;q=0.001", True),
            ("gzip; q=0", False),
            ("gzip;q=0.000", False),
            ("br", False),
            ("", False),
            ("gzipped", False),
        ],
    )
    def test_who_takes_gzip(self, accepted, offered):
        assert compression.offered(accepted) is offered


class TestTrailers:
    def test_they_are_header_lines(self):
        data = trailers(5, "no such böök%\r\n", [("x-a", "1"), ("x-bin", b"\xff\0")])
        assert data[0] == TRAILERS
        assert int.from_bytes(data[1:5], "big") == len(data) - 5
        assert data[5:] == (b"grpc-status:5\r\ngrpc-message:no such b%C3%B6%C3%B6k%25%0D%0A\r\nx-a:1\r\nx-bin:/wA\r\n")
        assert trailers(0, "", [])[5:] == b"grpc-status:0\r\n"

    @given(st.text(max_size=50))
    def test_no_message_breaks_out_of_its_line(self, message):
        encoded = percent_encoded(message)
        assert encoded.isascii()
        assert encoded == "" or encoded.isprintable()


class TestConnectErrors:
    def test_every_code_has_a_name_of_its_own(self):
        assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
        assert len({name for name, _ in CODES.values()}) == len(CODES)
        # Where the transcoder has the code in its table both say the same.
        assert {code: CODES[code][1] for code in HTTP_STATUS} == HTTP_STATUS

    def test_an_error(self):
        status = status_pb2.Status(message="gone")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="X", domain="d"))
        value = error_value(grpc.StatusCode.NOT_FOUND, status)
        (detail,) = value.pop("details")
        assert value == {"code": "not_found", "message": "gone"}
        assert detail["type"] == "google.rpc.ErrorInfo"
        assert "=" not in detail["value"]
        raw = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
        assert error_details_pb2.ErrorInfo.FromString(raw).reason == "X"
        assert error_value(grpc.StatusCode.CANCELLED, status_pb2.Status()) == {"code": "canceled"}

    def test_the_end_of_a_stream(self):
        assert end_of_stream(None, []) == b"{}"
        ended = json.loads(end_of_stream({"code": "internal"}, [("a", "1"), ("b", "2"), ("a", "3")]))
        assert ended == {"error": {"code": "internal"}, "metadata": {"a": ["1", "3"], "b": ["2"]}}
