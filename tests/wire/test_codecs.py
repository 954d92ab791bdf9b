"""The four serializations."""

from __future__ import annotations

import collections
import dataclasses
import pickle
import types

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import __main__
from fairlead.v1 import session_pb2
from fairlead.wire import codecs
from fairlead.wire.codecs import CLOUDPICKLE, CODECS, MSGPACK, ORJSON, PICKLE, dump_arguments, load_arguments
from fairlead.wire.errors import InvalidArgumentsError, UnknownSerializationError, UntrustedSerializationError
from fairlead.wire.trust import Trust, check_serialization

integers = st.integers(-(2**63), 2**63 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text()
jsonable = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)
plain = st.recursive(
    scalars | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(scalars, inner) | st.tuples(inner, inner),
    max_leaves=80,
)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@given(value=jsonable)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_json_like_values_come_back(codec, value):
    assert codec.loads(codec.dumps(value)) == value
    args, kwargs = load_arguments(codec, dump_arguments(codec, (value, 1), {"key": value}))
    assert (list(args), kwargs) == ([value, 1], {"key": value})


@given(value=plain)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_fast_path_means_what_cloudpickle_means(value):
    data = CLOUDPICKLE.dumps(value)
    assert CLOUDPICKLE.loads(data) == value
    assert pickle.loads(cloudpickle.dumps(value)) == value


class Text(str):
    note = ""


class Point(collections.namedtuple("Point", "x y")):
    pass


def test_subclasses_keep_their_class():
    text = Text("a")
    text.note = "kept"
    for value in (text, Point(1, 2), collections.OrderedDict(a=1), collections.defaultdict(list, a=[1])):
        for wrapped in (value, [value], {"key": value}, ((value,),)):
            assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(wrapped)) == wrapped
        assert type(CLOUDPICKLE.loads(CLOUDPICKLE.dumps([value]))[0]) is type(value)
    assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(text)).note == "kept"


def test_shared_references_stay_shared():
    inner = [1]
    first, second = CLOUDPICKLE.loads(CLOUDPICKLE.dumps([inner, inner]))
    assert first is second


def test_values_that_contain_themselves():
    looped: list[object] = []
    looped.append(looped)
    again = CLOUDPICKLE.loads(CLOUDPICKLE.dumps(looped))
    assert again[0] is again
    table: dict[str, object] = {}
    table["self"] = (table, [table])
    again = CLOUDPICKLE.loads(CLOUDPICKLE.dumps(table))
    assert again["self"][0] is again


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 1000])
def test_any_size_of_plain_value(size):
    for value in (
        list(range(size)),
        dict.fromkeys(range(size)),
        tuple([[]] * size),
        [{}] * size,
        {(1, 2): [()] * size},
    ):
        assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(value)) == value


def test_deep_values_do_not_exhaust_the_stack_of_the_check():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert codecs._is_plain(value) < 0


def test_lambdas_and_classes_of_main():
    source = types.FunctionType((lambda x: x + 1).__code__, {}, "anonymous")
    assert CLOUDPICKLE.loads(CLOUDPICKLE.dumps(source))(1) == 2
    kind = type("Local", (), {"__module__": "__main__", "answer": 42})
    __main__.Local = kind
    data = CLOUDPICKLE.dumps(kind())
    del __main__.Local
    assert CLOUDPICKLE.loads(data).answer == 42


@pytest.mark.parametrize("codec", [CLOUDPICKLE, PICKLE])
def test_fields_of_dataclasses_without_a_default_stay_without_one(codec):
    @dataclasses.dataclass
    class Size:
        width: int

    (field,) = dataclasses.fields(Size)
    assert codec.loads(codec.dumps([field.default, field.default_factory])) == [dataclasses.MISSING] * 2


def test_pickle_is_pickle():
    assert PICKLE.loads(PICKLE.dumps({"a": (1, b"x")})) == {"a": (1, b"x")}
    with pytest.raises((pickle.PicklingError, AttributeError)):
        PICKLE.dumps(lambda: None)


@pytest.mark.parametrize("codec", [MSGPACK, ORJSON], ids=lambda codec: codec.name)
def test_what_a_codec_cannot_encode_raises(codec):
    with pytest.raises(TypeError):
        codec.dumps(object())


