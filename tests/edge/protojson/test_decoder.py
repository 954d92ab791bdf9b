from __future__ import annotations

from typing import Any

import pytest

from fairlead_gateway.edge.protojson import Decoder, JsonRefused, ProtoJson
from tests.edge.protojson import schema


def decoder(name: str) -> Decoder:
    return ProtoJson(schema.pool()).decoder(schema.descriptor(name))


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("t.Scalars", '{"intV": "x"}', "intV"),
        ("t.Scalars", '{"intV": 99999999999}', "intV"),
        ("t.Lists", '{"ints": [1, 99999999999]}', "ints[1]"),
        ("t.Lists", '{"messages": [{}, {"stringV": 1}]}', "messages[1].stringV"),
        ("t.Maps", '{"messages": {"k": {"color": "?"}}}', 'messages["k"].color'),
        ("t.Maps", '{"byBool": {"x": true}}', 'byBool["x"]'),
        ("t.Tree", '{"left": {"children": [{"named": {"a": 1}}]}}', 'left.children[0].named["a"]'),
        ("t.Known", '{"any": {"@type": "x/google.protobuf.Duration", "value": 1}}', "any.value"),
        ("t.Known", '{"anys": [{"@type": "x/t.Scalars", "intV": []}]}', "anys[0].intV"),
        ("t.Known", '{"timestamp": 1}', "timestamp"),
        ("t.Choice", '{"number": 1, "text": ""}', "text"),
        ("t.Scalars", "[]", ""),
    ],
)
def test_errors_name_the_path(name: str, body: str, path: str) -> None:
    with pytest.raises(JsonRefused) as caught:
        decoder(name).parse(body)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: " if path else "must be")


def test_long_names_are_cut() -> None:
    with pytest.raises(JsonRefused) as caught:
        decoder("t.Scalars").parse('{"' + "x" * 10_000 + '": 1}')
    assert len(str(caught.value)) < 200


def _nested(levels: int, around: str = '{"left": ') -> bytes:
    return (around * (levels - 1) + "{}" + "}" * (levels - 1)).encode()


@pytest.mark.parametrize("levels", [99, 100, 101, 102])
def test_the_depth_is_that_of_json_format(levels: int) -> None:
    theirs = schema.oracle_parse("t.Tree", _nested(levels))
    try:
        mine: Any = decoder("t.Tree").parse(_nested(levels))
    except JsonRefused:
        mine = None
    assert (mine is None) == (theirs is None) == (levels > 100)


@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_the_depth_within_a_value_is_that_of_json_format(opening: str) -> None:
    closing = "}" if opening[0] == "{" else "]"
    for levels in range(47, 53):
        body = f'{{"value": {opening * levels}1{closing * levels}}}'.encode()
        theirs = schema.oracle_parse("t.Known", body)
        try:
            mine: Any = decoder("t.Known").parse(body)
        except JsonRefused:
            mine = None
        assert (mine is None) == (theirs is None), levels


def test_the_depth_within_any_is_that_of_json_format() -> None:
    for levels in (97, 98, 99, 100, 101):
        inner = '{"@type": "x/google.protobuf.Any", "value": ' * levels + "{}" + "}" * levels
        body = f'{{"any": {inner}}}'.encode()
        theirs = schema.oracle_parse("t.Known", body)
        try:
            mine: Any = decoder("t.Known").parse(body)
        except JsonRefused:
            mine = None
        assert (mine is None) == (theirs is None), levels


def test_required_fields_are_asked_for_when_serialized() -> None:
    assert decoder("t2.Strict").serialized('{"must": 5}') == b"\x08\x05"
    assert not decoder("t2.Strict").parse("{}").IsInitialized()
    with pytest.raises(JsonRefused, match="required"):
        decoder("t2.Strict").serialized("{}")


def test_trees_that_did_not_come_from_json_are_checked_too() -> None:
    for tree in [{"stringV": "\ud800"}, {"stringV": b"x"}, {1: 2}, {"floatV": 10**400}]:
        with pytest.raises(JsonRefused):
            decoder("t.Scalars").message(tree)
