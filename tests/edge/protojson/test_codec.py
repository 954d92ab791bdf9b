"""Both directions against google.protobuf.json_format."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead_gateway.edge.protojson import JsonRefused, Options, ProtoJson
from tests.edge.protojson import messages, schema

CODEC = {
    (ignore, defaults, names, numbers): Options(
        ignore_unknown_fields=ignore, emit_defaults=defaults, proto_names=names, enum_numbers=numbers
    )
    for ignore in (False, True)
    for defaults in (False, True)
    for names in (False, True)
    for numbers in (False, True)
}
_made: dict[Options, ProtoJson] = {}
slow = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def codec(options: Options | None = None) -> ProtoJson:
    options = options or Options()
    if options not in _made:
        _made[options] = ProtoJson(schema.pool(), options)
    return _made[options]


def ours(name: str, body: bytes, *, ignore: bool = False) -> Any:
    """Our message; None: refused, in the one way there is."""
    try:
        return codec(Options(ignore_unknown_fields=ignore)).decoder(schema.descriptor(name)).parse(body)
    except JsonRefused:
        return None


@slow
@given(st.data(), st.sampled_from(schema.TYPES), st.sampled_from(list(CODEC.values())))
def test_messages_are_written_as_json_format_does_and_come_back(data: Any, name: str, options: Options) -> None:
    message = data.draw(messages.messages(name))
    mine = codec(options)
    body = mine.encoder(message.DESCRIPTOR).dump(message)
    expected = schema.oracle_tree(
        message,
        always_print_fields_with_no_presence=options.emit_defaults,
        preserving_proto_field_name=options.proto_names,
        use_integers_for_enums=options.enum_numbers,
    )
    assert orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        orjson.loads(orjson.dumps(expected)), option=orjson.OPT_SORT_KEYS
    )
    theirs = schema.oracle_parse(name, body)
    again = ours(name, body)
    if theirs is None:  # a float at the very end of its range
        assert again is None
    else:
        assert schema.wire(again) == schema.wire(theirs)


def _agree(name: str, body: bytes, ignore: bool) -> None:
    theirs = schema.oracle_parse(name, body, ignore=ignore)
    mine = ours(name, body, ignore=ignore)
    if mine is not None:
        assert theirs is not None, f"json_format refuses {body!r} for {name}"
        assert schema.wire(mine) == schema.wire(theirs)


@slow
@given(st.data(), st.sampled_from(schema.TYPES), st.booleans())
def test_what_json_format_refuses_is_refused(data: Any, name: str, ignore: bool) -> None:
    message = data.draw(messages.messages(name))
    kind = schema.descriptor(name)
    names = [field.name for field in kind.fields] + [field.json_name for field in kind.fields] + ["@type", "value"]
    tree = schema.oracle_tree(message)
    for _ in range(data.draw(st.integers(1, 2))):
        tree = data.draw(messages.mutated(tree, names))
    _agree(name, json.dumps(tree).encode(), ignore)


@slow
@given(messages.json_values, st.sampled_from(schema.TYPES), st.booleans(), st.data())
def test_any_value_in_any_field(value: Any, name: str, ignore: bool, data: Any) -> None:
    field = data.draw(st.sampled_from(list(schema.descriptor(name).fields)))
    shape = data.draw(st.sampled_from([value, [value], {"1": value}, {"true": value}]))
    _agree(name, json.dumps({field.json_name: shape}).encode(), ignore)


@slow
@given(
    st.binary(max_size=40) | messages.json_values.map(lambda v: json.dumps(v).encode()), st.sampled_from(schema.TYPES)
)
def test_any_bytes(body: bytes, name: str) -> None:
    _agree(name, body, ignore=False)
    _agree(name, body, ignore=True)


# The table of the module's docstring: json_format takes these, this codec does not.
STRICTER = [
    ("t.Scalars", "[]"),
    ("t.Known", '{"empty": []}'),
    ("t.Known", '{"empty": ""}'),
    ("t.Scalars", '{"intV": 1, "int_v": 2}'),
    ("t.Scalars", '{"int_v": 1, "intV": null}'),
    ("t.Scalars", '{"doubleV": true}'),
    ("t.Scalars", '{"floatV": true}'),
    ("t.Scalars", '{"color": true}'),
    ("t.Scalars", '{"color": 1.5}'),
    ("t.Scalars", '{"color": " 1"}'),
    ("t.Scalars", '{"doubleV": " 1.5"}'),
    ("t.Scalars", '{"doubleV": "1_0"}'),
    ("t.Scalars", '{"doubleV": "inf"}'),
    ("t.Scalars", '{"doubleV": "1e400"}'),
    ("t.Scalars", '{"floatV": "1e39"}'),
    ("t.Scalars", '{"intV": "01"}'),
    ("t.Scalars", '{"intV": "+1"}'),
    ("t.Scalars", '{"intV": "1_0"}'),
    ("t.Scalars", '{"bytesV": "!!!!"}'),
    ("t.Scalars", '{"bytesV": "AA="}'),
    ("t.Known", '{"struct": {"a": NaN}}'),
    ("t.Known", '{"value": 1e400}'),
    ("t.Known", '{"timestamp": "2026-1-1T0:0:0Z"}'),
    ("t.Known", '{"timestamp": "2026-01-01T00:00:00.Z"}'),
    ("t.Known", '{"timestamp": "2026-01-01T00:00:00+99:00"}'),
    ("t.Known", '{"duration": "1.s"}'),
    ("t.Known", '{"duration": " 1s"}'),
    ("t.Known", '{"duration": "1.0000000001s"}'),
    ("t.Known", '{"any": {"@type": "x/google.protobuf.Duration", "value": "1s", "more": 1}}'),
    ("t.Choice", '{"number": 1, "value": null}'),
    ("t.Choice", '{"nothing": null, "text": "a"}'),
    ("t.Maps", '{"byInt": {"1": "a", "1.0": "b"}}'),
]


@pytest.mark.parametrize(("name", "text"), STRICTER)
def test_stricter_than_json_format(name: str, text: str) -> None:
    assert schema.oracle_parse(name, text.encode()) is not None
    assert ours(name, text.encode()) is None


def test_only_where_unknown_fields_are_ignored() -> None:
    body = b'{"nobody": 1e400}'
    assert schema.oracle_parse("t.Scalars", body, ignore=True) is not None
    assert ours("t.Scalars", body, ignore=True) is None


SAME = [
    ("t.Scalars", '{"intV": 1.0, "longV": "1e3", "ulongV": "18446744073709551615", "slongV": -9223372036854775808}'),
    ("t.Scalars", '{"doubleV": "-Infinity", "floatV": "NaN", "bytesV": "-_8", "color": "GREEN", "optColor": 77}'),
    ("t.Scalars", '{"color": "1", "int_v": null, "anotherName": "x", "optInt": 0}'),
    ("t.Scalars", '{"renamed": "x"}'),
    (
        "t.Lists",
        '{"values": [null, 1, {"a": [null]}], "colors": ["RED", 1], "wrapped": ["1"], "nulls": ["NULL_VALUE"]}',
    ),
    ("t.Maps", '{"byBool": {"true": false}, "byLong": {"-1": 1}, "values": {"a": null}, "byString": {"": "RED"}}'),
    ("t.Choice", '{"number": null, "text": "a"}'),
    ("t.Choice", '{"value": null}'),
    ("t.Choice", '{"nothing": null}'),
    ("t.Known", '{"any": {}, "value": null, "wInt64": null, "struct": {}, "list": [], "mask": "", "empty": {}}'),
    ("t.Known", '{"any": {"@type": "t.Scalars", "intV": 1}}'),
    (
        "t.Known",
        '{"any": {"@type": "a/b/google.protobuf.Any", "value": {"@type": "x/google.protobuf.Value", "value": null}}}',
    ),
    ("t.Known", '{"any": {"@type": "x/google.protobuf.Int64Value", "value": "5"}}'),
    ("t.Known", '{"timestamp": "2026-01-31T12:00:00.123456789+05:30", "duration": "-0.5s", "mask": "aB.cD,e"}'),
    ("t2.Old", '{"part": {"innerText": "a"}, "[t2.extra_number]": "5", "[t2.extra_list]": ["a"], "closed": 2}'),
    ("t2.Old", '{"[t2.extra_message]": {"must": 1}, "list": ["ONE", 2], "[t2.extra_number]": null}'),
    ("t3.New", '{"explicitV": 0, "implicitV": 0, "delimited": {"shut": "SHUT_ONE"}}'),
]


@pytest.mark.parametrize(("name", "text"), SAME)
def test_accepted_by_both(name: str, text: str) -> None:
    theirs = schema.oracle_parse(name, text.encode())
    assert theirs is not None
    mine = ours(name, text.encode())
    assert mine is not None
    assert schema.wire(mine) == schema.wire(theirs)


REFUSED = [
    ("t.Scalars", "null"),
    ("t.Scalars", "{} {}"),
    ("t.Scalars", "\ufeff{}"),
    ("t.Scalars", '{"intV": 1, "intV": 1}'),
    ("t.Scalars", '{"intV": true}'),
    ("t.Scalars", '{"intV": 2147483648}'),
    ("t.Scalars", '{"uintV": -1}'),
    ("t.Scalars", '{"ulongV": 18446744073709551616}'),
    ("t.Scalars", '{"doubleV": 1e400}'),
    ("t.Scalars", '{"floatV": 1e39}'),
    ("t.Scalars", '{"doubleV": "nan"}'),
    ("t.Scalars", '{"boolV": "true"}'),
    ("t.Scalars", '{"stringV": 1}'),
    ("t.Scalars", '{"stringV": "\\ud800"}'),
    ("t.Scalars", '{"bytesV": "A"}'),
    ("t.Scalars", '{"color": "red"}'),
    ("t.Scalars", '{"nobody": 1}'),
    ("t.Lists", '{"ints": [null]}'),
    ("t.Lists", '{"messages": [null]}'),
    ("t.Lists", '{"values": null}'),
    ("t.Lists", '{"nulls": null}'),
    ("t.Lists", '{"ints": 1}'),
    ("t.Maps", '{"byBool": {"1": true}}'),
    ("t.Maps", '{"messages": {"a": null}}'),
    ("t.Maps", '{"nulls": {"a": null}}'),
    ("t.Choice", '{"number": 1, "text": "a"}'),
    ("t.Known", '{"any": {"intV": 1}}'),
    ("t.Known", '{"any": {"@type": "x/no.Body"}}'),
    ("t.Known", '{"any": {"@type": "x/t2.Strict"}}'),
    ("t.Known", '{"duration": "1h"}'),
    ("t.Known", '{"duration": "315576000001s"}'),
    ("t.Known", '{"timestamp": "0000-01-01T00:00:00Z"}'),
    ("t.Known", '{"mask": "a_b"}'),
    ("t2.Old", '{"closed": 3}'),
    ("t2.Old", '{"[t2.nobody]": 3}'),
    ("t3.New", '{"shut": 0}'),
]


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_refused_by_both(name: str, text: str) -> None:
    assert schema.oracle_parse(name, text.encode()) is None
    assert ours(name, text.encode()) is None


def test_unknown_names_are_dropped_by_option() -> None:
    for name, text in [
        ("t.Scalars", '{"nobody": {"a": [1]}, "intV": 1, "color": "BLUE"}'),
        ("t.Lists", '{"colors": ["RED", "BLUE"]}'),
        ("t.Maps", '{"byString": {"a": "BLUE", "b": "RED"}}'),
    ]:
        theirs = schema.oracle_parse(name, text.encode(), ignore=True)
        assert theirs is not None
        assert schema.wire(ours(name, text.encode(), ignore=True)) == schema.wire(theirs)


def test_a_dropped_member_counts_for_its_oneof_and_an_unknown_any_is_refused() -> None:
    for name, body in [
        ("t.Choice", b'{"color": "BLUE", "number": 1}'),
        ("t.Known", b'{"any": {"@type": "x/no.Body"}}'),
    ]:
        assert schema.oracle_parse(name, body, ignore=True) is None
        assert ours(name, body, ignore=True) is None


def test_decoders_are_compiled_once() -> None:
    kind = schema.descriptor("t.Scalars")
    assert codec().decoder(kind) is codec().decoder(kind)
    assert codec().encoder(kind) is codec().encoder(kind)