@pytest.mark.parametrize("codec", [MSGPACK, ORJSON], ids=lambda codec: codec.name)
@given(value=jsonable, rest=st.binary(min_size=1, max_size=20).filter(lambda rest: rest.strip(b" \t\r\n")))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_bytes_after_a_value_are_an_error(codec, value, rest):
    data = codec.dumps([value])
    with pytest.raises(ValueError, match="bytes follow the value" if codec is MSGPACK else None):
        codec.loads(data + rest)
    with pytest.raises(InvalidArgumentsError, match=f"not valid {codec.name}"):
        load_arguments(codec, dump_arguments(codec, (value,), {}) + rest)


@given(value=jsonable, data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_msgpack_value_that_was_cut_off_is_an_error(value, data):
    whole = MSGPACK.dumps([value])
    with pytest.raises(ValueError, match="unexpected end of file"):
        MSGPACK.loads(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_msgpack_may_be_longer_than_it_has_to_be():
    one_in_eight_bytes, half_in_four, short_text_in_many = (
        b"\xd3" + bytes(7) + b"\x01",
        b"\xca\x3f\x00\x00\x00",
        b"\xda\x00\x01a",
    )
    assert MSGPACK.loads(b"\xdc\x00\x03" + one_in_eight_bytes + half_in_four + short_text_in_many) == [1, 0.5, "a"]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@given(payload=st.binary(min_size=1, max_size=40))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_bytes_are_arguments_or_invalid(codec, payload):
    if codec.runs_code:
        payload = b"\x80\x05" + payload.replace(b"c", b"").replace(b"\x93", b"").replace(b"R", b"").replace(
            b"\x81", b""
        )
    try:
        args, kwargs = load_arguments(codec, payload)
    except InvalidArgumentsError:
        return
    assert type(args) in (list, tuple)
    assert type(kwargs) is dict


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [], {}, [1], [[], {}, 3], [[], []], [{}, {}], [[], {1: 2}], ["ab", {}]],
)
@pytest.mark.parametrize("codec", [CLOUDPICKLE, PICKLE], ids=lambda codec: codec.name)
def test_other_shapes_are_not_arguments(codec, value):
    with pytest.raises(InvalidArgumentsError, match="array of the positional arguments"):
        load_arguments(codec, codec.dumps(value))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_no_payload_is_no_arguments(codec):
    assert load_arguments(codec, b"") == ((), {})
    args, kwargs = load_arguments(codec, codec.dumps([["only positional"]]))
    assert (args, kwargs) == (["only positional"], {})


def test_codecs_are_found_by_name_number_and_media_type():
    for codec in CODECS:
        assert codecs.codec_named(codec.name.upper()) is codec
        assert codecs.codec_of(codec.serialization) is codec
        assert codecs.codec_of_media_type(f" {codec.media_type.upper()}; charset=utf-8") is codec
    assert codecs.codec_of_media_type("") is ORJSON
    assert codecs.codec_of_media_type("application/x-msgpack") is MSGPACK
    with pytest.raises(ValueError, match="cloudpickle, pickle, msgpack, orjson"):
        codecs.codec_named("yaml")
    with pytest.raises(TypeError, match="int"):
        codecs.codec_named(4)
    with pytest.raises(UnknownSerializationError, match="cloudpickle, pickle, msgpack, orjson"):
        codecs.codec_of(session_pb2.SERIALIZATION_HTTP)
    with pytest.raises(UnknownSerializationError, match="application/json"):
        codecs.codec_of_media_type("text/html")


SONGS: list[str] = []


def sing() -> None:
    SONGS.append("unpickled")


class Canary:
    """Sings when it is unpickled."""

    def __reduce__(self):
        return sing, ()


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec.runs_code], ids=lambda codec: codec.name)
def test_what_can_run_code_is_refused_before_it_is_decoded(codec):
    payload = dump_arguments(codec, (Canary(),), {})
    SONGS.clear()
    with pytest.raises(UntrustedSerializationError):
        check_serialization(codec.serialization, Trust.UNTRUSTED)
    assert SONGS == []
    with pytest.raises(InvalidArgumentsError):
        load_arguments(ORJSON, payload)
    with pytest.raises(InvalidArgumentsError):
        load_arguments(MSGPACK, payload)
    assert SONGS == []
    load_arguments(codec, payload)
    assert SONGS == ["unpickled"]  # the canary can sing
