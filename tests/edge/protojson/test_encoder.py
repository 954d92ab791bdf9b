from __future__ import annotations

from typing import Any

import orjson
import pytest

from fairlead_gateway.edge.protojson import Encoder, NotRepresentable, Options, ProtoJson
from tests.edge.protojson import schema


def encoder(name: str, options: Options | None = None) -> Encoder:
    return ProtoJson(schema.pool(), options).encoder(schema.descriptor(name))


def _broken() -> list[tuple[str, Any]]:
    known = [schema.new("t.Known") for _ in range(9)]
    made: list[Any] = known
    made[0].any.type_url = "x/no.Body"
    made[1].any.type_url, made[1].any.value = "x/t.Scalars", b"\xff"
    made[2].any.value = b"x"
    made[3].timestamp.nanos = -1
    made[4].timestamp.seconds = 10**12
    made[5].duration.seconds, made[5].duration.nanos = 1, -1
    made[6].mask.paths.append("aB")
    made[7].mask.paths.append("a_1")
    made[8].struct.fields["a"].number_value = float("nan")
    return [(f"case {number}", message) for number, message in enumerate(made)]


@pytest.mark.parametrize("number", range(9))
def test_what_has_no_json(number: int) -> None:
    _, message = _broken()[number]
    with pytest.raises(Exception):  # noqa: B017 - json_format raises whatever comes
        schema.oracle_tree(message)
    with pytest.raises(NotRepresentable):
        encoder("t.Known").dump(message)


def test_too_deep_is_an_error_and_no_crash() -> None:
    message: Any = schema.new("t.Tree")
    inner = message
    for _ in range(5000):
        inner = inner.left
        inner.SetInParent()
    with pytest.raises(NotRepresentable):
        encoder("t.Tree").dump(message)


def test_payloads() -> None:
    message = schema.new("t.Scalars", int_v=1, long_v=2)
    assert encoder("t.Scalars").transcoded(message.SerializeToString()) == b'{"intV":1,"longV":"2"}'
    with pytest.raises(NotRepresentable):
        encoder("t.Scalars").transcoded(b"\xff")


def test_one_field_alone() -> None:
    lists = encoder("t.Lists")
    message = schema.new("t.Lists", longs=[1, 2])
    assert lists.dump_field(message, "longs") == b'["1","2"]'
    assert lists.dump_field(message, "messages") == b"[]"
    assert encoder("t.Known").dump_field(schema.new("t.Known"), "timestamp") == b"null"
    assert encoder("t.Scalars").dump_field(schema.new("t.Scalars"), "color") == b'"COLOR_NONE"'
    with pytest.raises(KeyError):
        lists.dump_field(message, "nobody")


def test_extensions() -> None:
    old: Any = schema.new("t2.Old", number=1)
    pool = schema.pool()
    old.Extensions[pool.FindExtensionByName("t2.extra_number")] = 5
    old.Extensions[pool.FindExtensionByName("t2.extra_list")].append("a")
    assert orjson.loads(encoder("t2.Old").dump(old)) == schema.oracle_tree(old)


def test_defaults_of_every_message_are_lists_of_their_own() -> None:
    lists = encoder("t.Lists", Options(emit_defaults=True))
    first = lists.tree(schema.new("t.Lists"))
    first["ints"].append(1)
    assert lists.tree(schema.new("t.Lists"))["ints"] == []
